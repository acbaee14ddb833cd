"""Clients that are libraries, behind one face, so that each can talk with each: start, send, subscribe, approve,
presence, roster, stop; what arrives is kept and waited for with expect.

An event is a tuple: ("message", from, body), ("presence", from, show or "unavailable"), ("subscribe", from)."""
import asyncio
import json
import logging

import aioxmpp
import aioxmpp.connector
import aioxmpp.dispatcher
import slixmpp

from harness import CLIENTS, DOMAIN, PASSWORD, WAIT_S, Program

# Both libraries leave tasks behind when they end, and say at length what the tests expect.
for name in ("asyncio", "aioxmpp", "slixmpp"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


class Person:
    password = PASSWORD

    def __init__(self, cluster, jid, c2s, resource):
        self.cluster = cluster
        self.jid = jid
        self.c2s = c2s
        self.resource = resource
        self.full = f"{jid}/{resource}"
        self.port = cluster.port(c2s)
        self.events = []
        self.changed = asyncio.Condition()

    def note(self, *event):
        self.events.append(event)
        asyncio.ensure_future(self.wake())

    async def wake(self):
        async with self.changed:
            self.changed.notify_all()

    async def until(self, look, what):
        """Waits until look() finds what in the events."""
        async with self.changed:
            try:
                return await asyncio.wait_for(self.changed.wait_for(look), WAIT_S)
            except asyncio.TimeoutError:
                raise AssertionError(f"{self.full} waited in vain for {what}; it has {self.events}") from None

    async def expect(self, *event):
        """Waits until the event has happened; an event is expected once."""

        def take():
            if event not in self.events:
                return False
            self.events.remove(event)
            return True

        await self.until(take, event)

    async def expect_available(self, jid):
        """The full JID under which somebody has come online."""

        def look():
            return next((e[1] for e in self.events if e[0] == "presence" and e[1].startswith(f"{jid}/") and e[2] == "available"), None)

        full = await self.until(look, f"presence of {jid}")
        await self.expect("presence", full, "available")
        return full

    def messages(self):
        return [e for e in self.events if e[0] == "message"]


class Slix(Person):
    """slixmpp. Its auto_authorize and auto_subscribe are off: the tests say who approves whom and when."""

    def __init__(self, cluster, jid, c2s, resource="slixmpp", direct_tls=False, mechanism=None, presence=True):
        super().__init__(cluster, jid, c2s, resource)
        self.direct_tls = direct_tls
        self.presence = presence
        x = self.x = slixmpp.ClientXMPP(self.full, self.password)
        if mechanism is not None:
            x.plugin["feature_mechanisms"].use_mech = mechanism
        x.ca_certs = str(cluster.certificate)
        x.auto_reconnect = False
        x.roster.auto_authorize = None
        x.roster.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0092", "xep_0198", "xep_0199", "xep_0202"):
            x.register_plugin(plugin)
        self.ready = asyncio.get_running_loop().create_future()
        x.add_event_handler("session_start", self.on_start)
        x.add_event_handler("failed_all_auth", lambda _: self.ready.set_exception(PermissionError("login refused")))
        x.add_event_handler("message", self.on_message)
        x.add_event_handler("presence", self.on_presence)

    async def on_start(self, _):
        await self.x.get_roster()
        if self.presence:
            self.x.send_presence()
        if not self.ready.done():
            self.ready.set_result(True)

    def on_presence(self, p):
        if p["type"] == "subscribe":
            self.note("subscribe", p["from"].bare)
        elif p["type"] in ("available", "away", "unavailable"):  # the library's type has the show in it
            self.note("presence", p["from"].full, p["type"])

    def on_message(self, m):
        if m["type"] == "error":
            self.note("error", m["from"].full, m["error"]["condition"])
        elif m["body"]:
            self.note("message", m["from"].full, m["body"])

    async def start(self):
        port = self.cluster.direct_tls_port if self.direct_tls else self.port
        self.x.connect(("127.0.0.1", port), use_ssl=self.direct_tls)
        await asyncio.wait_for(self.ready, WAIT_S)
        return self

    async def send(self, to, body):
        self.x.send_message(mto=to, mbody=body, mtype="chat")

    async def show(self, show):
        self.x.send_presence(pshow=show)

    async def subscribe(self, jid):
        self.x.send_presence(pto=jid, ptype="subscribe")

    async def approve(self, jid):
        self.x.send_presence(pto=jid, ptype="subscribed")

    async def roster(self):
        # As the pushes have made it: asking anew would say "nothing has changed" (roster versioning).
        return {jid: self.x.client_roster[jid]["subscription"] for jid in self.x.client_roster.keys()}

    async def stop(self):
        if self.x.is_connected():
            await asyncio.wait_for(asyncio.shield(self.x.disconnect(wait=1.0)), WAIT_S)

    def cut(self):
        """Vanishes without a word."""
        self.x.abort()


class Aio(Person):
    """aioxmpp: SCRAM without channel binding, a certificate checked by OpenSSL's own rules."""

    def __init__(self, cluster, jid, c2s, resource="aioxmpp"):
        super().__init__(cluster, jid, c2s, resource)
        peer = ("127.0.0.1", self.port, aioxmpp.connector.STARTTLSConnector())
        self.client = aioxmpp.PresenceManagedClient(
            aioxmpp.JID.fromstr(self.full), aioxmpp.make_security_layer(self.password), override_peer=[peer], max_initial_attempts=1
        )
        dispatcher = self.client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        dispatcher.register_callback(None, None, self.on_message)
        self.contacts = self.client.summon(aioxmpp.RosterClient)
        self.contacts.on_subscribe.connect(lambda st: self.note("subscribe", str(st.from_.bare())))
        watch = self.client.summon(aioxmpp.PresenceClient)
        watch.on_available.connect(self.on_presence)
        watch.on_changed.connect(self.on_presence)
        watch.on_unavailable.connect(lambda jid, st: self.note("presence", str(jid), "unavailable"))

    def on_message(self, m):
        if m.body:
            self.note("message", str(m.from_), m.body.any())

    def on_presence(self, jid, stanza):
        show = stanza.show.value
        self.note("presence", str(jid), show if show is not None else "available")

    async def start(self):
        established = asyncio.get_running_loop().create_future()
        self.client.on_stream_established.connect(lambda: established.set_result(True) or True)
        self.client.on_failure.connect(lambda e: established.done() or established.set_exception(e))
        self.client.presence = aioxmpp.PresenceState(True)
        await asyncio.wait_for(established, WAIT_S)
        return self

    async def send(self, to, body):
        m = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(to))
        m.body[None] = body
        await asyncio.wait_for(self.client.send(m), WAIT_S)  # resolves when the server has acknowledged it (XEP-0198)

    async def show(self, show):
        self.client.presence = aioxmpp.PresenceState(True, aioxmpp.PresenceShow(show))

    async def subscribe(self, jid):
        self.contacts.subscribe(aioxmpp.JID.fromstr(jid))

    async def approve(self, jid):
        self.contacts.approve(aioxmpp.JID.fromstr(jid))

    async def roster(self):
        return {str(jid): item.subscription for jid, item in self.contacts.items.items()}

    async def stop(self):
        stopped = asyncio.get_running_loop().create_future()
        self.client.on_stopped.connect(lambda: stopped.set_result(True) or True)
        self.client.on_failure.connect(lambda e: stopped.done() or stopped.set_result(True))
        if self.client.running:
            self.client.stop()
            await asyncio.wait_for(stopped, WAIT_S)


class Node(Person):
    """@xmpp/client from npm, in a process of its own that speaks lines of JSON (node/person.mjs)."""

    def __init__(self, cluster, jid, c2s, resource="node"):
        super().__init__(cluster, jid, c2s, resource)
        self.rosters = asyncio.Queue()

    async def start(self):
        who = json.dumps({"jid": self.jid, "password": PASSWORD, "resource": self.resource, "port": self.port})
        self.program = await Program.start("node", CLIENTS / "node/person.mjs", who)
        self.reader = asyncio.ensure_future(self.follow())
        await self.expect("online")
        return self

    async def follow(self):
        at = 0
        while True:
            async with self.program.grown:
                await self.program.grown.wait_for(lambda: "\n" in self.program.text[at:])
            line, _, _ = self.program.text[at:].partition("\n")
            at += len(line) + 1
            event = json.loads(line)
            if event[0] == "roster":
                self.rosters.put_nowait(event[1])
            else:
                self.note(*event)

    def tell(self, *command):
        self.program.write(json.dumps(command))

    async def send(self, to, body):
        self.tell("send", to, body)

    async def show(self, show):
        self.tell("show", show)

    async def subscribe(self, jid):
        self.tell("presence", jid, "subscribe")

    async def approve(self, jid):
        self.tell("presence", jid, "subscribed")

    async def roster(self):
        self.tell("roster")
        return await asyncio.wait_for(self.rosters.get(), WAIT_S)

    async def stop(self):
        if self.program.process.returncode is None:
            self.tell("stop")
            await self.program.ended()
        self.reader.cancel()


async def befriend(a, b):
    """Each subscribes to the other and is approved; both see each other's presence and the roster says so."""
    for one, other in ((a, b), (b, a)):
        await one.subscribe(other.jid)
        await other.expect("subscribe", one.jid)
        await other.approve(one.jid)
        await one.expect("presence", other.full, "available")
    for one, other in ((a, b), (b, a)):
        await expect_roster(one, other.jid, "both")


async def expect_roster(person, jid, subscription):
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_S
    while (roster := await person.roster()).get(jid) != subscription:
        if loop.time() > deadline:
            raise AssertionError(f"{person.full}'s roster has {roster}, not {jid} with {subscription}")
        await asyncio.sleep(0.05)


async def find_homes(cluster, names):
    """Makes the accounts and logs each in alone, to see which router owns it: {jid: router}."""
    accounts = cluster.tmp / "accounts"
    jids = [f"{name}@{DOMAIN}" for name in names]
    accounts.write_text("".join(f"{jid} {PASSWORD}\n" for jid in jids))
    cluster.ctl("adduser", "--file", str(accounts))
    for jid in jids:
        before = cluster.opened()
        person = await Slix(cluster, jid, 1, "probe", direct_tls=True, mechanism="PLAIN", presence=False).start()
        await person.stop()
        after = cluster.opened()
        owners = [name for name in after if after[name] > before[name]]
        assert len(owners) == 1, f"{jid} was opened by {owners}"
        cluster.homes[jid] = owners[0]
    return cluster.homes
