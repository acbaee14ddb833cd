#!/usr/bin/python3
"""POSH (RFC 7711): a domain vouches over HTTPS for a certificate that no authority has signed. Certificates are required
here, so that nothing else can prove them."""
import base64
import hashlib
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import unittest

from lab import DIALBACK, SASL, SERVER, STREAM, Case, Jackdaw, Peer, Prosody, free_port


def fingerprint(crt, hash="sha256"):
    der = subprocess.run(["openssl", "x509", "-in", crt, "-outform", "DER"], check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.new(hash, der).digest()).decode()


class Web:
    """An HTTPS server; `pages` is (host, path) -> JSON value, bytes, or a function that answers by itself."""

    def __init__(self, crt, key, host, port):
        self.pages, self.asked = {}, []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                host = self.headers.get("Host", "").split(":")[0]
                web.asked.append((host, self.path))
                page = web.pages.get((host, self.path))
                if page is None:
                    self.send_error(404)
                    return
                if callable(page):
                    page(self)
                    return
                body = page if isinstance(page, bytes) else json.dumps(page).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass

        self.server = Server((host, port), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


PATH = "/.well-known/posh/xmpp-server.json"
FAKES = ("other", "none", "stranger", "circle", "big", "slow", "garbage", "stale", "expired", "unasked")


class Posh(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.web_port = free_port()
        names = [f"{n}.posh" for n in ("right", "referred", *FAKES)]
        crt, key = lab.certificate("web", [*names, "hosting.posh"])
        cls.web = Web(crt, key, "127.0.0.2", cls.web_port)
        cls.stranger = Web(*lab.certificate("stranger-web", names, self_signed=True), "127.0.0.3", cls.web_port)
        lab.stoppers += [cls.web.close, cls.stranger.close]
        cls.servers = {}
        for name in ("right.posh", "referred.posh"):
            cert = lab.certificate(name, ["somewhere.else"], self_signed=True)
            p = cls.servers[name] = Prosody(lab, name, certificate=cert)
            p.add("romeo")
            cls.serve(name, p.port)
            document = {"fingerprints": [{"sha-1": "AAAA"}, {"sha-256": fingerprint(cert[0]), "sha-512": fingerprint(cert[0], "sha512")}], "expires": 600}
            if name == "right.posh":
                cls.web.pages[name, PATH] = document
            else:
                cls.web.pages[name, PATH] = {"url": f"https://hosting.posh:{cls.web_port}/somewhere.json", "expires": 300}
                cls.web.pages["hosting.posh", "/somewhere.json"] = document
        lab.zone.append("hosting.posh. A 127.0.0.2")
        cls.prepare_fakes()
        lab.start_dns()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s__require_certificate="true", s2s__posh_port=cls.web_port)
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.start_dns()
        cls.jackdaw.add("juliet")

    @classmethod
    def serve(cls, name, port, web="127.0.0.2", tls=False):
        """The domain's web server has an address of its own; its XMPP server is elsewhere."""
        cls.lab.zone += [f"{name}. A {web}", f"xmpp.{name}. A 127.0.0.1", f"_xmpp{'s' if tls else ''}-server._tcp.{name}. SRV 0 0 {port} xmpp.{name}."]

    @classmethod
    def prepare_fakes(cls):
        """Domains that share one server in direct TLS, which shows one self-signed certificate (the expired one another)."""
        lab = cls.lab
        lab.certificate("fake", ["fake.lab"], self_signed=True)
        lab.certificate("old", ["fake.lab"], days=0)
        ports = {}
        for name in ("fake", "old"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(lab.dir / f"{name}.crt", lab.dir / f"{name}.key")
            context.set_alpn_protocols(["xmpp-server"])
            sock = socket.create_server(("127.0.0.1", 0))
            ports[name] = sock.getsockname()[1]
            threading.Thread(target=cls.accept, args=(sock, context), daemon=True).start()
            lab.stoppers.append(sock.close)
        for name in FAKES:
            cls.serve(f"{name}.posh", ports["old" if name == "expired" else "fake"], "127.0.0.3" if name == "stranger" else "127.0.0.2", tls=True)
        good = {"fingerprints": [{"sha-256": fingerprint(lab.dir / "fake.crt")}], "expires": 600}
        pages = {
            "other": {"fingerprints": [{"sha-256": base64.b64encode(bytes(32)).decode()}], "expires": 600},
            "circle": {"url": f"https://hosting.posh:{cls.web_port}/circle.json", "expires": 600},
            "big": json.dumps(good).encode() + b" " * 200000,
            "slow": lambda _: time.sleep(30),
            "garbage": b'{"fingerprints": [',
            "stale": {**good, "expires": 0},
            "expired": {"fingerprints": [{"sha-256": fingerprint(lab.dir / "old.crt")}], "expires": 600},
        }
        for name, page in pages.items():
            cls.web.pages[f"{name}.posh", PATH] = page
        cls.web.pages["hosting.posh", "/circle.json"] = {"url": f"https://hosting.posh:{cls.web_port}/circle.json", "expires": 600}
        cls.stranger.pages["stranger.posh", PATH] = good

    @classmethod
    def accept(cls, sock, context):
        while True:
            try:
                s, _ = sock.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(s, server_side=True) as t:
                    t.recv(1000)
            except OSError:
                s.close()

    def count(self, figure):
        return self.jackdaw.stats(figure)

    def both_ways(self, name):
        j, r = self.jackdaw.client("juliet"), self.servers[name].client("romeo")
        self.addCleanup(j.close)
        self.addCleanup(r.close)
        before = self.count('jackdaw_s2s_posh_total{result="verified"}')
        j.message(r.full, "there")
        r.got("there", j.full)
        r.message(j.full, "and back")
        j.got("and back", r.full)
        self.assertGreaterEqual(self.count('jackdaw_s2s_posh_total{result="verified"}'), before + 2)
        self.assertEqual(self.web.asked.count((name, PATH)), 1, "the document is kept until it expires")

    def test_fingerprint_that_is_right(self):
        self.both_ways("right.posh")
        log = self.jackdaw.log()
        self.assertIn("stream proven direction=in by=external domain=right.posh", log)

    def test_reference_that_leads_to_it(self):
        self.both_ways("referred.posh")
        self.assertEqual(self.web.asked.count(("hosting.posh", "/somewhere.json")), 1)

    def refused(self, name, figure):
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        before = self.count(figure)
        j.message(f"romeo@{name}.posh", "no", name)
        j.error("remote-server-timeout", name)
        self.assertGreater(self.count(figure), before)

    def test_fingerprint_of_another_certificate(self):
        self.refused("other", 'jackdaw_s2s_refused_total{reason="posh"}')

    def test_no_document(self):
        for name in ("none", "stranger", "circle", "big", "garbage", "stale"):
            with self.subTest(name):
                self.refused(name, 'jackdaw_s2s_posh_total{result="no-document"}')

    def test_web_server_that_does_not_answer(self):
        self.refused("slow", 'jackdaw_s2s_posh_total{result="no-document"}')

    def test_certificate_that_has_run_out(self):
        """POSH does not make an expired certificate valid (RFC 7711, 6): it is not even asked."""
        self.refused("expired", 'jackdaw_s2s_refused_total{reason="certificate-chain"}')
        self.assertNotIn(("expired.posh", PATH), self.web.asked)

    def test_nobody_is_asked_when_an_authority_vouches(self):
        cert = self.lab.certificate("unasked-good", ["unasked.posh"])
        self.assertEqual(self.incoming("unasked.posh", *cert), ["EXTERNAL"])
        self.assertNotIn(("unasked.posh", PATH), self.web.asked)

    def incoming(self, name, crt, key):
        """A server that calls and shows this certificate: the mechanisms that it is offered."""
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        head = f"<stream:stream xmlns='{SERVER}' xmlns:stream='{STREAM}' xmlns:db='{DIALBACK}' from='{name}' to='jackdaw.lab' version='1.0'>"
        p.send(head)
        p.expect(f"{{{STREAM}}}features")
        p.start_tls(certificate=(crt, key))
        p.send(head)
        self.peer = p
        m = p.expect(f"{{{STREAM}}}features").find(f"{{{SASL}}}mechanisms")
        return [] if m is None else [x.text for x in m]

    def test_caller_with_another_certificate(self):
        before = self.count('jackdaw_s2s_refused_total{reason="posh"}')
        with self.assertRaises(AssertionError):
            self.incoming("other.posh", self.lab.dir / "fake.crt", self.lab.dir / "fake.key")
        self.peer.stream_error("not-authorized")
        self.assertEqual(self.count('jackdaw_s2s_refused_total{reason="posh"}'), before + 1)

    def test_caller_whose_domain_says_nothing(self):
        self.assertEqual(self.incoming("none.posh", self.lab.dir / "fake.crt", self.lab.dir / "fake.key"), [])

    def test_many_callers_while_the_document_is_slow(self):
        """One document is fetched for all of them; those who leave meanwhile are forgotten."""
        asked = self.web.asked.count(("slow.posh", PATH))
        socks = []
        for i in range(8):
            p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.tls_port)))
            context = ssl._create_unverified_context()
            context.load_cert_chain(self.lab.dir / "fake.crt", self.lab.dir / "fake.key")
            context.set_alpn_protocols(["xmpp-server"])
            p.sock = context.wrap_socket(p.sock, server_hostname="jackdaw.lab")
            p.send(f"<stream:stream xmlns='{SERVER}' xmlns:stream='{STREAM}' from='slow.posh' to='jackdaw.lab' version='1.0'>")
            socks.append(p)
        time.sleep(0.3)
        for p in socks[1:]:
            p.close()
        self.assertEqual(self.web.asked.count(("slow.posh", PATH)) - asked, 1)
        socks[0].expect(f"{{{STREAM}}}features")
        socks[0].close()


if __name__ == "__main__":
    unittest.main()
