#!/usr/bin/python3
"""kill -9 of s2s processes and of routers while messages cross to and from Prosody (with its stream management on): every
message arrives, and arrives once. Prosody offers no resumption between servers; s2s/README.md says how it is done.
JACKDAW_TESTS_LONG=1: test_steady takes five minutes instead of half of one."""
import collections
import os
import pathlib
import signal
import time
import unittest
from xml.etree import ElementTree

from lab import CLIENT, SM, Case, Jackdaw, Prosody, free_port, until

ROUNDS = 2
BATCH = 60
STEADY_S = 300 if os.environ.get("JACKDAW_TESTS_LONG") else 30
TICK_S = 0.04  # one message from each sender
KILL_S = 5


class Kill(Case):
    peer = {}

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab", extra="smacks_s2s_resend = true", **cls.peer)
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=2)
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.start_dns()
        for i in range(4):
            cls.jackdaw.add(f"juliet{i}")
        for name in ("romeo", "romeo0", "romeo1"):
            cls.prosody.add(name)

    def kill(self, role, number):
        pid = self.jackdaw.pids(role)[f"{role}-{number}"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.jackdaw.pids(role).get(f"{role}-{number}") not in (None, pid), f"{role}-{number} is not started again")

    def with_witness(self, number):
        """The processes s2s-NUMBER and its witness."""
        pid = self.jackdaw.pids("s2s")[f"s2s-{number}"]
        children = [int(p) for t in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for p in t.read_text().split()]
        self.assertEqual(len(children), 1)
        return [*children, pid]

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

    def test_with_its_witness(self):
        """As when a host dies: nobody knows what was handed over. Nothing is lost."""
        juliet, romeo = Flow(self, self.jackdaw.client("juliet0", "host")), Flow(self, self.prosody.client("romeo", "host"))
        for r in range(4):
            both = self.with_witness(1 + r % 2)
            for i in range(60):
                juliet.say(romeo, f"host {r} {i}")
                if i == 30:
                    time.sleep(0.003 * r)
                    for pid in both:
                        os.kill(pid, signal.SIGKILL)
            until(lambda: self.jackdaw.pids("s2s").get(f"s2s-{1 + r % 2}") not in (None, both[-1]), "s2s is not started again")
            time.sleep(0.5)
        until(lambda: juliet.take() or romeo.take() or set(juliet.sent) <= set(romeo.got) | set(juliet.refused),
              lambda: f"lost: {sorted(set(juliet.sent) - set(romeo.got) - set(juliet.refused))}", 40)
        romeo.client.quiet(1)
        romeo.take()
        self.assertEqual(juliet.refused, [])
        print(f"\nwith its witness: {len(juliet.sent)} sent, {len(romeo.got)} arrived, 0 lost, {sum(n > 1 for n in romeo.got.values())} twice", flush=True)

    def test_steady(self):
        """Both ways at a steady rate, s2s-1 and s2s-2 killed in turn."""
        juliets = [Flow(self, self.jackdaw.client(f"juliet{i}", "steady")) for i in range(4)]
        romeos = [Flow(self, self.prosody.client(f"romeo{i}", "steady")) for i in range(2)]
        flows = juliets + romeos
        for c in flows:
            c.client.enable_sm()
        begin = now = time.monotonic()
        next_kill, kills, n = begin + 2, 0, 0
        while now < begin + STEADY_S:
            for i, f in enumerate(juliets):
                f.say(romeos[i % 2], f"out {n} from {i}")
            for i, f in enumerate(romeos):
                f.say(juliets[(n + i) % 4], f"in {n} from {i}")
            n += 1
            if n % 10 == 0:
                for f in flows:
                    f.client.send(f"<r xmlns='{SM}'/>")
            if now >= next_kill and now < begin + STEADY_S - KILL_S:
                self.kill("s2s", 1 + kills % 2)
                kills += 1
                next_kill = time.monotonic() + KILL_S
            for f in flows:
                f.take()
            time.sleep(max(0, now + TICK_S - time.monotonic()))
            now = time.monotonic()
        for name, senders, takers in (("to Prosody", juliets, romeos), ("from Prosody", romeos, juliets)):
            sent = {b for f in senders for b in f.sent}

            def all_there():
                for f in flows:
                    f.take()
                return sent <= {b for f in takers for b in f.got} | {b for f in senders for b in f.refused}
            try:
                until(all_there, "", 60)
            except AssertionError:
                pass  # the figures say it
            for f in senders:
                f.client.send(f"<r xmlns='{SM}'/>")
            for f in flows:
                f.client.quiet(0.5)  # what comes twice may come late
                f.take()
            got = sum((f.got for f in takers), collections.Counter())
            refused = {b for f in senders for b in f.refused}
            acknowledged = sum(min(f.acked, len(f.sent)) for f in senders)
            lost, twice = sent - set(got) - refused, [b for b, k in got.items() if k > 1]
            print(f"\nsteady {name}: {kills} kills, {len(sent)} sent, {acknowledged} acknowledged, {len(got)} arrived, "
                  f"{len(refused)} answered with an error, {len(lost)} lost, {len(twice)} twice", flush=True)
            self.assertEqual((sorted(lost)[:5], sorted(twice)[:5]), ([], []))
            # Whoever sends a stanza again on a connection that fails may answer it although the first copy has arrived.
            both = refused & set(got)
            for f in senders if both else ():
                print(*(f.errors[b] for b in f.refused if b in both), sep="\n", flush=True)
            self.assertLessEqual(len(both), len(sent) // 100, "arrived, and answered with an error")
            self.assertLessEqual(len(refused), len(sent) // 50)


class BothWays(Kill):
    """XEP-0288: one connection for what comes and what goes."""
    peer = {"bidi": True}
    test_router_out = test_with_its_witness = test_steady = None


class WithoutManagement(Kill):
    """A peer that never says what it has: once all the same."""
    peer = {"sm": False}
    test_router_out = test_with_its_witness = test_steady = test_s2s_in = None


class Flow:
    """A client that speaks and counts what it hears."""

    def __init__(self, case, client):
        self.client, self.sent, self.got, self.refused, self.acked = client, [], collections.Counter(), [], 0
        self.errors = {}
        case.addCleanup(client.close)

    def say(self, to, body):
        self.client.message(to.client.full, body, id=body)
        self.sent.append(body)

    def take(self):
        self.client.pump(0.001)
        for e in self.client.elements:
            if e.tag == f"{{{SM}}}a":
                self.acked = max(self.acked, int(e.get("h")))
            elif e.tag == f"{{{SM}}}r":
                self.client.send(f"<a xmlns='{SM}' h='{sum(self.got.values())}'/>")
            elif e.tag.endswith("message") and e.get("type") == "error":
                self.refused.append(e.get("id"))
                self.errors[e.get("id")] = ElementTree.tostring(e, "unicode")
            elif e.tag.endswith("message"):
                self.got[e.findtext(f"{{{CLIENT}}}body")] += 1
        self.client.elements.clear()


if __name__ == "__main__":
    unittest.main()
