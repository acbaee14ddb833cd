#!/usr/bin/python3
"""kill -9 of s2s processes and of routers while messages cross to and from Prosody (with its stream management on):
what was acknowledged to its sender is not lost, and was delivered once. What was under way, unacknowledged, at the
moment of a kill may come twice: Prosody offers no resumption between servers, so nobody can know whether it has it."""
import collections
import os
import signal
import time
import unittest

from lab import CLIENT, SM, Case, Jackdaw, Prosody, free_port, until

ROUNDS = 2
BATCH = 60


class Kill(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab", extra="smacks_s2s_resend = true")
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=2)
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.start_dns()
        for i in range(4):
            cls.jackdaw.add(f"juliet{i}")
        cls.prosody.add("romeo")

    def kill(self, role, number):
        pid = self.jackdaw.pids(role)[f"{role}-{number}"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.jackdaw.pids(role).get(f"{role}-{number}") not in (None, pid), f"{role}-{number} is not started again")

    def acknowledged(self, client):
        """What the server has acknowledged by now, without asking."""
        h = 0
        client.pump(0.01)
        for e in [e for e in client.elements if e.tag == f"{{{SM}}}a"]:
            h = max(h, int(e.get("h")))
        return h

    def outward(self, role):
        juliets = [self.jackdaw.client(f"juliet{i}", f"{role}") for i in range(4)]
        romeo = self.prosody.client("romeo")
        for c in (*juliets, romeo):
            self.addCleanup(c.close)
        for c in juliets:
            c.enable_sm()
        sent, doubtful = [], set()
        for r in range(ROUNDS):
            for i in range(BATCH):
                for k, c in enumerate(juliets):
                    body = f"{role} {r} {i} from {k}"
                    c.message(romeo.full, body)
                    sent.append(body)
                if i == BATCH // 2:
                    for k, c in enumerate(juliets):
                        c.send(f"<r xmlns='{SM}'/>")
                        doubtful |= {b for b in [b for b in sent if b.endswith(f"from {k}")][self.acknowledged(c):]}
                    self.kill(role, 1 + r % 2)
                elif i % 10 == 0:
                    time.sleep(0.3)
                    for c in juliets:
                        c.send(f"<r xmlns='{SM}'/>")
                    time.sleep(0.1)
        for c in juliets:
            c.acked(ROUNDS * BATCH, 60)
        errors = [e for c in juliets for e in c.elements if e.get("type") == "error"]
        self.assertEqual(errors, [])
        got = collections.Counter()

        def all_there():
            romeo.pump(0.05)
            for e in [e for e in romeo.elements if e.tag.endswith("message")]:
                got[e.findtext(f"{{{CLIENT}}}body")] += 1
                romeo.elements.remove(e)
            return set(sent) <= set(got)
        until(all_there, lambda: f"{len(set(sent) - set(got))} of {len(sent)} are lost: {sorted(set(sent) - set(got))[:5]}", 30)
        romeo.quiet(1)
        all_there()
        twice = {b: n for b, n in got.items() if n > 1}
        print(f"\n{role}: {len(sent)} sent, {len(doubtful)} not acknowledged at a kill, {len(twice)} delivered twice", flush=True)
        self.assertLess(len(doubtful), len(sent) / 2, "the test wants most to be acknowledged")
        self.assertEqual(twice, {})

    def test_s2s_out(self):
        self.outward("s2s")

    def test_router_out(self):
        self.outward("router")

    def test_s2s_in(self):
        juliet, romeo = self.jackdaw.client("juliet0", "in"), self.prosody.client("romeo", "in")
        for c in (juliet, romeo):
            self.addCleanup(c.close)
        got, sent = collections.Counter(), []
        for r in range(ROUNDS):
            # Prosody counts only from <enabled/> on, and what waits while it connects goes before: the stream must stand.
            romeo.message(juliet.full, f"warm {r}")
            juliet.got(f"warm {r}")
            time.sleep(0.5)
            for i in range(BATCH):
                sent.append(f"in {r} {i}")
                romeo.message(juliet.full, sent[-1])
                if i == BATCH // 2:
                    self.kill("s2s", 1 + r % 2)
                elif i % 10 == 0:
                    time.sleep(0.3)  # time for acknowledgements
            time.sleep(1)

        def all_there():
            juliet.pump(0.05)
            for e in [e for e in juliet.elements if e.tag.endswith("message")]:
                got[e.findtext(f"{{{CLIENT}}}body")] += 1
                juliet.elements.remove(e)
            return set(sent) <= set(got)
        until(all_there, lambda: f"{len(set(sent) - set(got))} of {len(sent)} are lost: {sorted(set(sent) - set(got))[:5]}", 30)
        twice = [b for b, n in got.items() if n > 1]
        print(f"\nin: {len(sent)} sent, {len(twice)} delivered twice", flush=True)
        self.assertEqual(twice, [])


if __name__ == "__main__":
    unittest.main()
