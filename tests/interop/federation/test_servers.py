#!/usr/bin/python3
"""Federation both ways with the servers of Debian: each way of proving a domain, order, presence, iq, errors, a peer
that restarts, and three servers in a triangle."""
import unittest

from lab import CLIENT, Case, Ejabberd, Jackdaw, Prosody, answers, free_port, until

COUNT = 40


class With(Case):
    """A Jackdaw and a peer."""

    direct = False
    settings = {}

    @classmethod
    def peer(cls):
        raise NotImplementedError

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.other = cls.peer()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", **cls.settings)
        lab.serve("jackdaw.lab", None if cls.direct else cls.jackdaw.port, tls_port=cls.jackdaw.tls_port if cls.direct else None, target="localhost")
        lab.serve(cls.other.domain, None if cls.direct else cls.other.port, tls_port=cls.other.tls_port if cls.direct else None)
        lab.start_dns()
        cls.jackdaw.add("juliet")
        cls.romeo = cls.other.add("romeo")

    def pair(self):
        j, r = self.jackdaw.client("juliet"), self.other.client("romeo")
        self.addCleanup(j.close)
        self.addCleanup(r.close)
        return j, r

    def proven(self, direction, by):
        self.assertIn(f"stream proven direction={direction} by={by} domain={self.other.domain}", self.jackdaw.log())

    def balanced(self):
        """Everything that was written is with the other side, everything that came is with a router."""
        def even():
            s = self.jackdaw.stats
            written = s("jackdaw_s2s_stanzas_out_total") - s("jackdaw_s2s_stanzas_out_again_total")
            return (written == s("jackdaw_s2s_stanzas_safe_total") and s("jackdaw_s2s_pending") == 0
                    and s("jackdaw_s2s_queued") == 0)
        until(even, "the books do not balance")


class Exchange:
    """What must work with every peer, however the streams are proven."""

    by_out = by_in = "external"

    def test_1_messages_both_ways_in_order(self):
        j, r = self.pair()
        for i in range(COUNT):
            j.message(self.romeo, f"there {i}")
            r.message(j.full, f"back {i}")
        for i in range(COUNT):
            r.got(f"there {i}", j.full)
            j.got(f"back {i}", r.full)
            bodies = [e.findtext(f"{{{CLIENT}}}body") for e in r.elements if e.tag.endswith("message")]
            self.assertEqual(bodies, sorted(bodies, key=lambda b: int(b.split()[1])))
        self.proven("out", self.by_out)
        if self.by_in:
            self.proven("in", self.by_in)
        self.balanced()

    def test_2_iq_both_ways(self):
        j, r = self.pair()
        j.send(f"<iq type='get' id='v1' to='{self.other.domain}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        self.assertEqual(j.expect(lambda e: e.get("id") == "v1").get("type"), "result")
        r.send("<iq type='get' id='v2' to='jackdaw.lab'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
        self.assertEqual(r.expect(lambda e: e.get("id") == "v2").get("type"), "result")
        r.send("<iq type='get' id='v3' to='jackdaw.lab'><query xmlns='urn:nobody:knows'/></iq>")
        r.error("service-unavailable", "v3")

    def test_3_subscription_and_presence(self):
        j, r = self.pair()
        j.send(f"<presence to='{self.romeo}' type='subscribe'/>")
        e = r.expect(lambda e: e.get("type") == "subscribe")
        self.assertEqual(e.get("from"), "juliet@jackdaw.lab")
        r.send("<presence to='juliet@jackdaw.lab' type='subscribed'/>")
        r.send("<presence to='juliet@jackdaw.lab' type='subscribe'/>")
        j.expect(lambda e: e.get("type") == "subscribe")
        j.send(f"<presence to='{self.romeo}' type='subscribed'/>")
        j.expect(lambda e: e.tag.endswith("presence") and e.get("from") == r.full and e.get("type") is None)
        r.expect(lambda e: e.tag.endswith("presence") and e.get("from") == j.full and e.get("type") is None)
        r.send("<presence><show>away</show></presence>")
        j.expect(lambda e: e.get("from") == r.full and e.findtext(f"{{{CLIENT}}}show") == "away")
        j.send("<presence><show>dnd</show></presence>")
        r.expect(lambda e: e.get("from") == j.full and e.findtext(f"{{{CLIENT}}}show") == "dnd")
        j.close()
        r.expect(lambda e: e.get("from") == j.full and e.get("type") == "unavailable")

    def test_4_errors_keep_the_id(self):
        j, r = self.pair()
        r.message("nobody@jackdaw.lab", "hi", "to-nobody")
        r.error("service-unavailable", "to-nobody")
        j.send(f"<iq type='get' id='q' to='nobody@{self.other.domain}/x'><ping xmlns='urn:xmpp:ping'/></iq>")
        self.assertEqual(j.expect(lambda e: e.get("id") == "q").get("type"), "error")
        j.message("x@nowhere.lab", "hi", "lost")
        j.error("remote-server-not-found", "lost")


class ProsodyExternal(With, Exchange):
    @classmethod
    def peer(cls):
        return Prosody(cls.lab, "prosody.lab")

    def test_5_counts_with_stream_management(self):
        """Acknowledged to the sender means acknowledged by the other server."""
        j, r = self.pair()
        j.enable_sm()
        for i in range(COUNT):
            j.message(self.romeo, f"counted {i}")
        j.acked(COUNT)
        for i in range(COUNT):
            r.got(f"counted {i}")
        self.balanced()

    def test_6_peer_restarts(self):
        j, r = self.pair()
        j.message(self.romeo, "before")
        r.got("before")
        self.other.stop()
        until(lambda: not answers(self.other.port), "prosody does not end")
        j.message(self.romeo, "meanwhile", "w")
        self.other.start()
        r = self.other.client("romeo")
        self.addCleanup(r.close)
        r.got("meanwhile")
        r.message(j.full, "after")
        j.got("after")
        self.balanced()


class ProsodyDialback(With, Exchange):
    by_out = by_in = "dialback"

    @classmethod
    def peer(cls):
        return Prosody(cls.lab, "prosody.lab", auth="dialback")


class ProsodyDirectTls(With, Exchange):
    direct = True

    @classmethod
    def peer(cls):
        return Prosody(cls.lab, "prosody.lab", direct_tls=True)


class ProsodyBothWays(With, Exchange):
    """XEP-0288: whoever calls first, one connection serves both."""

    by_in = None

    @classmethod
    def peer(cls):
        return Prosody(cls.lab, "prosody.lab", bidi=True)


class WeCallBothWays(With):
    """XEP-0288 on a stream that we have begun."""

    @classmethod
    def peer(cls):
        return Prosody(cls.lab, "prosody.lab", bidi=True)

    def test_one_connection(self):
        j, r = self.pair()
        j.message(self.romeo, "first")
        r.got("first")
        r.message(j.full, "second")
        j.got("second")
        self.assertEqual(self.jackdaw.stats('jackdaw_s2s_connections_total{direction="in"}'), 0)
        self.proven("out", "external")
        self.balanced()


class TheyCallBothWays(With):
    """XEP-0288 on a stream that the peer has begun."""

    @classmethod
    def peer(cls):
        return Prosody(cls.lab, "prosody.lab", bidi=True)

    def test_one_connection(self):
        j, r = self.pair()
        r.message("juliet@jackdaw.lab", "first")
        j.got("first")
        j.message(r.full, "second")
        r.got("second")
        self.assertEqual(self.jackdaw.stats('jackdaw_s2s_connections_total{direction="out"}'), 0)
        self.proven("in", "external")
        self.balanced()


class EjabberdExternal(With, Exchange):
    @classmethod
    def peer(cls):
        return Ejabberd(cls.lab, "ejabberd.lab")


class EjabberdDialback(With, Exchange):
    by_out = by_in = "dialback"

    @classmethod
    def peer(cls):
        return Ejabberd(cls.lab, "ejabberd.lab", auth="dialback")


class Triangle(Case):
    """Jackdaw with two s2s processes and two domains, Prosody and ejabberd: everybody with everybody."""

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody, cls.ejabberd = Prosody(lab, "prosody.lab"), Ejabberd(lab, "ejabberd.lab", auth="dialback")
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=2, also=["second.lab"])
        for domain in ("jackdaw.lab", "second.lab"):
            lab.serve(domain, cls.jackdaw.port, target="localhost")
        for other in (cls.prosody, cls.ejabberd):
            lab.serve(other.domain, other.port, target="localhost")
        lab.start_dns()
        cls.jackdaw.add("juliet")
        cls.jackdaw.add("nurse", "second.lab")
        cls.prosody.add("romeo")
        cls.ejabberd.add("paris")

    def test_all_talk(self):
        people = [self.jackdaw.client("juliet"), self.jackdaw.client("nurse", domain="second.lab"), self.prosody.client("romeo"), self.ejabberd.client("paris")]
        for p in people:
            self.addCleanup(p.close)
        for a in people:
            for b in people:
                if a is not b:
                    a.message(b.full, f"from {a.jid}")
        for b in people:
            for a in people:
                if a is not b:
                    b.got(f"from {a.jid}", a.full)
        until(lambda: self.jackdaw.stats("jackdaw_s2s_stanzas_out_total") == self.jackdaw.stats("jackdaw_s2s_stanzas_safe_total"), "not all is safe")


if __name__ == "__main__":
    unittest.main()
