#!/usr/bin/python3
"""Components by XEP-0225: TLS, SASL with each mechanism, several host names on one stream, and beside them one of XEP-0114."""
import base64
import hashlib
import hmac
import os
import socket
import unittest

from lab import CLIENT, SASL, SM, STREAM, Case, Jackdaw, Peer, Prosody, free_port, until
from test_component import Component

BIND = "urn:xmpp:component:0"
SECRET = "one party - one secret"


class Bound(Peer):
    """A component's stream, step by step."""

    def __init__(self, jackdaw, domain):
        super().__init__(socket.create_connection(("127.0.0.1", jackdaw.component_port)))
        self.domain, self.server = domain, jackdaw.domain
        self.open()

    def open(self):
        self.send(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' from='{self.domain}' to='{self.server}' version='1.0'>")
        self.features = self.expect(f"{{{STREAM}}}features")
        return self

    def mechanisms(self):
        m = self.features.find(f"{{{SASL}}}mechanisms")
        return [] if m is None else [x.text for x in m]

    def tls(self, certificate=None):
        self.start_tls(self.server, certificate)
        return self.open()

    def auth(self, mechanism, data):
        self.send(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{base64.b64encode(data).decode() or '='}</auth>")
        return self.expect(lambda e: e.tag.startswith(f"{{{SASL}}}"))

    def scram(self, secret=SECRET, hash="sha256", mechanism="SCRAM-SHA-256"):
        first = f"n={self.domain},r={os.urandom(8).hex()}"
        challenge = base64.b64decode(self.auth(mechanism, f"n,,{first}".encode()).text).decode()
        fields = dict(f.split("=", 1) for f in challenge.split(","))
        salted = hashlib.pbkdf2_hmac(hash, secret.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        key = hmac.new(salted, b"Client Key", hash).digest()
        final = f"c=biws,r={fields['r']}"
        signature = hmac.new(hashlib.new(hash, key).digest(), f"{first},{challenge},{final}".encode(), hash).digest()
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.send(f"<response xmlns='{SASL}'>{base64.b64encode(f'{final},p={proof}'.encode()).decode()}</response>")
        return self.expect(lambda e: e.tag.startswith(f"{{{SASL}}}"))

    def logged_in(self):
        self.restart()
        self.open()
        assert self.features.find(f"{{{BIND}}}bind/{{{BIND}}}required") is not None
        return self

    def request(self, what, host, id="b"):
        self.send(f"<iq type='set' id='{id}'><{what} xmlns='{BIND}'>" + (f"<hostname>{host}</hostname>" if host else "") + f"</{what}></iq>")
        return self.expect(lambda e: e.tag == f"{{{CLIENT}}}iq" and e.get("id") == id)

    def bind(self, host):
        e = self.request("bind", host)
        assert e.get("type") == "result" and e.findtext(f"{{{BIND}}}bind/{{{BIND}}}hostname") == host
        return self

    def got(self, body):
        return self.expect(lambda e: e.tag == f"{{{CLIENT}}}message" and e.findtext(f"{{{CLIENT}}}body") == body, body)


class ComponentBind(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab")
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=1, s2s__components=f"chat.jackdaw.lab={SECRET},foo.jackdaw.lab={SECRET},other.jackdaw.lab=another")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        for name in ("chat", "foo", "other"):
            lab.serve(f"{name}.jackdaw.lab", cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.start_dns()
        cls.jackdaw.add("juliet")
        cls.prosody.add("romeo")

    def connect(self, domain="chat.jackdaw.lab"):
        c = Bound(self.jackdaw, domain)
        self.addCleanup(c.close)
        return c

    def ready(self, domain="chat.jackdaw.lab"):
        c = self.connect(domain)
        self.assertEqual(c.scram(SECRET).tag, f"{{{SASL}}}success")
        return c.logged_in()

    def client(self):
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        return j

    def condition(self, e):
        self.assertEqual(e.get("type"), "error")
        return e.find(f"{{{CLIENT}}}error")[0].tag.partition("}")[2]

    def test_several_hosts_on_one_stream(self):
        c, j = self.ready().bind("chat.jackdaw.lab").bind("foo.jackdaw.lab"), self.client()
        r = self.prosody.client("romeo")
        self.addCleanup(r.close)
        j.message("x@chat.jackdaw.lab", "to chat")
        j.message("y@foo.jackdaw.lab", "to foo")
        r.message("z@foo.jackdaw.lab", "from another server")
        for body in ("to chat", "to foo", "from another server"):
            c.got(body)
        c.send("<message from='x@chat.jackdaw.lab/1' to='juliet@jackdaw.lab' type='chat'><body>as chat</body></message>")
        c.send("<message from='y@foo.jackdaw.lab/1' to='juliet@jackdaw.lab' type='chat'><body>as foo</body></message>")
        c.send("<message from='y@foo.jackdaw.lab/1' to='romeo@prosody.lab' type='chat'><body>over the border</body></message>")
        j.got("as chat", "x@chat.jackdaw.lab/1")
        j.got("as foo", "y@foo.jackdaw.lab/1")
        r.got("over the border", "y@foo.jackdaw.lab/1")

    def test_unbind(self):
        c, j = self.ready().bind("chat.jackdaw.lab").bind("foo.jackdaw.lab"), self.client()
        e = c.request("unbind", "foo.jackdaw.lab")
        self.assertEqual((e.get("type"), len(e)), ("result", 0))
        j.message("y@foo.jackdaw.lab", "nobody", "gone")
        j.message("x@chat.jackdaw.lab", "still")
        c.got("still")
        j.error("service-unavailable", "gone", 30)
        self.assertEqual(self.condition(c.request("unbind", "foo.jackdaw.lab")), "item-not-found")
        c.send("<message from='y@foo.jackdaw.lab/1' to='juliet@jackdaw.lab'><body>x</body></message>")
        c.stream_error("invalid-from")

    def test_what_cannot_be_bound(self):
        c = self.ready().bind("chat.jackdaw.lab")
        self.assertEqual(self.condition(c.request("bind", "chat.jackdaw.lab")), "conflict")
        self.assertEqual(self.condition(c.request("bind", "other.jackdaw.lab")), "not-allowed")
        self.assertEqual(self.condition(c.request("bind", "jackdaw.lab")), "not-allowed")
        self.assertEqual(self.condition(c.request("bind", "nobody.lab")), "not-allowed")
        self.assertEqual(self.condition(c.request("bind", "")), "bad-request")
        c.bind("foo.jackdaw.lab/one")

    def test_two_streams_of_one_component(self):
        """The second takes over when the first goes; what the first had not acknowledged comes again."""
        j = self.client()
        streams = [self.ready().bind("foo.jackdaw.lab") for _ in range(2)]
        for c in streams:
            c.send(f"<enable xmlns='{SM}'/>")
            c.expect(f"{{{SM}}}enabled")
        j.message("y@foo.jackdaw.lab", "first")
        until(lambda: any(c.quiet(0.1) or c.elements for c in streams), "nobody got it")
        first = next(c for c in streams if any(e.tag.endswith("}message") for e in c.elements))
        other = next(c for c in streams if c is not first)
        first.close()
        other.got("first")
        j.message("y@foo.jackdaw.lab", "second")
        other.got("second")

    def test_beside_the_old_protocol(self):
        old = Component(self.jackdaw.component_port, "other.jackdaw.lab", "another").ready()
        self.addCleanup(old.close)
        c, j = self.ready().bind("chat.jackdaw.lab"), self.client()
        j.message("o@other.jackdaw.lab", "old")
        old.message("old")
        old.send("<message from='o@other.jackdaw.lab' to='x@chat.jackdaw.lab'><body>component to component</body></message>")
        c.got("component to component")

    def test_mechanisms(self):
        self.assertEqual(self.connect().mechanisms(), ["SCRAM-SHA-256", "SCRAM-SHA-1"])
        self.assertEqual(self.connect().scram(SECRET, "sha1", "SCRAM-SHA-1").tag, f"{{{SASL}}}success")
        c = self.connect().tls()
        self.assertEqual(c.mechanisms(), ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
        self.assertEqual(c.auth("PLAIN", f"\0chat.jackdaw.lab\0{SECRET}".encode()).tag, f"{{{SASL}}}success")
        c.logged_in().bind("chat.jackdaw.lab")
        certificate = self.lab.certificate("chat", ["chat.jackdaw.lab"])
        c = self.connect().tls(certificate)
        self.assertIn("EXTERNAL", c.mechanisms())
        self.assertEqual(c.auth("EXTERNAL", b"").tag, f"{{{SASL}}}success")
        c.logged_in().bind("foo.jackdaw.lab")

    def test_wrong_secrets(self):
        c = self.connect()
        for _ in range(2):
            self.assertEqual(c.scram("guess")[0].tag, f"{{{SASL}}}not-authorized")
        self.assertEqual(c.auth("PLAIN", b"\0chat.jackdaw.lab\0x")[0].tag, f"{{{SASL}}}invalid-mechanism")
        c.stream_error("policy-violation")
        self.assertEqual(self.connect("nobody.jackdaw.lab").scram(SECRET)[0].tag, f"{{{SASL}}}not-authorized")
        self.assertGreaterEqual(self.jackdaw.stats('jackdaw_s2s_refused_total{reason="component-secret"}'), 4)

    def test_nothing_before_login(self):
        for what in ("<message from='x@chat.jackdaw.lab' to='juliet@jackdaw.lab'><body>x</body></message>",
                     f"<iq type='set' id='b' from='chat.jackdaw.lab' to='jackdaw.lab'><bind xmlns='{BIND}'><hostname>chat.jackdaw.lab</hostname></bind></iq>"):
            c = self.connect()
            c.send(what)
            c.stream_error("not-authorized")

    def test_stream_management_counts_binding(self):
        c = self.ready()
        c.send(f"<enable xmlns='{SM}'/>")
        c.expect(f"{{{SM}}}enabled")
        c.bind("chat.jackdaw.lab")
        c.send(f"<r xmlns='{SM}'/>")
        self.assertEqual(c.expect(f"{{{SM}}}a").get("h"), "1")
        c.expect(f"{{{SM}}}r")
        c.send(f"<a xmlns='{SM}' h='1'/>")
        j = self.client()
        j.message("x@chat.jackdaw.lab", "counted")
        c.got("counted")


if __name__ == "__main__":
    unittest.main()
