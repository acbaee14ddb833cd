#!/usr/bin/python3
"""What RFC 2779 asks of instant messaging and presence, where it falls to federation: each test is named after the
requirement. (On one server: tests/script/dialogues/Q-impp.txt.)"""
import os
import pathlib
import re
import socket
import statistics
import time
import unittest
import unittest.mock
import xml.etree.ElementTree as ET

from lab import CLIENT, DIALBACK, SASL, SERVER, STREAM, Case, Jackdaw, Peer, Prosody, free_port, until
from test_hostile import FakeServer, header

DOMAINS = [f"d{i}.many.lab" for i in range(100)]
EACH = 5


class Impp(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab")
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", also=("second.lab",), limits__stanzas_per_second=2000)
        for name in ("jackdaw.lab", "second.lab"):
            lab.serve(name, cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.certificate("many", DOMAINS)
        cls.presences = []
        cls.many = FakeServer(cls.one_of_many)
        lab.stoppers.append(cls.many.close)
        for name in DOMAINS:
            lab.serve(name, None, tls_port=cls.many.port)
        lab.start_dns()
        for user in ("juliet", "nurse", "star", "fast", "slow", "away", "lost", "hidden"):
            cls.jackdaw.add(user)
        cls.jackdaw.add("juliet", "second.lab")
        for user in ("romeo", "tybalt", "paris"):
            cls.prosody.add(user)

    @classmethod
    def one_of_many(cls, peer):
        """The server of any of DOMAINS: believes whoever asks and notes the presence that comes."""
        peer.accept_tls(cls.lab.pair("many"), direct=True)
        head = peer.wait_header()
        peer.send(header(head.get("to"), head.get("from"), os.urandom(8).hex()) + "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>")
        while True:
            e = peer.expect(lambda e: True, limit_s=60)
            if e.tag == f"{{{DIALBACK}}}result":
                peer.send(f"<db:result from='{e.get('to')}' to='{e.get('from')}' type='valid'/>")
            elif e.tag == f"{{{SERVER}}}presence":
                cls.presences.append((e.get("to"), e.get("type"), e.findtext(f"{{{SERVER}}}status")))

    def client(self, user, **more):
        c = self.jackdaw.client(user, **more)
        self.addCleanup(c.close)
        return c

    def far(self, user, resource="p"):
        c = self.prosody.client(user, resource)
        self.addCleanup(c.close)
        c.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")  # answers go to those who have asked
        c.expect(lambda e: e.get("id") == "roster")
        return c

    def watches(self, watcher, presentity):
        """The watcher subscribes, the presentity approves."""
        watcher.send(f"<presence to='{presentity.jid}' type='subscribe'/>")
        presentity.expect(lambda e: e.get("type") == "subscribe" and e.get("from") == watcher.jid, "subscribe")
        presentity.send(f"<presence to='{watcher.jid}' type='subscribed'/>")
        watcher.expect(lambda e: e.get("from") == presentity.full and e.get("type") is None, "presence")

    def presence(self, c, sender, type=None, limit_s=20):
        return c.expect(lambda e: e.tag.endswith("}presence") and e.get("from") == sender and e.get("type") == type, f"presence {type} of {sender}", limit_s)

    def test_IMPP2_1_4_domains_are_autonomous(self):
        """The same name at two domains of one cluster is two people, also seen from another server."""
        first, second, r = self.client("juliet"), self.client("juliet", domain="second.lab"), self.far("romeo")
        r.message("juliet@second.lab", "to the second")
        second.got("to the second", r.full)
        r.message("juliet@jackdaw.lab", "to the first")
        first.got("to the first", r.full)
        first.message(second.full, "across")
        second.got("across", first.full)
        first.quiet(0.5)
        self.assertNotIn("to the second", [e.findtext(f"{{{CLIENT}}}body") for e in first.elements])

    def test_IMPP2_2_1_first_contact_with_an_unseen_domain(self):
        """Nothing about the domain was configured before; its name in DNS is enough."""
        name = "unseen.lab"
        server = Prosody(self.lab, name)
        self.addCleanup(server.stop)
        server.add("rosaline")
        self.lab.serve(name, server.port)
        self.lab.start_dns()
        j, r = self.client("juliet"), server.client("rosaline")
        self.addCleanup(r.close)
        j.message(r.full, "we have not met")
        r.got("we have not met", j.full)
        r.message(j.full, "now we have")
        j.got("now we have", r.full)

    def test_IMPP2_2_4_hundreds_of_subscribers_at_many_domains(self):
        """500 subscribers at 100 domains: each is told of a change, once (2.2.6, 3.2.3)."""
        star = self.client("star")
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        head = header(DOMAINS[0], "jackdaw.lab")
        p.send(head)
        p.expect(f"{{{STREAM}}}features")
        p.start_tls(certificate=self.lab.pair("many"))
        p.send(head)
        p.expect(f"{{{STREAM}}}features")
        for name in DOMAINS:
            p.send(f"<db:result from='{name}' to='jackdaw.lab'>by certificate</db:result>")
            self.assertEqual(p.expect(f"{{{DIALBACK}}}result").get("type"), "valid")
        watchers = {f"w{k}@{name}" for name in DOMAINS for k in range(EACH)}
        for w in watchers:
            p.send(f"<presence from='{w}' to='star@jackdaw.lab' type='subscribe'/>")
        for _ in watchers:
            e = star.expect(lambda e: e.get("type") == "subscribe")
            star.send(f"<presence to='{e.get('from')}' type='subscribed'/>")
        until(lambda: len({to for to, type, _ in self.presences if type is None}) == len(watchers), lambda: f"{len(self.presences)} presences", 60)
        began = time.monotonic()
        star.send("<presence><status>changed</status></presence>")
        told = lambda: sorted(to for to, _, status in self.presences if status == "changed")
        until(lambda: len(told()) >= len(watchers), lambda: f"{len(told())} of {len(watchers)} were told", 30)
        print(f"IMPP2.2.4: {len(watchers)} subscribers at {len(DOMAINS)} domains told in {(time.monotonic() - began) * 1000:.0f} ms")
        time.sleep(1)
        self.assertEqual(told(), sorted(watchers))

    def test_IMPP2_3_1_a_far_watcher_is_refused(self):
        j, t = self.client("juliet"), self.far("tybalt")
        t.send("<presence to='juliet@jackdaw.lab' type='subscribe'/>")
        j.expect(lambda e: e.get("type") == "subscribe")
        j.send("<presence to='tybalt@prosody.lab' type='unsubscribed'/>")
        t.expect(lambda e: e.get("type") == "unsubscribed" and e.get("from") == "juliet@jackdaw.lab", "refusal (5.1.5)")
        j.send("<presence><show>dnd</show></presence>")
        t.quiet(1)
        self.assertNotIn(j.full, [e.get("from") for e in t.elements])

    def test_IMPP2_4_4_documented_ports_only(self):
        """What listens beyond loopback is in README's table, so that a firewall can be set up."""
        inodes = set()
        for role in ("s2s", "c2s", "router"):
            for pid in self.jackdaw.pids(role).values():
                for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                    try:
                        if m := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd)):
                            inodes.add(m[1])
                    except OSError:
                        pass
        open_ports = set()
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                cells = line.split()
                address, port = cells[1].split(":")
                if cells[3] == "0A" and cells[9] in inodes and address not in ("0100007F", "00000000000000000000000001000000"):
                    open_ports.add(int(port, 16) - self.jackdaw.offset)
        self.assertEqual(open_ports, {5222, 5223, 5269, 5270})

    def test_IMPP2_5_1_protected_content_is_not_touched(self):
        """Signed or encrypted content arrives as it was sent, byte for byte once its XML is canonical (RFC 3923, XEP-0384)."""
        payload = ("<encrypted xmlns='urn:xmpp:omemo:2'><header sid='27183'><keys jid='romeo@prosody.lab'><key rid='31415'>b64/enc+oded==</key></keys></header>"
                   "<payload>  spaces \t tabs\n lines &amp; &lt;marks&gt; &quot;  é 👩‍🚀 </payload></encrypted>")
        j, r = self.client("juliet"), self.far("romeo")
        canonical = lambda xml: ET.canonicalize(xml, rewrite_prefixes=True)
        for sender, to in ((j, r), (r, j), (j, self.client("nurse"))):
            sender.send(f"<message to='{to.full}' type='chat'>{payload}</message>")
            e = to.expect(lambda e: e.find("{urn:xmpp:omemo:2}encrypted") is not None)
            self.assertEqual(canonical(ET.tostring(e.find("{urn:xmpp:omemo:2}encrypted"))), canonical(payload))

    def test_IMPP3_2_1_far_presentity_out_of_contact(self):
        a, r = self.client("away"), self.far("romeo", "away")
        self.watches(r, a)
        a.close()
        self.presence(r, a.full, "unavailable")
        r.send("<presence type='unavailable'/>")
        r.send("<presence/>")  # its server asks again for everybody
        e = self.presence(r, "away@jackdaw.lab", "unavailable")
        self.assertIsNotNone(e.find("{urn:xmpp:delay}delay"))

    def test_IMPP3_2_2_subscription_waits_for_a_far_presentity(self):
        t = self.far("paris")
        t.send("<presence to='slow@jackdaw.lab' type='subscribe'><status>from afar</status></presence>")
        time.sleep(1)
        for resource in ("one", "two"):  # at each login until it is answered
            s = self.client("slow", resource=resource)
            e = s.expect(lambda e: e.get("type") == "subscribe" and e.get("from") == "paris@prosody.lab")
            self.assertEqual(e.findtext(f"{{{CLIENT}}}status"), "from afar")
            if resource == "one":
                s.close()
        s.send("<presence to='paris@prosody.lab' type='subscribed'/>")
        self.presence(t, s.full)

    def test_IMPP3_2_5_far_watchers_learn_of_a_lost_connection(self):
        n, r = self.client("lost"), self.far("romeo", "watch")
        self.watches(r, n)
        n.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no goodbye, not even of TCP
        n.close()
        self.presence(r, n.full, "unavailable")

    def test_IMPP3_4_1_presence_is_as_fast_as_messages(self):
        """One after the other, message and presence between the same two people (4.3.1: conversational speed)."""
        f, s = self.client("fast"), self.client("slow", resource="s")
        self.watches(s, f)
        for c in (f, s):  # or the client's own TCP waits for company
            c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = {"message": [], "presence": []}
        for i in range(150):
            for kind in took:
                began = time.monotonic()
                f.send(f"<message to='{s.full}' id='m{i}'><body>x</body></message>" if kind == "message" else f"<presence id='p{i}'><status>{i}</status></presence>")
                s.expect(lambda e: e.get("id") == f"{kind[0]}{i}" and e.get("from") == f.full)
                took[kind].append((time.monotonic() - began) * 1000)
        median = {kind: statistics.median(times) for kind, times in took.items()}
        print("IMPP3.4.1: " + ", ".join(f"{kind} median {median[kind]:.2f} ms, p90 {sorted(took[kind])[134]:.2f} ms" for kind in took))
        self.assertLess(median["message"], 100)
        self.assertLess(median["presence"], max(2 * median["message"], 5))

    def test_IMPP4_2_1_failure_is_told(self):
        j = self.client("juliet")
        j.message("x@no-such-domain.lab", "x", "a")
        j.error("remote-server-not-found", "a")
        j.message("nobody@prosody.lab", "x", "b")
        j.error("service-unavailable", "b")

    def test_IMPP5_1_1_only_the_presentitys_server_speaks_for_it(self):
        """A server that is proven for one domain cannot notify in another one's name (5.3.1): it loses its stream."""
        certificate = self.lab.certificate("liar", [DOMAINS[0]])
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        head = header(DOMAINS[0], "jackdaw.lab")
        p.send(head)
        p.expect(f"{{{STREAM}}}features")
        p.start_tls(certificate=certificate)
        p.send(head)
        p.expect(f"{{{STREAM}}}features")
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>")
        p.expect(f"{{{SASL}}}success")
        p.restart()
        p.send(head)
        p.expect(f"{{{STREAM}}}features")
        p.send("<presence from='romeo@prosody.lab/x' to='juliet@jackdaw.lab'/>")
        p.stream_error("invalid-from")

    def test_IMPP5_1_17_addresses_of_machines_are_not_told(self):
        connect = socket.create_connection
        with unittest.mock.patch("socket.create_connection", lambda address: connect(address, source_address=("127.0.0.99", 0))):
            j = self.client("hidden")
        r = self.far("romeo", "curious")
        self.watches(r, j)
        j.message(r.full, "hello")
        for k, query in enumerate(("http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items", "jabber:iq:last", "jabber:iq:version")):
            r.send(f"<iq type='get' to='hidden@jackdaw.lab' id='q{k}'><query xmlns='{query}'/></iq>")
            r.send(f"<iq type='get' to='jackdaw.lab' id='h{k}'><query xmlns='{query}'/></iq>")
        heard = []
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            r.quiet(0.5)
            heard += [ET.tostring(e).decode() for e in r.elements]
            r.elements.clear()
        self.assertGreaterEqual(len(heard), 9)
        self.assertEqual([h for h in heard if "127.0.0." in h], [])


if __name__ == "__main__":
    unittest.main()
