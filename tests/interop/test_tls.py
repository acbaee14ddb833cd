#!/usr/bin/python3
"""TLS as OpenSSL's and GnuTLS's own programs speak it, in a session whose server side has given OpenSSL's object back
(tls.slim_after_ms): data, new keys from either side, close_notify, bytes that are no TLS; and certificates that are
renewed while it runs.

Usage: test_tls.py [TEST]..."""
import asyncio
import base64
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import unittest

from harness import DOMAIN, PASSWORD, InteropCase
from raw import HEADER, Raw

STREAM = (HEADER % DOMAIN).replace("<?xml version='1.0'?>", "")
AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>"
BIND = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
SLIM_S = 0.2  # certainly slim by then


class Tls(InteropCase):
    routers = 1
    settings = ("tls.slim_after_ms=20", "c2s.channel_binding=false")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.ctl("adduser", f"juliet@{DOMAIN}", "--password", PASSWORD)

    async def login(self, *argv):
        program = await self.program(*argv)
        # The programs read lines: each stanza ends with one, which is white space between stanzas to us.
        program.write(STREAM)
        await program.expect("</stream:features>")
        program.write(AUTH % base64.b64encode(f"\0juliet\0{PASSWORD}".encode()).decode())
        await program.expect("<success")
        program.write(STREAM)
        await program.expect("<bind")
        program.write(BIND)
        await program.expect("id='bind'|id=\"bind\"")
        await asyncio.sleep(SLIM_S)
        return program

    async def ping(self, program, name):
        program.write(f"<iq type='get' id='{name}'><ping xmlns='urn:xmpp:ping'/></iq>")
        await program.expect(f"<iq [^>]*id=['\"]{name}['\"]")

    def openssl(self, *more):
        return ("openssl", "s_client", "-connect", f"127.0.0.1:{self.cluster.direct_tls_port}", "-servername", DOMAIN, *more)

    async def talk(self, program, new_key):
        for i in range(3):
            await self.ping(program, f"p{i}")
            program.write(new_key)
            await asyncio.sleep(0.1)
            await self.ping(program, f"q{i}")
        long = "x" * 20000  # more than a record
        program.write(f"<iq type='get' id='long' to='juliet@{DOMAIN}'><q xmlns='urn:x'>{long}</q></iq>")
        await program.expect("<iq [^>]*id=['\"]long['\"]")

    def test_openssl_with_new_keys(self):
        async def run():
            for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
                program = await self.login(*self.openssl("-tls1_3", "-ciphersuites", suite))
                await self.talk(program, "K")  # asks for a new key in return
                await self.talk(program, "k")  # and does not
                self.assertIn(f"Cipher is {suite}", program.text)
                program.write("</stream:stream>")
                await program.expect("</stream:stream>")
                await program.ended()

        self.run_async(run())

    def test_openssl_tls_1_2_stays_with_openssl(self):
        async def run():
            program = await self.login(*self.openssl("-tls1_2"))
            await self.ping(program, "p")
            program.write("Q")
            await program.ended()

        self.run_async(run())

    def test_gnutls_with_new_keys(self):
        async def run():
            program = await self.login(
                "gnutls-cli", "--inline-commands", "--x509cafile", self.cluster.certificate, "--sni-hostname", DOMAIN,
                "--verify-hostname", DOMAIN, "-p", self.cluster.direct_tls_port, "127.0.0.1"
            )
            await self.talk(program, "^rekey^")
            await program.expect("Rekey was completed")
            program.write("</stream:stream>")
            await program.expect("</stream:stream>")

        self.run_async(run())

    def test_openssl_with_short_fragments(self):
        """max_fragment_length (RFC 6066): s_client gives up when a record is longer."""

        async def run():
            for length in (512, 4096):
                program = await self.login(*self.openssl("-tls1_3", "-maxfraglen", str(length)))
                program.write("<presence/>")
                await program.expect("<presence [^>]*from=")
                program.write(f"<message to='juliet@{DOMAIN}' type='chat'><body>{'x' * 6000}</body></message>")
                await program.expect(f"<body>{'x' * 6000}</body>")
                await self.ping(program, "after")
                program.write("</stream:stream>")
                await program.expect("</stream:stream>")
                await program.ended()

        self.run_async(run())

    def served_key(self, sni=DOMAIN):
        """The type of key in the certificate that c2s-1 shows."""
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{self.cluster.port(1)}", "-starttls", "xmpp", "-xmpphost", DOMAIN, "-servername", sni],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        text = subprocess.run(["openssl", "x509", "-noout", "-text"], input=done.stdout, capture_output=True, text=True).stdout
        return re.search(r"Public Key Algorithm: (\S+)", text)[1]

    def hang_up(self, ready):
        """SIGHUP to c2s-1, which serves what is ready soon."""
        os.kill(int((self.cluster.dir / "run/c2s-1.pid").read_text().split()[0]), signal.SIGHUP)
        for _ in range(50):
            if ready():
                return
            time.sleep(0.1)
        self.fail("the reload had no effect")

    def test_a_renewal_with_another_type_of_key(self):
        tls = self.cluster.dir / "tls"
        crt, key = tls / f"{DOMAIN}.crt", tls / f"{DOMAIN}.key"
        old = crt.read_bytes(), key.read_bytes()
        expiry = f'jackdaw_tls_certificate_expiry_timestamp_seconds{{domain="{DOMAIN}"}}'
        self.assertEqual(self.served_key(), "id-ecPublicKey")
        before = self.cluster.stats("c2s-1")[expiry]
        standing = self.slim()
        try:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}",
                            "-keyout", key, "-out", crt], check=True, capture_output=True)
            self.hang_up(lambda: self.served_key() == "rsaEncryption")
            after = self.cluster.stats("c2s-1")[expiry]
            self.assertLess(after, before)
            self.assertLess(abs(after - time.time() - 9 * 86400), 3600)
            log = (self.cluster.dir / "log/c2s-1.log").read_text()
            self.assertRegex(log, r"WARN .*certificate for localhost: it expires in 8 days")
            # A broken file: the RSA one stays, and the log says so.
            key.write_bytes(old[1])
            said = log.count("not taken")
            self.hang_up(lambda: (self.cluster.dir / "log/c2s-1.log").read_text().count("not taken") > said)
            self.assertEqual(self.served_key(), "rsaEncryption")
        finally:
            crt.write_bytes(old[0])
            key.write_bytes(old[1])
            self.hang_up(lambda: self.served_key() == "id-ecPublicKey")
        standing.ping()
        standing.close()

    def slim(self):
        raw = Raw(self.cluster.port(1))
        raw.login("juliet", PASSWORD, "r")
        time.sleep(SLIM_S)
        raw.ping()
        return raw

    def test_close_notify_comes_and_goes(self):
        raw = self.slim()
        raw.send("</stream:stream>")
        raw.expect("</stream:stream>")
        self.assertEqual(raw.socket.recv(100), b"")  # an end without close_notify would raise

    def test_bytes_that_are_no_tls(self):
        """The answer is an alert, which this end can read."""
        for bytes_, alert in ((b"GET / HTTP/1.1\r\n\r\n", "UNEXPECTED_MESSAGE"), (b"\x17\x03\x03\x00\x20" + b"x" * 32, "BAD_RECORD_MAC")):
            raw = self.slim()
            below = socket.socket(fileno=raw.socket.fileno())
            try:
                below.sendall(bytes_)
            finally:
                below.detach()
            with self.assertRaisesRegex(ssl.SSLError, alert):
                while raw.socket.recv(4096):
                    pass
            raw.close()
        self.slim().close()  # nobody else was hurt


if __name__ == "__main__":
    unittest.main()
