#!/usr/bin/python3
"""TLS as OpenSSL's and GnuTLS's own programs speak it, in a session whose server side has given OpenSSL's object back
(tls.slim_after_ms): data, new keys from either side, close_notify, and bytes that are no TLS.

Usage: test_tls.py [TEST]..."""
import asyncio
import base64
import socket
import ssl
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
