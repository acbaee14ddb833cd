// One @xmpp/client over TCP with STARTTLS: commands come as lines of JSON on stdin, events leave so on stdout.
import { createInterface } from "node:readline";
import { client, xml } from "@xmpp/client";

const { jid, password, resource, port } = JSON.parse(process.argv[2]);
const [username, domain] = jid.split("@");
const timeout = 20_000; // ms for each step; by itself it gives up after 2 s, which a busy machine may take
const xmpp = client({ service: `xmpp://127.0.0.1:${port}`, domain, username, password, resource, timeout });
const tell = (...event) => process.stdout.write(JSON.stringify(event) + "\n");

xmpp.on("error", (error) => {
  tell("error", String(error));
  process.exit(1);
});
xmpp.on("online", async () => {
  await xmpp.send(xml("presence"));
  tell("online");
});
xmpp.on("stanza", (stanza) => {
  const { from, type } = stanza.attrs;
  if (stanza.is("message") && stanza.getChild("body")) tell("message", from, stanza.getChildText("body"));
  if (stanza.is("presence")) {
    if (type === "subscribe") tell("subscribe", from);
    else if (type === undefined) tell("presence", from, stanza.getChildText("show") ?? "available");
    else if (type === "unavailable") tell("presence", from, "unavailable");
  }
});

const commands = {
  send: (to, body) => xmpp.send(xml("message", { to, type: "chat" }, xml("body", {}, body))),
  show: (show) => xmpp.send(xml("presence", {}, xml("show", {}, show))),
  presence: (to, type) => xmpp.send(xml("presence", { to, type })),
  roster: async () => {
    const query = await xmpp.iqCaller.get(xml("query", "jabber:iq:roster"));
    const items = query.getChildren("item").map((item) => [item.attrs.jid, item.attrs.subscription]);
    tell("roster", Object.fromEntries(items));
  },
  stop: async () => {
    await xmpp.stop();
    process.exit(0);
  },
};
createInterface({ input: process.stdin }).on("line", async (line) => {
  const [name, ...args] = JSON.parse(line);
  await commands[name](...args);
});
await xmpp.start();
