#!/usr/bin/python3
"""Server streams resumed (XEP-0198) between two clusters: their connections are cut again and again, s2s processes of either
are killed, another server claims a stream, and every message arrives once."""
import base64
import collections
import os
import select
import signal
import socket
import struct
import threading
import time
import unittest

from lab import BIDI, CLIENT, SASL, SERVER, SM, STREAM, TLS, Case, Jackdaw, Peer, free_port, until
from test_hostile import FakeServer, header
from test_kill import Flow


class Cutter:
    """A port before another one; cut() resets all connections through it."""

    def __init__(self, port):
        self.to, self.pairs, self.lock, self.ends = port, {}, threading.Lock(), False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ends:
            with self.lock:
                socks = [self.listener, *self.pairs]
            try:
                ready = select.select(socks, [], [], 0.02)[0]
            except (OSError, ValueError):
                continue  # cut meanwhile
            with self.lock:
                for s in ready:
                    if s is self.listener:
                        a = s.accept()[0]
                        b = socket.create_connection(("127.0.0.1", self.to))
                        self.pairs[a], self.pairs[b] = b, a
                    elif s in self.pairs:
                        self.pass_on(s)

    def pass_on(self, s):
        try:
            data = s.recv(65536)
            if data:
                self.pairs[s].sendall(data)
                return
        except OSError:
            pass
        for one in (s, self.pairs.pop(s)):
            self.pairs.pop(one, None)
            one.close()

    def cut(self):
        with self.lock:
            n = len(self.pairs)
            for s in self.pairs:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
            self.pairs.clear()
            return n

    def close(self):
        self.ends = True
        self.thread.join()
        self.cut()
        self.listener.close()


class Resume(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        # The connection back is not used for what goes there: it must break, too.
        cls.one, cls.two = (Jackdaw(lab, f"{n}.lab", s2s=2, routers=1) for n in ("one", "two"))
        cls.cutters = [Cutter(j.port) for j in (cls.one, cls.two)]
        for j, c in zip((cls.one, cls.two), cls.cutters):
            lab.serve(j.domain, c.port)
            j.add("juliet")
            j.add("romeo")
        lab.start_dns()

    @classmethod
    def tearDownClass(cls):
        for c in cls.cutters:
            c.close()
        super().tearDownClass()

    def figure(self, name):
        return sum(j.stats(f"jackdaw_s2s_{name}") for j in (self.one, self.two))

    def flow(self, name, seconds, trouble):
        """Messages both ways, with trouble() every two seconds; all arrive once."""
        left, right = ([Flow(self, j.client(u, name)) for u in ("juliet", "romeo")] for j in (self.one, self.two))
        flows = left + right
        for f in flows:
            f.client.enable_sm()
        begin = now = time.monotonic()
        next_trouble, n = begin + 1, 0
        while now < begin + seconds:
            for side, other in ((left, right), (right, left)):
                for i, f in enumerate(side):
                    f.say(other[(n + i) % 2], f"{name} {n} {f.client.full}")
            n += 1
            if now > next_trouble and now < begin + seconds - 2:
                trouble()
                next_trouble = time.monotonic() + 2
            for f in flows:
                f.take()
            time.sleep(max(0, now + 0.02 - time.monotonic()))
            now = time.monotonic()
        sent = {b for f in flows for b in f.sent}

        def all_there():
            for f in flows:
                f.take()
            return sent <= {b for f in flows for b in f.got}
        try:
            until(all_there, "", 30)
        except AssertionError:
            pass  # the figures say it
        for f in flows:
            f.client.quiet(0.5)
            f.take()
        got = sum((f.got for f in flows), collections.Counter())
        lost, twice = sent - set(got), [b for b, k in got.items() if k > 1]
        print(f"\n{name}: {len(sent)} sent, {len(got)} arrived, {len(lost)} lost, {len(twice)} twice", flush=True)
        self.assertEqual((sorted(lost)[:5], sorted(twice)[:5]), ([], []))

    def test_1_cut(self):
        before = self.figure('resumed_total{direction="in"}')
        cut = []
        self.flow("cut", 14, lambda: cut.append(sum(c.cut() for c in self.cutters)))
        resumed = self.figure('resumed_total{direction="in"}') - before
        print(f"{len(cut)} cuts, {resumed} streams resumed, {self.figure('resume_failures_total')} not")
        self.assertGreater(resumed, len(cut) / 2)

    def test_2_killed(self):
        victims = [(j, n) for n in (1, 2) for j in (self.one, self.two)]

        def kill():
            if victims:
                j, n = victims.pop(0)
                pid = j.pids()[f"s2s-{n}"]
                os.kill(pid, signal.SIGKILL)
                until(lambda: j.pids().get(f"s2s-{n}") not in (None, pid), f"s2s-{n} is not started again")
        self.flow("killed", 14, kill)


class Hand(Case):
    """A peer that is no Jackdaw and does every step by hand."""
    processes = 2

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=cls.processes, routers=1)
        cls.behave = None
        cls.server = FakeServer(lambda p: cls.behave(p))
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        for domain in ("third.lab", "fourth.lab"):
            lab.serve(domain, cls.server.port)
            lab.certificate(domain, [domain])
        lab.start_dns()
        cls.jackdaw.add("juliet")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        super().tearDownClass()

    def proven(self, domain="third.lab", bidi=False):
        """A stream of that domain that SASL has proven; bidi: one that goes both ways."""
        p = Peer(socket.create_connection(("127.0.0.1", self.jackdaw.port)))
        self.addCleanup(p.close)
        p.send(header(domain, "jackdaw.lab"))
        p.expect(f"{{{STREAM}}}features")
        p.start_tls(certificate=self.lab.pair(domain), authority=self.lab.ca)
        p.send(header(domain, "jackdaw.lab"))
        p.expect(f"{{{STREAM}}}features")
        if bidi:
            p.send(f"<bidi xmlns='{BIDI}'/>")
        p.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>{base64.b64encode(domain.encode()).decode()}</auth>")
        p.expect(f"{{{SASL}}}success")
        p.restart()
        p.send(header(domain, "jackdaw.lab"))
        self.assertIsNotNone(p.expect(f"{{{STREAM}}}features").find(f"{{{SM}}}sm"))
        return p

    def enabled(self):
        p = self.proven()
        p.send(f"<enable xmlns='{SM}' resume='true'/>")
        e = p.expect(f"{{{SM}}}enabled")
        self.assertEqual(e.get("resume"), "true")
        self.assertGreater(int(e.get("max")), 0)
        return p, e.get("id")

    def say(self, p, *bodies):
        for b in bodies:
            p.send(f"<message from='romeo@third.lab/x' to='{self.juliet.full}' type='chat'><body>{b}</body></message>")

    def h(self, p, wanted):
        def have():
            p.send(f"<r xmlns='{SM}'/>")
            return int(p.expect(f"{{{SM}}}a").get("h")) == wanted
        until(have, f"h never is {wanted}")

    def resume(self, p, id, h=0):
        p.send(f"<resume xmlns='{SM}' previd='{id}' h='{h}'/>")
        return p.expect(lambda e: e.tag in (f"{{{SM}}}resumed", f"{{{SM}}}failed"))

    def refused(self, p, id, condition="item-not-found"):
        e = self.resume(p, id)
        self.assertEqual((e.tag, e[0].tag.partition("}")[2]), (f"{{{SM}}}failed", condition))

    def setUp(self):
        self.juliet = self.jackdaw.client("juliet")
        self.addCleanup(self.juliet.close)

    def heard(self, *bodies):
        self.juliet.got(bodies[-1])
        self.juliet.quiet(0.5)
        heard = [e.findtext(f"{{{CLIENT}}}body") for e in self.juliet.elements if e.tag.endswith("message")]
        self.assertEqual(heard, list(bodies[:-1]))


class ByHand(Hand):
    def test_1_taken_up(self):
        """Cut, killed, or not even known to be broken; on whichever process."""
        p, id = self.enabled()
        self.say(p, "a1", "a2", "a3")
        self.h(p, 3)
        said = 3
        for how in ("cut", "killed", "open", "cut"):
            self.say(p, f"{how} {said}")
            if how == "cut":
                p.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                p.close()
            elif how == "killed":
                for pid in self.jackdaw.pids().values():
                    os.kill(pid, signal.SIGKILL)
                until(lambda: len(self.jackdaw.pids()) == 2 and self.jackdaw.pids().values() != pid, "s2s is not started again")
                time.sleep(1)
            old, p = p, self.proven()
            e = self.resume(p, id)
            self.assertEqual((e.tag, e.get("previd")), (f"{{{SM}}}resumed", id))
            self.assertIn(int(e.get("h")), (said, said + 1))
            if int(e.get("h")) == said:
                self.say(p, f"{how} {said}")
            said += 1
            self.h(p, said)
            if how == "open":
                old.stream_error("conflict")
        self.heard("a1", "a2", "a3", "cut 3", "killed 4", "open 5", "cut 6")

    def test_2_not_taken_up(self):
        p, id = self.enabled()
        self.say(p, "b1")
        self.h(p, 1)
        self.refused(self.proven("fourth.lab"), id)
        stranger = self.proven()
        self.refused(stranger, "0" * 32)
        self.refused(stranger, "../x")
        stranger.send(f"<enable xmlns='{SM}'/>")  # and goes on without
        stranger.expect(f"{{{SM}}}enabled")
        self.refused(stranger, id, "unexpected-request")
        again = self.proven()
        self.assertEqual(self.resume(again, id).get("h"), "1")
        again.send("</stream:stream>")
        until(lambda: again.quiet(0.1) or again.closed, "no end")
        self.refused(self.proven(), id)
        self.heard("b1")

    def test_3_asked_of_others(self):
        """A server that resumes: what it says that it has does not come again, the rest does; one that has forgotten gets all."""
        got, requests, forgetful, base = [], [], [], [0]

        def behave(p):
            p.wait_header()
            p.send(header("third.lab", "jackdaw.lab", "x") + f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>")
            p.accept_tls(self.lab.pair("third.lab"))
            p.wait_header()
            p.send(header("third.lab", "jackdaw.lab", "y")
                   + f"<stream:features><mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>")
            p.expect(f"{{{SASL}}}auth")
            p.send(f"<success xmlns='{SASL}'/>")
            p.restart()
            p.wait_header()
            p.send(header("third.lab", "jackdaw.lab", "z") + f"<stream:features><sm xmlns='{SM}'/></stream:features>")
            while True:
                e = p.expect(lambda e: True, limit_s=60)
                if e.tag == f"{{{SM}}}resume":
                    requests.append((e.get("previd"), e.get("h")))
                    p.send(f"<failed xmlns='{SM}'/>" if forgetful else f"<resumed xmlns='{SM}' previd='one&amp;only' h='{len(got) - base[0]}'/>")
                elif e.tag == f"{{{SM}}}enable":
                    base[0] = len(got)
                    p.send(f"<enabled xmlns='{SM}' id='one&amp;only' resume='{e.get('resume')}'/>")
                elif e.tag.endswith("message"):
                    got.append(e.findtext(f"{{{SERVER}}}body"))
                    if got[-1] in ("c2", "c5") and got.count(got[-1]) == 1:  # it has it, and never says so
                        return
                elif e.tag == f"{{{SM}}}r" and got[-1:] not in (["c1"], ["c4"]):
                    p.send(f"<a xmlns='{SM}' h='{len(got) - base[0]}'/>")

        type(self).behave = staticmethod(behave)
        for b in ("c1", "c2", "c3"):
            self.juliet.message("romeo@third.lab/x", b)
        until(lambda: "c3" in got, lambda: f"{got} {requests}")
        self.assertEqual(got, ["c1", "c2", "c3"])
        self.assertEqual(requests, [("one&only", "0")])
        forgetful.append(True)
        for b in ("c4", "c5", "c6"):
            self.juliet.message("romeo@third.lab/x", b)
        until(lambda: "c6" in got, lambda: f"{got} {requests}")
        self.assertEqual(got, ["c1", "c2", "c3", "c4", "c5", "c4", "c5", "c6"])
        self.assertEqual(requests, [("one&only", "0")] * 2)


class Anew(Hand):
    """The peer begins a stream that goes both ways before ours, which broke, is resumed."""
    processes = 1

    def our_stream(self, p, domain):
        """Accepts a stream of Jackdaw's, as far as its features."""
        p.wait_header()
        p.send(header(domain, "jackdaw.lab", "x") + f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>")
        p.accept_tls(self.lab.pair(domain))
        p.wait_header()
        p.send(header(domain, "jackdaw.lab", "y")
               + f"<stream:features><mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>")
        p.expect(f"{{{SASL}}}auth")
        p.send(f"<success xmlns='{SASL}'/>")
        p.restart()
        p.wait_header()
        p.send(header(domain, "jackdaw.lab", "z") + f"<stream:features><sm xmlns='{SM}'/></stream:features>")

    def come_anew(self, domain, body, answer):
        """Our stream breaks with a stanza that the peer has and has not acknowledged, and before we are there again the peer
        begins a stream that goes both ways. The n-th of our further streams gets answer(p, n). Returns the peer's."""
        got, tries = [], []

        def behave(p):
            if got:
                tries.append(p)
                answer(p, len(tries), got)
                return
            self.our_stream(p, domain)
            p.expect(f"{{{SM}}}enable")
            p.send(f"<enabled xmlns='{SM}' id='one' resume='true'/>")
            got.append(p.expect(f"{{{SERVER}}}message").findtext(f"{{{SERVER}}}body"))
            p.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        type(self).behave = staticmethod(behave)
        self.juliet.message(f"romeo@{domain}/x", body)
        until(lambda: got == [body], lambda: f"{got}")
        p = self.proven(domain, bidi=True)
        p.send(f"<enable xmlns='{SM}' resume='true'/>")
        p.expect(f"{{{SM}}}enabled")
        return p, got, tries

    def bodies(self, p):
        p.quiet(0.5)
        return [e.findtext(f"{{{SERVER}}}body") for e in p.elements if e.tag.endswith("message")]

    def test_1_ours_is_resumed(self):
        """Only resuming our stream can tell what of it the peer has: that it has begun another one is no reason to say it again."""
        def answer(p, n, got):
            self.our_stream(p, "third.lab")
            p.expect(f"{{{SM}}}resume")
            p.send(f"<resumed xmlns='{SM}' previd='one' h='1'/>")
            got.append(p.expect(f"{{{SERVER}}}message", limit_s=30).findtext(f"{{{SERVER}}}body"))
            p.quiet(3)

        p, got, tries = self.come_anew("third.lab", "d1", answer)
        until(lambda: tries, "no stream is resumed")
        self.juliet.message("romeo@third.lab/x", "d2")
        until(lambda: "d2" in got, lambda: f"{got}")
        self.assertEqual((got, self.bodies(p)), (["d1", "d2"], []))

    def test_2_only_the_peer_can_come(self):
        """When our stream cannot be made again, the peer's carries what is left of it."""
        p, got, tries = self.come_anew("fourth.lab", "e1", lambda p, n, got: p.close())
        until(lambda: "e1" in self.bodies(p), lambda: f"{got} {len(tries)}")
        self.juliet.message("romeo@fourth.lab/x", "e2")
        until(lambda: self.bodies(p) == ["e1", "e2"], lambda: f"{self.bodies(p)}")


if __name__ == "__main__":
    unittest.main()
