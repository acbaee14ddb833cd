#!/usr/bin/python3
"""The life of server streams: several of our domains on one, idle ones closed, failing servers left in peace, the
allow list, an orderly end of a process under load, certificates read anew."""
import os
import signal
import time
import unittest

from lab import CLIENT, Case, Jackdaw, Prosody, answers, free_port, until
from test_hostile import FakeServer


class Streams(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab")
        cls.slam = FakeServer(lambda p: p.close())
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", also=["second.lab"], s2s__idle_timeout_s=5, s2s__allow="prosody.lab,.friends.lab")
        for domain in ("jackdaw.lab", "second.lab"):
            lab.serve(domain, cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        for domain in ("slam.friends.lab", "stranger.lab"):
            lab.serve(domain, cls.slam.port)
        lab.start_dns()
        cls.jackdaw.add("juliet")
        cls.jackdaw.add("nurse", "second.lab")
        cls.prosody.add("romeo")

    @classmethod
    def tearDownClass(cls):
        cls.slam.close()
        super().tearDownClass()

    def people(self):
        people = [self.jackdaw.client("juliet"), self.jackdaw.client("nurse", domain="second.lab"), self.prosody.client("romeo")]
        for p in people:
            self.addCleanup(p.close)
        return people

    def out(self):
        return self.jackdaw.stats('jackdaw_s2s_connections_total{direction="out"}')

    def test_1_two_domains_on_one_stream(self):
        juliet, nurse, romeo = self.people()
        before = self.out()
        juliet.message(romeo.full, "from the first")
        romeo.got("from the first", juliet.full)
        nurse.message(romeo.full, "from the second")
        romeo.got("from the second", nurse.full)
        self.assertEqual(self.out() - before, 1)
        self.assertIn("by=dialback domain=prosody.lab local=second.lab", self.jackdaw.log())

    def test_2_idle_streams_are_closed_and_opened_again(self):
        juliet, _, romeo = self.people()
        juliet.message(romeo.full, "one")
        romeo.got("one")
        until(lambda: self.jackdaw.stats("jackdaw_s2s_streams") == 0, "idle streams stay", 20)
        self.assertGreaterEqual(self.jackdaw.stats("jackdaw_s2s_idle_closed_total"), 1)
        juliet.message(romeo.full, "two")
        romeo.got("two")

    def test_3_a_failing_server_is_left_in_peace(self):
        juliet, _, _ = self.people()
        before, start, asked = self.slam.count, time.monotonic(), 0
        while time.monotonic() < start + 6:
            asked += 1
            juliet.message("x@slam.friends.lab", "hello?", f"s{asked}")
            juliet.error("remote-server-timeout", f"s{asked}")
            time.sleep(0.05)
        tries = self.slam.count - before
        self.assertGreater(asked, 30)
        self.assertTrue(2 <= tries <= 12, f"{tries} connections for {asked} messages")

    def test_4_strangers(self):
        juliet, _, _ = self.people()
        before = self.slam.count
        juliet.message("x@stranger.lab", "hello", "st")
        juliet.error("not-allowed", "st")
        self.assertEqual(self.slam.count, before)

    def test_5_an_orderly_end_loses_nothing(self):
        """SIGTERM in the middle: what was taken is handed over or goes by the process that is started again."""
        juliet, _, romeo = self.people()
        juliet.enable_sm()
        pid = self.jackdaw.pids("s2s")["s2s-1"]
        sent = []
        for i in range(150):
            sent.append(f"{i}")
            juliet.message(romeo.full, sent[-1], sent[-1])
            if i == 75:
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.002)
        until(lambda: self.jackdaw.pids("s2s").get("s2s-1") not in (None, pid), "s2s is not started again")
        juliet.acked(len(sent), 40)
        errors = {e.get("id") for e in juliet.elements if e.get("type") == "error"}  # a true answer, while no s2s process is there
        got = []

        def done():
            romeo.pump(0.05)
            for e in [e for e in romeo.elements if e.tag.endswith("message")]:
                romeo.elements.remove(e)
                got.append(e.findtext(f"{{{CLIENT}}}body"))
            return set(got) | errors >= set(sent)
        until(done, lambda: f"lost: {sorted(set(sent) - set(got) - errors)[:5]}")
        self.assertEqual(set(got) & errors, set(), "delivered and refused")
        self.assertEqual(len(got), len(set(got)), "delivered twice")

    def test_6_new_certificates(self):
        until(lambda: answers(self.jackdaw.port), "no listener")
        self.lab.certificate("jackdaw.lab", ["jackdaw.lab"], self.jackdaw.dir / "tls")
        count = self.jackdaw.log().count("certificate ")
        os.kill(self.jackdaw.pids("s2s")["s2s-1"], signal.SIGHUP)
        until(lambda: self.jackdaw.log().count("certificate ") > count, "not read anew")
        self.assertNotIn("not taken", self.jackdaw.log())


if __name__ == "__main__":
    unittest.main()
