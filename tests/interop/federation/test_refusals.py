#!/usr/bin/python3
"""Who is refused by address, and a server that refuses our certificate: what counts as one address, how often it may
connect, what a load balancer's own connections count as, and dialback after EXTERNAL was refused."""
import socket
import time
import unittest

from lab import CLIENT, DIALBACK, SASL, STREAM, TLS, Case, Jackdaw, free_port, until
from test_hostile import FakeServer, header, refused


class External(Case):
    """external.lab offers EXTERNAL, refuses it and ends the stream; dialback would do."""

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        cls.server = FakeServer(cls.refuses)
        cls.asked = []
        for name in ("external.lab", "error.lab"):
            lab.certificate(name, [name])
            lab.serve(name, cls.server.port)
        lab.start_dns()
        cls.jackdaw.add("juliet")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        super().tearDownClass()

    @classmethod
    def refuses(cls, peer):
        name = peer.wait_header().get("to")
        peer.send(header(name, "jackdaw.lab", "one") + f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>")
        peer.accept_tls(cls.lab.pair(name))
        peer.wait_header()
        peer.send(header(name, "jackdaw.lab", "two") + f"<stream:features><mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>"
                  "<dialback xmlns='urn:xmpp:features:dialback'/></stream:features>")
        while True:
            e = peer.expect(lambda e: e.tag in (f"{{{SASL}}}auth", f"{{{DIALBACK}}}result") or e.tag.endswith("}message"), limit_s=60)
            if e.tag.endswith("message"):
                cls.asked.append((name, e.findtext(f"{{jabber:server}}body")))
            elif e.tag.endswith("result"):
                cls.asked.append((name, "dialback"))
                peer.send(f"<db:result from='{name}' to='jackdaw.lab' type='valid'/>")
            else:
                cls.asked.append((name, "external"))
                if name == "external.lab":
                    peer.send(f"<failure xmlns='{SASL}'><not-authorized/></failure></stream:stream>")
                else:
                    peer.send("<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
                return

    def of(self, name):
        return [what for who, what in self.asked if who == name]

    def test_dialback_next(self):
        juliet = self.jackdaw.client("juliet")
        self.addCleanup(juliet.close)
        for name in ("external.lab", "error.lab"):
            juliet.message(f"romeo@{name}", "one", name)
            until(lambda: len(self.of(name)) >= 3, lambda: f"{name} was asked for {self.of(name)}")
            self.assertEqual(self.of(name), ["external", "dialback", "one"])


class Addresses(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", c2s__proxy_protocol="true", limits__connections_per_address=5, s2s__connections_per_address=5,
                              s2s__connection_rate_per_address=10, s2s__listen="[::]:5269")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.start_dns()

    def connections(self, port, address, count, first=b""):
        """So many from one address at once; those that are still open after a moment."""
        socks = []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
            self.addCleanup(s.close)
            socks.append(s)
            try:
                s.sendall(first)
            except OSError:
                pass
        time.sleep(0.5)
        still = []
        for s in socks:
            s.setblocking(False)
            try:
                if s.recv(1) != b"":
                    still.append(s)
            except BlockingIOError:
                still.append(s)
            except OSError:
                pass
        return still

    def test_1_each_ipv4_address_is_its_own(self):
        before = self.jackdaw.stats(refused("too-many-connections"))
        self.assertEqual(len(self.connections(self.jackdaw.port, "127.0.0.1", 7)), 5)
        self.assertEqual(len(self.connections(self.jackdaw.port, "127.0.0.2", 5)), 5)
        self.assertEqual(self.jackdaw.stats(refused("too-many-connections")) - before, 2)

    def test_2_connects_too_often(self):
        before = self.jackdaw.stats(refused("connects-too-often"))
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", self.jackdaw.port), source_address=("127.0.0.3", 0)) as s:
                s.sendall(b"<")
            time.sleep(0.01)  # it is to be gone before the next, or there are too many
        until(lambda: self.jackdaw.stats(refused("connects-too-often")) - before > 10, "nobody was refused")
        time.sleep(2.2)
        self.assertEqual(len(self.connections(self.jackdaw.port, "127.0.0.3", 1)), 1)

    def test_3_a_balancers_own_connections(self):
        """PROXY UNKNOWN and LOCAL say nothing about a client: the socket's own address counts."""
        local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
        for address, first in (("127.0.0.4", b"PROXY UNKNOWN\r\n"), ("127.0.0.5", local)):
            self.assertEqual(len(self.connections(self.jackdaw.client_port, address, 8, first)), 5)
        log = "".join(p.read_text(errors="replace") for p in self.jackdaw.dir.glob("log/c2s-*.log"))
        self.assertRegex(log, r"refused peer=127\.0\.0\.4:[1-9][0-9]*: too many connections")


if __name__ == "__main__":
    unittest.main()
