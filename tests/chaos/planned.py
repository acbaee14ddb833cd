#!/usr/bin/python3
"""What a change costs a user, under a steady probe: routers that leave and join by plan, a connection manager that drains; then
routers and connection managers that are killed, one at a time.

Each probe client sends a message every few milliseconds, to itself and to its neighbour in turn. A user's pause is the longest
that one of its messages took around the change. Nothing may be lost, doubled or reordered, and nobody may see more than a resume.

    tests/chaos/planned.py [--rounds N] [--probes N] [--every MS] [--strict]      see --help"""
import argparse
import os
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True

import run as chaos  # noqa: E402
from judge import quantile, times_ms, wall  # noqa: E402

SETTLE_S = 1.5  # after a change
BEFORE_US, AFTER_US = 30000, 300000  # around the new epoch: messages sent then tell the pause
STUBBORN = 20
DRAIN_MAX_S = 3.0


def arguments():
    argv, sys.argv = sys.argv, sys.argv[:1]
    args = chaos.arguments()
    sys.argv = argv
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("--rounds", type=int, default=20 if os.environ.get("JACKDAW_TESTS_LONG") else 4, help="of a leave, a join, a kill of each kind")
    p.add_argument("--probes", type=int, default=48)
    p.add_argument("--every", type=float, default=16, help="milliseconds between two messages of a probe")
    p.add_argument("--parts", default="hand_over,drain,kill_routers,kill_managers", help="which, in that order")
    p.add_argument("--routers", type=int, default=3)
    p.add_argument(
        "--strict",
        action="store_true",
        default=bool(os.environ.get("JACKDAW_TESTS_LONG")),
        help="a pause over 50 ms is wrong (on a machine with nothing else to do); else a median over 150 ms",
    )
    p.add_argument("--port-offset", type=int, default=9200)
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    p.add_argument("--dir")
    p.add_argument("--keep", action="store_true")
    own = p.parse_args()
    vars(args).update(vars(own))
    args.clients, args.plain, args.c2s, args.s2s, args.away = own.probes, 0.0, 3, 0, 0.0
    args.join, args.rolling, args.kill, args.workers = True, True, "", 2
    args.restart = (1e9, 1e9)  # what leaves stays away until it is started here
    return args


class Stubborn:
    """Clients that log in and then neither read nor close."""

    def __init__(self, port, count):
        self.sockets = [self.login(port, i) for i in range(count)]

    @staticmethod
    def login(port, i):
        import base64

        s = socket.create_connection(("127.0.0.1", port), 10)
        head = f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{chaos.DOMAIN}' version='1.0'>"
        token = base64.b64encode(f"\0u{i}\0pw{i}".encode()).decode()
        steps = (
            (head, b"</stream:features>"),
            (f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>", b"<success"),
            (head, b"</stream:features>"),
            ("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", b"</iq>"),
        )
        for say, wanted in steps:
            s.sendall(say.encode())
            got = b""
            while wanted not in got:
                more = s.recv(4096)
                if not more:
                    raise SystemExit(f"a stubborn client could not log in: {got!r}")
                got += more
        return s

    def close(self):
        for s in self.sockets:
            s.close()


class Planned(chaos.Run):
    def __init__(self, args):
        super().__init__(args)
        self.changes = []  # (what, microseconds, {users that moved})

    def change(self, what, name, act, done):
        """One planned change: who has moved by it, and how long it took."""
        before = self.cluster.homes(self.args.clients)
        self.cluster.sleep(0.5)
        at = time.monotonic_ns() // 1000
        act()
        self.tell(f"{what} {name}")
        self.wait(f"{what} of {name}", 15, done)
        self.cluster.sleep(SETTLE_S)
        after = self.cluster.homes(self.args.clients)
        moved = {i for i in before if before[i] != after.get(i)}
        share = len(moved) / max(len(before), 1)
        self.changes.append((what, self.epoch_after(at), moved))
        self.note(f"{what} of {name}: {len(moved)} of {len(before)} users moved")
        if share > 1.5 / (self.args.routers + 1) or not moved:
            self.violations.append(f"{what} of {name} moved {len(moved)} of {len(before)} users")

    def epoch_after(self, at):
        """When router-1, which stays, took the first new epoch after a time: both in microseconds of the monotonic clock."""
        earliest = wall(at)
        for line in (self.dir / "log/router-1.log").read_text().splitlines():
            stamp = line.split(" ", 1)[0].partition("T")[2].rstrip("Z")
            if " core epoch=" in line and stamp >= earliest:
                h, m, s = stamp.split(":")
                now = time.time()
                then = now - now % 86400 + int(h) * 3600 + int(m) * 60 + float(s)
                return int((then - now + time.monotonic()) * 1e6)
        return at

    def start_process(self, name):
        self.cluster.killed.pop(name, None)
        self.cluster.processes[name].start()

    def ready(self, name):
        p = self.cluster.processes[name]
        return p.popen is not None and not p.not_ready()

    def ended(self, name):
        return self.cluster.processes[name].popen is None

    def hand_over(self):
        cluster = self.cluster
        name, cluster.late = cluster.late, None
        for _ in range(self.args.rounds):
            self.change("join", name, lambda: self.start_process(name), lambda: self.ready(name))
            self.change("leave", name, lambda: cluster.kill(name, signal.SIGTERM), lambda: self.ended(name))

    def kill_routers(self):
        """From the kill to the first message that the successor delivers."""
        for k in range(self.args.rounds):
            name = f"router-{1 + k % self.args.routers}"
            users = {i for i, home in self.cluster.homes(self.args.clients).items() if home == name}
            self.kills.append((time.monotonic_ns() // 1000, name, users))
            self.kill_and_start(name)

    def kill_managers(self):
        for k in range(self.args.rounds):
            name = f"c2s-{1 + k % self.args.c2s}"
            self.kills.append((time.monotonic_ns() // 1000, name, set()))
            self.kill_and_start(name)
            self.wait("all connected", 15, self.all_connected)

    def all_connected(self):
        total, _, _ = self.crowd.state()
        return total["connected"] == total["clients"]

    def kill_and_start(self, name):
        self.cluster.kill(name)
        self.tell(f"kill {name}")
        self.cluster.sleep(1.5)
        self.start_process(name)
        self.wait(f"{name} back", 15, lambda: self.ready(name))
        self.cluster.sleep(3)  # the judge wants kills of routers far from those of connection managers

    def drain(self):
        cluster = self.cluster
        name = f"c2s-{self.args.c2s}"
        stubborn = Stubborn(chaos.deploy_plan.OWN_PORT + self.args.c2s + self.args.port_offset, STUBBORN)
        begun = time.monotonic()
        cluster.kill(name, signal.SIGTERM)
        self.tell(f"drain {name}")
        self.wait(f"drain of {name}", 15, lambda: self.ended(name))
        took = time.monotonic() - begun
        self.counts["drain_of_c2s"] = f"{took:.1f} s, {STUBBORN} of its clients neither read nor close"
        if took > DRAIN_MAX_S:
            self.violations.append(f"a c2s took {took:.1f} s to drain")
        stubborn.close()
        self.start_process(name)
        self.wait(f"{name} back", 15, lambda: self.ready(name))

    def chaos(self):
        crowd = self.crowd
        crowd.ask("go")
        self.wait("all connected", 60, self.quiet)
        crowd.ask("probe", self.args.every / 1000)
        self.cluster.sleep(1)
        began = time.monotonic_ns() // 1000
        self.cluster.sleep(SETTLE_S)
        self.changes.append(("nothing", began, set(range(self.args.clients))))
        for part in self.args.parts.split(","):
            getattr(self, part)()
        crowd.ask("probe", 0)
        self.wait("everything acknowledged", chaos.CONVERGE_MAX_S, self.quiet)

    def judge(self, results):
        super().judge(results)
        pauses = {}
        for what, at, moved in self.changes:
            worst = dict.fromkeys(range(self.args.clients), 0)
            for r in results:
                for sender, _, sent, got in (x for x in r["got"] if x is not None):
                    if at - BEFORE_US <= sent < at + AFTER_US:
                        for i in {sender, r["index"]}:
                            worst[i] = max(worst[i], got - sent)
            for i, t in worst.items():
                pauses.setdefault((what, i in moved), []).append(t)
        for (what, moved), values in sorted(pauses.items(), key=str):
            self.counts[f"pause_{what}_{'of_the_moved' if moved else 'of_others'}"] = times_ms(values)
            if max(values) > (500000 if self.args.strict else 2000000):
                self.violations.append(f"a message took {max(values) / 1000:.0f} ms at a {what}")
            limit = quantile(values, 0.99 if self.args.strict else 0.5)
            if limit > (50000 if self.args.strict else 150000):
                self.violations.append(f"{what}: the pause of a user was {limit / 1000:.0f} ms ({'99 %' if self.args.strict else 'median'})")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(Planned(arguments())())
