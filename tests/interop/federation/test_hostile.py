#!/usr/bin/python3
"""Peers that lie, stall and flood: each gets its stream or stanza error, and is counted by its reason."""
import base64
import hashlib
import hmac
import resource
import socket
import threading
import time
import unittest

from lab import CLIENT, DIALBACK, SASL, SERVER, SM, STREAM, TLS, Case, Jackdaw, Peer, free_port, until


def refused(reason):
    return f'jackdaw_s2s_refused_total{{reason="{reason}"}}'


def dialback_key(secret, receiving, originating, stream_id):
    key = hashlib.sha256(secret.encode()).hexdigest()
    return hmac.new(key.encode(), f"{receiving} {originating} {stream_id}".encode(), "sha256").hexdigest()


class FakeServer:
    """Accepts server streams and answers as told; `behave(peer)` runs for each connection, in a thread."""

    def __init__(self, behave, address=("127.0.0.1", 0)):
        self.behave = behave
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(address)
        self.sock.listen(16)
        self.port = self.sock.getsockname()[1]
        self.count = 0
        self.socks = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            self.count += 1
            self.socks.append(s)
            threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        peer = Peer(s)
        try:
            self.behave(peer)
        except (OSError, AssertionError):
            pass
        peer.close()  # the socket that TLS has put in the place of s

    def close(self):
        self.sock.close()
        for s in self.socks:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


def header(sender, to, id=None, version=True):
    return (f"<?xml version='1.0'?><stream:stream xmlns='{SERVER}' xmlns:stream='{STREAM}' xmlns:db='{DIALBACK}' from='{sender}' to='{to}'"
            + (f" id='{id}'" if id else "") + (" version='1.0'" if version else "") + ">")


class Hostile(Case):
    settings = {}

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s__connect_timeout_s=2, s2s__queue_timeout_s=4, s2s__ack_timeout_s=3,
                              s2s__connections_per_address=20, s2s__connection_rate_per_address=100000,
                              s2s__streams_per_domain=8, s2s__stanzas_per_second=500, s2s__block="blocked.lab", **cls.settings)
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        cls.auth = FakeServer(cls.authoritative)
        for name in ("good.lab", "evil.lab", "other.lab"):
            lab.serve(name, cls.auth.port)
        lab.certificate("good.lab", ["good.lab"])
        lab.certificate("expired", ["good.lab"], days=0)
        lab.certificate("selfsigned", ["good.lab"], self_signed=True)
        lab.certificate("wrong", ["other.lab"])
        lab.start_dns()
        cls.jackdaw.add("juliet")

    @classmethod
    def tearDownClass(cls):
        cls.auth.close()
        super().tearDownClass()

    @classmethod
    def authoritative(cls, peer):
        """good.lab's own server: knows its keys (made with "s"), speaks TLS with a certificate for nothing in particular."""
        head = peer.wait_header()
        to = head.get("to")
        cls.reply(peer, to, head.get("from"))
        peer.accept_tls(cls.lab.pair("selfsigned"))
        peer.wait_header()
        peer.send(header(to, "jackdaw.lab", "auth2") + "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>")
        while True:
            e = peer.expect(lambda e: e.tag.startswith(f"{{{DIALBACK}}}"), limit_s=60)
            if e.tag.endswith("verify"):
                good = e.text == dialback_key("s", e.get("from"), e.get("to"), e.get("id")) and e.get("to") == "good.lab"
                peer.send(f"<db:verify from='{e.get('to')}' to='{e.get('from')}' id='{e.get('id')}' type='{'valid' if good else 'invalid'}'/>")
            else:
                peer.send(f"<db:result from='{e.get('to')}' to='{e.get('from')}' type='valid'/>")

    @staticmethod
    def reply(peer, sender, to):
        peer.send(header(sender, to, "plain1") + f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>")

    # Streams to Jackdaw

    def clear(self, sender="good.lab", to="jackdaw.lab"):
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        p.send(header(sender, to))
        return p

    def tls(self, sender="good.lab", to="jackdaw.lab", certificate=None, features=True):
        p = self.clear(sender, to)
        p.expect(f"{{{STREAM}}}features")
        p.start_tls(certificate=certificate and self.lab.pair(certificate), authority=self.lab.ca)
        p.send(header(sender, to))
        if features:
            p.features = p.expect(f"{{{STREAM}}}features")
        return p

    def external(self, certificate="good.lab"):
        p = self.tls(certificate=certificate)
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>{base64.b64encode(b'good.lab').decode()}</auth>")
        p.expect(f"{{{SASL}}}success")
        p.restart()
        p.send(header("good.lab", "jackdaw.lab"))
        p.expect(f"{{{STREAM}}}features")
        return p

    def mechanisms(self, p):
        m = p.features.find(f"{{{SASL}}}mechanisms")
        return [] if m is None else [x.text for x in m]

    def counted(self, reason, action):
        before = self.jackdaw.stats(refused(reason))
        action()
        until(lambda: self.jackdaw.stats(refused(reason)) > before, f"not counted as {reason}")

    # Certificates

    def test_certificates_that_are_not_good_get_no_external(self):
        for name, reason in (("expired", "certificate-chain"), ("selfsigned", "certificate-chain"), ("wrong", "certificate-name"), (None, "no-certificate")):
            with self.subTest(name):
                def act():
                    p = self.tls(certificate=name)
                    self.assertEqual(self.mechanisms(p), [])
                    p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>")
                    self.assertEqual(p.expect(f"{{{SASL}}}failure")[0].tag, f"{{{SASL}}}not-authorized")
                self.counted(reason, act)

    def test_certificate_that_runs_out_on_the_way(self):
        """What a stream was proven by must stay valid (RFC 6120, 13.7.2.3): both directions end with an error."""
        self.lab.certificate("short.lab", ["good.lab", "short.lab"], seconds=6)
        figure = refused("certificate-expired")
        before = self.jackdaw.stats(figure)
        ended = []

        def behave(p):
            p.wait_header()
            self.reply(p, "short.lab", "jackdaw.lab")
            p.accept_tls(self.lab.pair("short.lab"))
            p.wait_header()
            p.send(header("short.lab", "jackdaw.lab", "x") + "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>")
            p.expect(f"{{{DIALBACK}}}result")
            p.send("<db:result from='short.lab' to='jackdaw.lab' type='valid'/>")
            p.expect(f"{{{SERVER}}}message")
            p.stream_error("reset")
            ended.append(True)

        self.outgoing("short.lab", behave)
        p = self.tls(certificate="short.lab")
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>")
        p.expect(f"{{{SASL}}}success")
        p.restart()
        p.send(header("good.lab", "jackdaw.lab"))
        p.expect(f"{{{STREAM}}}features")
        p.stream_error("reset")
        until(lambda: ended, "the outgoing stream goes on")
        self.assertEqual(self.jackdaw.stats(figure), before + 2)

    def test_external_for_another_name(self):
        p = self.tls(certificate="good.lab")
        self.assertEqual(self.mechanisms(p), ["EXTERNAL"])
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>{base64.b64encode(b'evil.lab').decode()}</auth>")
        self.assertEqual(p.expect(f"{{{SASL}}}failure")[0].tag, f"{{{SASL}}}invalid-authzid")
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>!!!</auth>")
        self.assertEqual(p.expect(f"{{{SASL}}}failure")[0].tag, f"{{{SASL}}}incorrect-encoding")
        p.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>")
        self.assertEqual(p.expect(f"{{{SASL}}}failure")[0].tag, f"{{{SASL}}}invalid-mechanism")
        p.stream_error("policy-violation")

    def test_another_name_after_external(self):
        p = self.tls(certificate="good.lab")
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>")
        p.expect(f"{{{SASL}}}success")
        p.restart()
        self.counted("other-domain-in-header", lambda: (p.send(header("evil.lab", "jackdaw.lab")), p.stream_error("invalid-from")))

    def test_session_survives_nothing_it_should_not(self):
        """A good stream, so that the refusals above mean something."""
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        p = self.external()
        p.send("<message from='romeo@good.lab/x' to='juliet@jackdaw.lab' type='chat'><body>good</body></message>")
        j.got("good", "romeo@good.lab/x")

    # Stanzas

    def test_no_stanza_before_authentication(self):
        for p in (self.tls(), self.clear()):
            def act():
                p.expect(f"{{{STREAM}}}features") if p.sock.__class__ is socket.socket else None
                p.send("<message from='romeo@good.lab' to='juliet@jackdaw.lab'><body>x</body></message>")
                p.stream_error("not-authorized")
            self.counted("before-authentication", act)

    def test_spoofed_from(self):
        p = self.external()
        self.counted("invalid-from", lambda: (
            p.send("<message from='romeo@evil.lab' to='juliet@jackdaw.lab'><body>spoof</body></message>"), p.stream_error("invalid-from")))

    def test_spoofed_own_domain(self):
        p = self.external()
        self.counted("invalid-from", lambda: (
            p.send("<message from='romeo@jackdaw.lab' to='juliet@jackdaw.lab'><body>spoof</body></message>"), p.stream_error("invalid-from")))

    def test_no_open_relay(self):
        p = self.external()
        self.counted("host-unknown", lambda: (
            p.send("<message from='romeo@good.lab' to='x@other.lab'><body>relay</body></message>"), p.stream_error("host-unknown")))

    def test_without_addresses(self):
        for stanza in ("<message to='juliet@jackdaw.lab'><body>x</body></message>", "<message from='romeo@good.lab'><body>x</body></message>"):
            p = self.external()
            self.counted("improper-addressing", lambda: (p.send(stanza), p.stream_error("improper-addressing")))

    def test_bad_address_is_answered(self):
        p = self.external()
        p.send("<message from='romeo@good.lab/x' to='jul iet@jackdaw.lab' id='bad'><body>x</body></message>")
        p.send("<message from='romeo@good.lab/x' to='nobody@jackdaw.lab' id='fine'><body>x</body></message>")
        # The answers go over our own stream to good.lab, whose server is the fake one: they are counted here.
        until(lambda: self.jackdaw.stats('jackdaw_s2s_bounced_total{condition="jid-malformed"}') > 0, "no jid-malformed")

    def test_malformed_costs_its_stanza(self):
        """What one user writes (a nick that PRECIS refuses) doesn't end the stream of a whole domain."""
        p = self.external()
        p.send(f"<enable xmlns='{SM}'/>")
        p.expect(f"{{{SM}}}enabled")
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        nicks = (" lead", "\u3164", "\u1160", "\u00a0", "a\ufe0f", "a\u200d", "\u200b", "\u00ad", "x" * 1024)
        before = self.jackdaw.stats('jackdaw_s2s_refused_total{reason="malformed-from"}')
        for nick in nicks:
            p.send(f"<message from='room@good.lab/{nick}' to='juliet@jackdaw.lab' type='groupchat'><body>x</body></message>")
        p.send("<presence from='@@@' to='juliet@jackdaw.lab'/>")
        p.send("<iq from='' to='juliet@jackdaw.lab' type='get' id='1'><q xmlns='x'/></iq>")
        p.send("<message from='ro meo@good.lab/x' to='@@@' type='error'><body>x</body></message>")
        count = len(nicks) + 3
        until(lambda: self.jackdaw.stats('jackdaw_s2s_refused_total{reason="malformed-from"}') == before + count, "not counted")
        for stanza in ("<message from='a@good.lab' to='@@@'><body/></message>", "<iq from='a@good.lab' to='' type='get' id='1'><q xmlns='x'/></iq>",
                       "<presence from='a@good.lab' to='x y@jackdaw.lab'/>", "<presence from='a@good.lab' to='juliet@jackdaw.lab' type='available'/>",
                       "<iq from='a@good.lab' to='juliet@jackdaw.lab' id='1' type='bad'/>", "<presence from='a@good.lab' to='juliet@jackdaw.lab' type=''/>"):
            p.send(stanza)
            count += 1
        p.send("<message from='a@good.lab/fine' to='juliet@jackdaw.lab' type='chat'><body>still here</body></message>")
        j.got("still here")
        p.send(f"<r xmlns='{SM}'/>")
        until(lambda: (p.send(f"<r xmlns='{SM}'/>"), p.expect(f"{{{SM}}}a").get("h"))[1] == str(count + 1), "not acknowledged")
        # A forgery is one whatever else is wrong with it.
        self.counted("invalid-from", lambda: (
            p.send("<message from='romeo@evil.lab/ lead' to='juliet@jackdaw.lab'><body>x</body></message>"), p.stream_error("invalid-from")))

    def test_last_h_before_the_end(self):
        """Our closing tag waits until what came before the peer's is safe."""
        p = self.external()
        p.send(f"<enable xmlns='{SM}'/>")
        p.expect(f"{{{SM}}}enabled")
        p.send("".join(f"<message from='a@good.lab/x' to='juliet@jackdaw.lab' id='l{i}'><body>{i}</body></message>" for i in range(5))
               + f"<r xmlns='{SM}'/></stream:stream>")
        until(lambda: p.expect(f"{{{SM}}}a").get("h") == "5", "no last h")

    def test_unknown_host(self):
        self.counted("host-unknown", lambda: self.clear(to="nobody.lab").stream_error("host-unknown"))

    def test_our_own_name_and_blocked_names(self):
        for name in ("jackdaw.lab", "blocked.lab"):
            self.counted("blocked-domain", lambda: self.clear(sender=name).stream_error("policy-violation"))
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("x@blocked.lab", "no", "b")
        j.error("not-allowed", "b")

    def test_client_namespace(self):
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        p.send(header("good.lab", "jackdaw.lab").replace(SERVER, CLIENT))
        p.stream_error("invalid-namespace")

    def test_prefix_free_header(self):
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        p.send(f"<stream xmlns='{STREAM}' from='good.lab' to='jackdaw.lab' version='1.0'>")
        p.expect(f"{{{STREAM}}}features")
        p.send(f"<message xmlns='{SERVER}' from='a@good.lab' to='juliet@jackdaw.lab'/>")
        p.stream_error("not-authorized")

    def test_what_was_injected_behind_starttls_is_forgotten(self):
        p = self.clear()
        p.expect(f"{{{STREAM}}}features")
        p.start_tls(behind="<db:result from='good.lab' to='jackdaw.lab'>injected</db:result>")
        p.send(header("good.lab", "jackdaw.lab"))
        p.expect(f"{{{STREAM}}}features")
        p.quiet(1)
        self.assertEqual(p.elements, [])

    def test_dialback_needs_tls(self):
        p = self.clear()
        p.expect(f"{{{STREAM}}}features")
        self.counted("no-tls", lambda: (p.send("<db:result from='good.lab' to='jackdaw.lab'>x</db:result>"), p.stream_error("policy-violation")))

    # Dialback

    def result(self, p, key, sender="good.lab", to="jackdaw.lab"):
        p.send(f"<db:result from='{sender}' to='{to}'>{key}</db:result>")
        return p.expect(f"{{{DIALBACK}}}result")

    def test_key_that_is_true(self):
        p = self.tls()
        self.assertEqual(self.result(p, dialback_key("s", "jackdaw.lab", "good.lab", p.header.get("id"))).get("type"), "valid")
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        p.send("<message from='romeo@good.lab/x' to='juliet@jackdaw.lab' type='chat'><body>proven</body></message>")
        j.got("proven")

    def test_key_that_is_forged(self):
        p = self.tls()
        def act():
            self.assertEqual(self.result(p, "0" * 64).get("type"), "invalid")
            p.quiet(2)
            self.assertTrue(p.closed)
        self.counted("dialback-key", act)

    def test_key_of_another_stream(self):
        first = self.tls()
        key = dialback_key("s", "jackdaw.lab", "good.lab", first.header.get("id"))
        self.assertEqual(self.result(first, key).get("type"), "valid")
        second = self.tls()
        self.assertNotEqual(first.header.get("id"), second.header.get("id"))
        self.counted("dialback-key", lambda: self.assertEqual(self.result(second, key).get("type"), "invalid"))

    def test_pair_that_was_not_asked_for(self):
        p = self.tls()
        self.assertEqual(self.result(p, dialback_key("s", "jackdaw.lab", "good.lab", p.header.get("id"))).get("type"), "valid")
        self.counted("invalid-from", lambda: (
            p.send("<message from='x@evil.lab' to='juliet@jackdaw.lab'><body>x</body></message>"), p.stream_error("invalid-from")))

    def test_dialback_to_nobody_and_from_nowhere(self):
        p = self.tls()
        self.assertEqual(self.result(p, "x", to="nobody.lab").get("type"), "error")
        self.counted("dialback-unverified", lambda: self.assertEqual(self.result(p, "x", sender="nowhere.lab").get("type"), "error"))

    def test_we_verify_only_our_own_keys(self):
        p = self.tls()
        p.send("<db:verify from='good.lab' to='jackdaw.lab' id='i'>" + "0" * 64 + "</db:verify>")
        self.assertEqual(p.expect(f"{{{DIALBACK}}}verify").get("type"), "invalid")
        p.send("<db:verify from='good.lab' to='jackdaw.lab' id='i'/>")
        self.assertEqual(p.expect(f"{{{DIALBACK}}}verify").get("type"), "invalid")
        p.send("<db:verify from='good.lab' to='nobody.lab' id='i'>x</db:verify>")
        self.assertEqual(p.expect(f"{{{DIALBACK}}}verify").get("type"), "error")

    # Time and number

    def test_silent_peer(self):
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        p.stream_error("connection-timeout")

    def test_too_many_streams(self):
        socks = []
        def act():
            for _ in range(60):
                try:
                    socks.append(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
                except OSError:
                    pass
        self.counted("too-many-connections", act)
        for s in socks:
            s.close()
        until(lambda: self.tls() is not None, "no stream after the flood")

    def test_too_many_streams_of_a_domain(self):
        streams = [self.external() for _ in range(8)]
        def act():
            p = self.tls(certificate="good.lab")
            # SASL has ended the stream's first life, so that it is read as bytes.
            p.sock.sendall(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>".encode())
            data = b""
            while chunk := p.sock.recv(4096):
                data += chunk
            self.assertRegex(data.decode(), r"<success.*<stream:stream .*<stream:error><policy-violation ")
        self.counted("too-many-streams", act)
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        streams[3].send("<message from='romeo@good.lab/x' to='juliet@jackdaw.lab' type='chat'><body>one of eight</body></message>")
        j.got("one of eight")
        for p in streams:
            p.close()
        until(lambda: self.jackdaw.stats("jackdaw_s2s_streams") < 8, "they stay")
        self.external()

    def test_rate_of_a_domain(self):
        """Streams share it: 1,500 stanzas over two of them take two seconds with 500 a second (and 500 at once)."""
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        streams = [self.external() for _ in range(2)]
        time.sleep(1.1)
        began = time.monotonic()
        for k, p in enumerate(streams):
            p.send("".join(f"<message from='romeo@good.lab/x' to='{j.full}' type='headline' id='{k}-{i}'><body>x</body></message>" for i in range(750)))
        for k in range(2):
            j.expect(lambda e: e.get("id") == f"{k}-749")
        self.assertGreater(time.monotonic() - began, 1.5)

    def test_thousands_of_streams_from_many_addresses(self):
        """They cost their time and no more: each is closed when it has not proven itself, and a good one works meanwhile."""
        errors = 'jackdaw_s2s_stream_errors_total{direction="sent",condition="connection-timeout"}'
        timeouts, before = self.jackdaw.stats(errors), self.jackdaw.stats("jackdaw_s2s_streams")
        socks = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        for i in range(2000):
            socks.append(socket.create_connection(("127.0.0.1", self.jackdaw.port), source_address=(f"127.0.{2 + i // 200}.{i % 200 // 10 + 1}", 0)))
        try:
            j = self.jackdaw.client("juliet")
            self.addCleanup(j.close)
            p = self.external()
            p.send("<message from='romeo@good.lab/x' to='juliet@jackdaw.lab' type='chat'><body>in the crowd</body></message>")
            j.got("in the crowd")
            until(lambda: self.jackdaw.stats(errors) >= timeouts + 2000, lambda: self.jackdaw.stats(errors) - timeouts)
        finally:
            for s in socks:
                s.close()
        until(lambda: self.jackdaw.stats("jackdaw_s2s_streams") <= before + 1, "they stay")

    def test_too_big_and_not_xml(self):
        p = self.external()
        p.send("<message from='romeo@good.lab' to='juliet@jackdaw.lab'><body>" + "x" * 600000)
        p.stream_error("policy-violation")
        p = self.external()
        p.send("<message from='romeo@good.lab' to='juliet@jackdaw.lab'><body></message>")
        p.stream_error("not-well-formed")

    # Streams from Jackdaw

    def outgoing(self, name, behave, tls_certificate=None):
        """A domain whose server behaves so; answers the error that a message to it gets."""
        server = FakeServer(behave)
        self.addCleanup(server.close)
        self.lab.serve(name, server.port)
        self.lab.start_dns()
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message(f"x@{name}", "hi", name)
        return j, server

    def test_server_that_answers_as_another(self):
        def behave(p):
            p.wait_header()
            p.send(header("somebody.lab", "jackdaw.lab", "i") + "<stream:features/>")
            p.quiet(2)
        def act():
            j, _ = self.outgoing("liar.lab", behave)
            j.error("remote-server-timeout", "liar.lab")
        self.counted("other-domain-in-header", act)

    def test_server_that_says_nothing(self):
        j, _ = self.outgoing("mute.lab", lambda p: time.sleep(30))
        j.error("remote-server-timeout", "mute.lab")

    def test_server_that_closes(self):
        j, _ = self.outgoing("slam.lab", lambda p: p.close())
        j.error("remote-server-timeout", "slam.lab")

    def test_server_without_tls(self):
        def behave(p):
            p.wait_header()
            p.send(header("clear.lab", "jackdaw.lab", "i") + "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>")
            p.quiet(5)
        j, _ = self.outgoing("clear.lab", behave)
        j.error("remote-server-timeout", "clear.lab")

    def test_server_that_stops_reading(self):
        """It proves itself, then never reads again: what it has not acknowledged is answered with an error."""
        def behave(p):
            head = p.wait_header()
            self.reply(p, "stall.lab", "jackdaw.lab")
            p.accept_tls(self.lab.pair("selfsigned"))
            p.wait_header()
            p.send(header("stall.lab", "jackdaw.lab", "x") + f"<stream:features><dialback xmlns='urn:xmpp:features:dialback'/><sm xmlns='{SM}'/></stream:features>")
            e = p.expect(f"{{{DIALBACK}}}result")
            p.send("<db:result from='stall.lab' to='jackdaw.lab' type='valid'/>")
            p.expect(f"{{{SM}}}enable")
            p.send(f"<enabled xmlns='{SM}'/>")
            time.sleep(60)
        j, _ = self.outgoing("stall.lab", behave)
        j.error("remote-server-timeout", "stall.lab", limit_s=40)

    # DNS

    def test_service_that_is_not_there(self):
        """A single SRV record of "." (RFC 6120, 3.2.1), although there is an address."""
        self.lab.zone += ["dot.lab. A 127.0.0.1", "_xmpp-server._tcp.dot.lab. SRV 0 0 0 ."]
        self.lab.start_dns()
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("x@dot.lab", "hi", "dot")
        j.error("remote-server-not-found", "dot")

    def test_fifty_targets(self):
        """All but the last few refuse; it ends within its limits, with an answer."""
        dead = free_port()
        for i in range(50):
            self.lab.zone += [f"_xmpp-server._tcp.fifty.lab. SRV {i} 0 {dead} t{i}.fifty.lab.", f"t{i}.fifty.lab. A 127.0.0.1"]
        self.lab.start_dns()
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        def act():
            j.message("x@fifty.lab", "hi", "fifty")
            j.error("remote-server-timeout", "fifty")
        self.counted("too-many-targets", act)

    def test_best_of_fifty_targets(self):
        """The one that answers is listed last, with the best priority."""
        for i in range(50):
            self.lab.zone += [f"_xmpp-server._tcp.best.lab. SRV {50 - i} 0 {self.auth.port if i == 49 else free_port()} t{i}.best.lab.", f"t{i}.best.lab. A 127.0.0.1"]
        self.lab.start_dns()
        before = self.auth.count
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("x@best.lab", "hi", "best")
        until(lambda: self.auth.count > before, "the best target was not tried")

    def test_server_that_has_ipv6_only(self):
        heard = []
        try:
            server = FakeServer(lambda p: heard.append(p.wait_header().get("to")), ("::1", 0))
        except OSError:
            self.skipTest("no IPv6 here")
        self.addCleanup(server.close)
        self.lab.zone += [f"_xmpp-server._tcp.six.lab. SRV 0 0 {server.port} t.six.lab.", "t.six.lab. AAAA ::1"]
        self.lab.start_dns()
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("x@six.lab", "hi", "six")
        until(lambda: heard == ["six.lab"], lambda: heard)

    def test_domain_without_srv_records(self):
        """Its address and the default port are tried (RFC 6120, 3.2.2)."""
        heard = []
        server = FakeServer(lambda p: heard.append(p.wait_header().get("to")), ("127.0.0.53", 5269))
        self.addCleanup(server.close)
        self.lab.zone.append("plain.lab. A 127.0.0.53")
        self.lab.start_dns()
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("x@plain.lab", "hi", "plain")
        until(lambda: heard == ["plain.lab"], lambda: heard)

    def test_next_target(self):
        """The first of two targets refuses, the second answers."""
        dead = free_port()
        self.lab.zone += [f"_xmpp-server._tcp.second.lab. SRV 1 0 {dead} first.second.lab.", f"_xmpp-server._tcp.second.lab. SRV 2 0 {self.auth.port} good.lab.",
                          "first.second.lab. A 127.0.0.1"]
        self.lab.start_dns()
        before = self.auth.count
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("x@second.lab", "hi", "second")
        until(lambda: self.auth.count > before, "the second target was not tried")

    def test_dns_that_does_not_answer(self):
        """Last, as it takes DNS away."""
        self.lab.stop_process(self.lab.dns)
        deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        deaf.bind(("127.0.0.1", self.lab.dns_port))
        try:
            j = self.jackdaw.client("juliet")
            self.addCleanup(j.close)
            j.message("x@unasked.lab", "hi", "unasked")
            j.error("remote-server-timeout", "unasked", limit_s=40)
        finally:
            deaf.close()
            self.lab.start_dns()


if __name__ == "__main__":
    unittest.main()
