#!/usr/bin/python3
"""Server streams resumed (XEP-0198) between two clusters: their connections are cut again and again, s2s processes of either
are killed, another server claims a stream, and every message arrives once."""
import collections
import os
import select
import signal
import socket
import struct
import threading
import time
import unittest

from lab import CLIENT, SERVER, SM, Case, Jackdaw, free_port, until
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


if __name__ == "__main__":
    unittest.main()
