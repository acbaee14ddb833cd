#!/usr/bin/python3
"""External components (XEP-0114): one written with slixmpp in two instances, one that speaks by hand and badly,
reached from local users through either s2s process and from another server."""
import hashlib
import pathlib
import socket
import time
import unittest

from lab import CLIENT, SM, STREAM, Case, Jackdaw, Peer, Prosody, free_port, until

COMPONENT = "jabber:component:accept"
HERE = pathlib.Path(__file__).resolve().parent
USERS = [f"u{i}" for i in range(12)]


class Component(Peer):
    def __init__(self, port, domain, secret):
        super().__init__(socket.create_connection(("127.0.0.1", port)))
        self.send(f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAM}' to='{domain}'>")
        head = self.wait_header()
        assert head.get("from") == domain and head.get("version") is None, head.attrib
        digest = hashlib.sha1((head.get("id") + secret).encode()).hexdigest()
        self.send(f"<handshake>{digest}</handshake>")

    def ready(self):
        self.expect(f"{{{COMPONENT}}}handshake")
        return self

    def message(self, body, limit_s=20):
        return self.expect(lambda e: e.tag == f"{{{COMPONENT}}}message" and e.findtext(f"{{{COMPONENT}}}body") == body, body, limit_s)


class Components(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab")
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=2, s2s__components="echo.jackdaw.lab=tell no one,raw.jackdaw.lab=rawsecret,never.jackdaw.lab=x")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        for name in ("echo", "raw", "never"):
            lab.serve(f"{name}.jackdaw.lab", cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.start_dns()
        for user in ("juliet", *USERS):
            cls.jackdaw.add(user)
        cls.prosody.add("romeo")

    def client(self, user):
        c = self.jackdaw.client(user)
        self.addCleanup(c.close)
        return c

    def raw(self, domain="raw.jackdaw.lab", secret="rawsecret"):
        c = Component(self.jackdaw.component_port, domain, secret)
        self.addCleanup(c.close)
        return c

    def echo(self, name):
        p = self.lab.process(["/usr/bin/python3", HERE / "echo.py", "echo.jackdaw.lab", "tell no one", self.jackdaw.component_port, name], name)
        self.addCleanup(self.lab.stop_process, p)
        until(lambda: "connected" in (self.lab.dir / f"{name}.out").read_text(), f"{name} does not connect")
        return p

    def ask(self, client, body, tries=40):
        """Which instance answers; errors while the two s2s processes have not heard of a new instance are asked again."""
        for i in range(tries):
            client.message("echo.jackdaw.lab", f"{body} {i}", f"{body}{i}")
            e = client.expect(lambda e: e.tag.endswith("message") and (e.get("id") == f"{body}{i}" or (e.findtext(f"{{{CLIENT}}}body") or "").endswith(f": {body} {i}")))
            if e.get("type") != "error":
                return e.findtext(f"{{{CLIENT}}}body").split(":")[0]
            time.sleep(0.25)
        raise AssertionError("only errors")

    def test_1_never_connected(self):
        j = self.client("juliet")
        j.message("x@never.jackdaw.lab", "hi", "n")
        j.error("service-unavailable", "n")

    def test_2_two_instances_share_the_users_and_take_over(self):
        one, two = self.echo("one"), self.echo("two")
        clients = {user: self.client(user) for user in USERS}
        time.sleep(0.7)  # the processes tell each other
        before = {user: self.ask(c, "first") for user, c in clients.items()}
        self.assertEqual({user: self.ask(c, "again") for user, c in clients.items()}, before, "a user's stanzas keep to one connection")
        self.assertEqual(set(before.values()), {"one", "two"})
        one.kill()
        one.wait()
        after = {user: self.ask(c, "later") for user, c in clients.items()}
        self.assertEqual(set(after.values()), {"two"})
        for user in USERS:
            if before[user] == "two":
                self.assertEqual(after[user], "two")

    def test_3_from_another_server(self):
        self.echo("three")
        r = self.prosody.client("romeo")
        self.addCleanup(r.close)
        time.sleep(0.7)
        r.message("anybody@echo.jackdaw.lab", "over the border")
        r.got("three: over the border", "anybody@echo.jackdaw.lab")

    def test_4_gone(self):
        j = self.client("juliet")
        c = self.raw().ready()
        time.sleep(0.7)
        j.message("x@raw.jackdaw.lab", "one")
        c.message("one")
        c.send("</stream:stream>")
        c.close()
        j.message("x@raw.jackdaw.lab", "two", "gone")
        j.error("service-unavailable", "gone", 30)

    def test_5_comes_back_soon(self):
        """What is sent while a component restarts waits for it, and none is lost."""
        j = self.client("juliet")
        c = self.raw().ready()
        time.sleep(0.7)
        j.message("x@raw.jackdaw.lab", "one")
        c.message("one")
        c.close()
        time.sleep(0.3)
        j.message("x@raw.jackdaw.lab", "two")
        c = self.raw().ready()
        c.message("two")

    def test_6_wrong_secret_and_unknown_names(self):
        self.raw(secret="guess").stream_error("not-authorized")
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.component_port)))
        self.addCleanup(p.close)
        p.send(f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAM}' to='jackdaw.lab'>")
        p.stream_error("host-unknown")
        self.assertGreaterEqual(self.jackdaw.stats('jackdaw_s2s_refused_total{reason="component-secret"}'), 1)

    def test_7_no_stanza_before_the_handshake(self):
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.component_port)))
        self.addCleanup(p.close)
        p.send(f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAM}' to='raw.jackdaw.lab'>")
        p.wait_header()
        p.send("<message from='x@raw.jackdaw.lab' to='juliet@jackdaw.lab'><body>x</body></message>")
        p.stream_error("not-authorized")

    def test_8_another_from(self):
        c = self.raw().ready()
        c.send("<message from='juliet@jackdaw.lab' to='romeo@prosody.lab'><body>x</body></message>")
        c.stream_error("invalid-from")

    def test_8_malformed_costs_its_stanza(self):
        c = self.raw().ready()
        j = self.client("juliet")
        for nick in (" lead", "\u3164", "\u1160", "\u00a0", "a\ufe0f", "a\u200d", "\u200b", "\u00ad"):
            c.send(f"<message from='x@raw.jackdaw.lab/{nick}' to='juliet@jackdaw.lab' id='m'><body>x</body></message>")
            e = c.expect(lambda e: e.get("id") == "m", f"no answer for {nick!r}")
            self.assertEqual((e.get("type"), e.get("to"), e.get("from")), ("error", f"x@raw.jackdaw.lab/{nick}", "juliet@jackdaw.lab"))
            self.assertIsNotNone(e.find(".//{urn:ietf:params:xml:ns:xmpp-stanzas}jid-malformed"))
            for kind, more in (("message", "type='error'"), ("message", "type='groupchat'"), ("presence", ""), ("iq", "type='result' id='r'")):
                c.send(f"<{kind} from='x@raw.jackdaw.lab/{nick}' to='juliet@jackdaw.lab' {more}/>")
        c.send("<presence from='' to='juliet@jackdaw.lab'/><presence from='raw.jackdaw.lab' to=''/>")
        c.send("<message from='a@raw.jackdaw.lab' to='juliet@jackdaw.lab' type='' id=''><body>after it</body></message>")
        self.assertIsNone(j.got("after it").get("id"))
        self.assertFalse([e.tag for e in c.elements if e.get("type") == "error" and e.find(".//{urn:ietf:params:xml:ns:xmpp-stanzas}jid-malformed") is not None
                          and e.get("from") == "juliet@jackdaw.lab"])

    def test_8_prefix_free(self):
        """A header without a default content namespace (RFC 6120 4.8.2)."""
        c = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.component_port)))
        self.addCleanup(c.close)
        c.send(f"<stream xmlns='{STREAM}' to='raw.jackdaw.lab'>")
        digest = hashlib.sha1((c.wait_header().get("id") + "rawsecret").encode()).hexdigest()
        c.send(f"<handshake xmlns='{COMPONENT}'>{digest}</handshake>")
        c.expect(f"{{{COMPONENT}}}handshake")
        j = self.client("juliet")
        c.send(f"<message xmlns='{COMPONENT}' from='a@raw.jackdaw.lab' to='juliet@jackdaw.lab'><body>prefix-free</body></message>")
        j.got("prefix-free")

    def test_9_to_users_servers_and_with_stream_management(self):
        j = self.client("juliet")
        r = self.prosody.client("romeo")
        self.addCleanup(r.close)
        c = self.raw().ready()
        c.send(f"<enable xmlns='{SM}'/>")
        c.expect(f"{{{SM}}}enabled")
        c.send("<message from='bot@raw.jackdaw.lab/1' to='juliet@jackdaw.lab' type='chat'><body>in</body></message>")
        c.send("<message from='bot@raw.jackdaw.lab/1' to='romeo@prosody.lab' type='chat'><body>out</body></message>")
        j.got("in", "bot@raw.jackdaw.lab/1")
        r.got("out", "bot@raw.jackdaw.lab/1")
        until(lambda: c.send(f"<r xmlns='{SM}'/>") or c.expect(f"{{{SM}}}a").get("h") == "2", "not all acknowledged")
        c.send("<iq from='bot@raw.jackdaw.lab' to='jackdaw.lab' type='get' id='v'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        self.assertEqual(c.expect(lambda e: e.get("id") == "v").get("type"), "result")


if __name__ == "__main__":
    unittest.main()
