#!/usr/bin/python3
"""Chaos: a cluster of real processes with a real Redis and hundreds of clients under load, processes killed at random; then
everything is counted. Exit code 0: nothing acknowledged was lost, nothing came twice or out of order, presence is right.

    tests/chaos/run.py [--seconds S] [--clients N] [--rate R] [--kill ROLES] [--rolling] ...      see --help

JACKDAW_BIN=DIR takes the programs from DIR. The directory with the logs (in /dev/shm) stays when something was wrong (or with --keep)."""
import argparse
import collections
import multiprocessing
import os
import pathlib
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "deploy/supervise"))

import plan as deploy_plan  # noqa: E402
import processes  # noqa: E402
from judge import judge, wall  # noqa: E402
from worker import work  # noqa: E402

RESUME_TIMEOUT_S = 30
CONVERGE_MAX_S = 30
DOMAIN = "localhost"


def arguments():
    long = bool(os.environ.get("JACKDAW_TESTS_LONG"))
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("--seconds", type=float, default=300 if long else 20, help="of load with kills, or with restarts (at least one round)")
    p.add_argument("--clients", type=int, default=300 if long else 100)
    p.add_argument("--plain", type=float, default=0.05, help="share of the clients without stream management (presence only)")
    p.add_argument("--rate", type=float, default=3300 if long else 500, help="messages a second")
    p.add_argument("--away", type=float, default=0.1, help="share of the clients that is away at any time")
    p.add_argument("--roam", type=float, default=0.4, help="share of those who leave their old connection open and deaf")
    p.add_argument("--kill", default="c2s,router,s2s,redis", help="roles, or names of processes, to kill; '' = none")
    p.add_argument("--every", type=float, default=1.0, help="seconds between kills")
    p.add_argument("--together", type=float, default=0.1, help="share of kills that take two processes at once")
    p.add_argument("--rolling", action="store_true", help="end (SIGTERM) and start one process after the other in place of kills")
    p.add_argument("--join", action="store_true", help="one router joins in the middle, in place of kills")
    p.add_argument("--routers", type=int, default=3)
    p.add_argument("--c2s", type=int, default=2)
    p.add_argument("--s2s", type=int, default=1)
    p.add_argument("--workers", type=int, default=2, help="processes of clients")
    p.add_argument("--fsync", choices=("everysec", "always"), default="everysec")
    p.add_argument("--restart", type=float, nargs=2, default=(0.1, 0.6), metavar="S", help="a dead process starts again after so long")
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--port-offset", type=int, default=9000)
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    p.add_argument("--dir", help="default: a new one in /tmp")
    p.add_argument("--keep", action="store_true")
    p.add_argument("--may-answer", default="", metavar="CONDITION", help="messages may, and some must, come back with that stanza error")
    p.add_argument("--history", action="store_true", help="Redis never rewrites its append-only file: it tells every write in order")
    return p.parse_args()


class Cluster:
    """The processes of deploy/run, watched from here: what dies starts again after a delay of our choice."""

    def __init__(self, args, directory, rng):
        self.args, self.rng = args, rng
        settings = [
            "c2s.require_tls=false",
            "limits.enabled=false",
            f"c2s.resume_timeout_s={RESUME_TIMEOUT_S}",
            "log.level=info",
        ] + args.set
        argv = ["--dir", str(directory), "--domain", DOMAIN, "--port-offset", str(args.port_offset)]
        argv += ["--routers", str(args.routers + args.join), "--c2s", str(args.c2s), "--s2s", str(args.s2s)]
        for s in settings:
            argv += ["--set", s]
        self.plan = deploy_plan.Plan(deploy_plan.parse_arguments(argv))
        self.plan.make_directories()
        self.plan.make()
        for spec in self.plan.specs:
            if spec.stats is None and args.fsync != "everysec":
                spec.argv = [args.fsync if a == "everysec" else a for a in spec.argv]
            if spec.stats is None and args.history:
                spec.argv += ["--auto-aof-rewrite-percentage", "0"]
        self.late = f"router-{args.routers + 1}" if args.join else None
        self.processes = {s.name: processes.Process(self.plan, s) for s in self.plan.specs}
        self.killed = {}  # name -> when it shall start again
        self.odd = []  # ends that nobody asked for

    def start(self):
        for stage in (0, 1):
            mine = [p for n, p in self.processes.items() if (p.spec.stage > 0) == (stage > 0) and n != self.late]
            for p in mine:
                p.start()
            deadline = time.monotonic() + 60
            while any(p.not_ready() for p in mine):
                if time.monotonic() > deadline:
                    raise SystemExit("the cluster did not start:\n" + "\n".join(f"{p.spec.name}: {p.not_ready()}\n{p.last_words()}" for p in mine))
                time.sleep(0.05)

    def names(self, kinds):
        """The names of processes that run now and are meant by a list of roles and names. A Redis that still reads its file is
        none: killed again and again while it does, it would never serve, and nothing else would be tested."""
        return [
            n
            for n, p in self.processes.items()
            if p.popen is not None
            and n not in self.killed
            and (n in kinds or n.split("-")[0] in kinds)
            and (p.spec.stats is not None or not p.not_ready())
        ]

    def kill(self, name, number=signal.SIGKILL):
        self.killed[name] = time.monotonic() + self.rng.uniform(*self.args.restart)
        self.processes[name].popen.send_signal(number)

    def tend(self):
        for name, p in self.processes.items():
            if p.popen is None or p.popen.poll() is None:
                continue
            code = p.popen.returncode
            asked = name in self.killed
            if not asked or code not in (0, -signal.SIGKILL):
                self.odd.append(f"{name} ended with {code} (asked: {asked})\n{p.last_words()}")
            p.reap()
            if not asked:
                self.killed[name] = time.monotonic() + 0.3
        for name in [n for n, at in self.killed.items() if self.processes[n].popen is None and at <= time.monotonic()]:
            del self.killed[name]
            self.processes[name].start()

    def sleep(self, seconds):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(0.02, left))
        self.tend()

    def all_ready(self):
        return not self.killed and all(not p.not_ready() for n, p in self.processes.items() if n != self.late)

    def ctl(self, *argv):
        return subprocess.run([str(self.plan.bin / "jackdawctl"), "--dir", str(self.plan.dir), *argv], capture_output=True, text=True)

    def homes(self, count):
        """Index of a user -> the name of its router; empty when the cluster does not say."""
        if "redis" in self.killed:
            return {}
        done = self.ctl("--timeout", "1", "where", *(f"u{i}@{DOMAIN}" for i in range(count)))
        out = {}
        for line in done.stdout.splitlines():
            jid, _, home = line.partition(" ")
            if jid.startswith("u") and "@" in jid:
                out[int(jid[1 : jid.index("@")])] = home.strip()
        return out

    def stop(self):
        for stage in (2, 1, 0):
            mine = [p for p in self.processes.values() if p.spec.stage == stage and p.popen is not None]
            for p in mine:
                p.signal(signal.SIGTERM)
            deadline = time.monotonic() + 8
            while any(p.popen.poll() is None for p in mine):
                if time.monotonic() > deadline:
                    for p in mine:
                        if p.popen.poll() is None:
                            self.odd.append(f"{p.spec.name} did not end within 8 s")
                            p.popen.kill()
                    deadline = time.monotonic() + 5
                time.sleep(0.02)
            for p in mine:
                if p.popen.returncode not in (0, -signal.SIGKILL):
                    self.odd.append(f"{p.spec.name} ended with {p.popen.returncode}\n{p.last_words()}")
                p.reap()
        self.plan.clean()


class Crowd:
    """The workers and their clients."""

    def __init__(self, args, rng):
        self.args = args
        everybody = list(range(args.clients))
        self.plain = frozenset(rng.sample(everybody, int(args.clients * args.plain)))
        nodes = [("127.0.0.1", deploy_plan.OWN_PORT + i + 1 + args.port_offset) for i in range(args.c2s)]
        fork = multiprocessing.get_context("fork")
        self.pipes, self.children = [], []
        for w in range(args.workers):
            here, there = fork.Pipe()
            mine = everybody[w :: args.workers]
            child = fork.Process(target=work, args=(there, mine, args.clients, DOMAIN, nodes, args.seed * 100 + w, self.plain), daemon=True)
            child.start()
            there.close()
            self.pipes.append(here)
            self.children.append(child)

    def ask(self, *command):
        for p in self.pipes:
            p.send(command)
        return [p.recv() for p in self.pipes]

    def state(self):
        total = collections.Counter()
        presence, status = {}, {}
        for s in self.ask("state"):
            presence.update(s.pop("presence"))
            status.update(s.pop("status"))
            total.update(s)
        return total, presence, status

    def wrong_presence(self, presence, status):
        n = self.args.clients
        wrong = []
        for i, seen in presence.items():
            for c in sorted({(i + d) % n for d in (-3, -1, 1, 3)} - {i}):
                if seen.get(c) != status[c]:
                    wrong.append(f"u{i} believes u{c} {show(seen.get(c))}, it is {show(status[c])}")
        return wrong

    def end(self):
        for p in self.pipes:
            p.send(("end",))
        for c in self.children:
            c.join(5)


def show(status):
    return "unavailable" if status is None else f"available with {status}"


class Run:
    def __init__(self, args):
        self.args = args
        self.rng = random.Random(args.seed)
        # In memory where there is such a place: Redis keeps what it has answered in its process while an fsync lasts, so on a
        # busy disk a kill would lose what "its file intact" promises (README.md).
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
        self.dir = pathlib.Path(args.dir or tempfile.mkdtemp(prefix="jd-chaos-", dir=place))
        for old in ("redis", "log"):  # of an earlier run
            shutil.rmtree(self.dir / old, ignore_errors=True)
        self.kills = []  # (microseconds, name, {users of a router})
        self.counts = {}
        self.violations = []

    def note(self, text):
        print(f"{time.monotonic() - self.begun:6.1f}  {text}", flush=True)

    def tell(self, text):
        """Into the log of the run, with a time as in the other logs."""
        with open(self.dir / "log/chaos.log", "a") as f:
            f.write(f"{wall(time.monotonic_ns() // 1000)} {text}\n")

    def wait(self, what, seconds, done):
        """True when done() came true in time."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                self.violations.append(f"{what}: not within {seconds} s")
                self.note(self.violations[-1])
                return False
            self.cluster.sleep(0.2)
        return True

    def quiet(self):
        total, _, _ = self.crowd.state()
        self.last = total
        return total["connected"] == total["clients"] and total["unacked"] == 0

    def presence_is_right(self):
        _, presence, status = self.crowd.state()
        self.wrong = self.crowd.wrong_presence(presence, status)
        return not self.wrong

    def kill_some(self, seconds):
        kinds = [k for k in self.args.kill.split(",") if k]
        end, due = time.monotonic() + seconds, time.monotonic() + self.args.every
        while time.monotonic() < end:
            self.cluster.sleep(min(0.05, max(end - time.monotonic(), 0)))
            if time.monotonic() < due or not kinds:
                continue
            due = max(due + self.args.every, time.monotonic())
            self.kill_one(kinds)
            if self.rng.random() < self.args.together:
                self.kill_one(kinds)

    def kill_one(self, kinds):
        # A role first, then one of its processes: Redis is as often hit as all routers together.
        by_role = collections.defaultdict(list)
        for n in self.cluster.names(kinds):
            by_role[n.split("-")[0]].append(n)
        if not by_role:
            return
        name = self.rng.choice(by_role[self.rng.choice(sorted(by_role))])
        users = set()
        if name.startswith("router"):
            users = {i for i, home in self.cluster.homes(self.args.clients).items() if home == name}
        self.kills.append((time.monotonic_ns() // 1000, name, users))
        self.cluster.kill(name)
        self.tell(f"kill {name}")

    def roll(self):
        """SIGTERM to one process after the other, round after round."""
        end = time.monotonic() + self.args.seconds
        while not self.kills or time.monotonic() < end:
            for name in sorted(n for n in self.cluster.processes if not n.startswith("redis")):
                self.kills.append((time.monotonic_ns() // 1000, name, set()))
                self.cluster.kill(name, signal.SIGTERM)
                self.wait(f"{name} back after SIGTERM", 15, self.cluster.all_ready)
                self.cluster.sleep(1)

    def vanish(self):
        """A tenth goes for good, half of them without a word, while their processes die with them."""
        who = [(i, self.rng.random() < 0.3) for i in self.rng.sample(range(self.args.clients), max(self.args.clients // 10, 1))]
        self.crowd.ask("vanish", who)
        self.tell("vanish " + " ".join(f"u{i}{' politely' * politely}" for i, politely in who))
        kinds = [k for k in self.args.kill.split(",") if k]
        for _ in range(2 if kinds and not self.args.rolling and not self.args.join else 0):
            for kind in ("c2s", "router"):
                names = self.cluster.names([kind]) if kind in kinds else []
                if names:
                    name = self.rng.choice(names)
                    self.cluster.kill(name)
                    self.tell(f"kill {name}")
            self.cluster.sleep(1)

    def chaos(self):
        crowd, args = self.crowd, self.args
        crowd.ask("go")
        self.wait("all connected", 60, self.quiet)
        crowd.ask("subscribe")
        self.wait("presence after the start", 30, self.presence_is_right)
        if self.violations:
            return
        self.note(f"{args.clients} clients are there and see each other")
        crowd.ask("rate", args.rate / args.workers)
        if not args.join:
            crowd.ask("chaos", args.away, args.roam)
        loaded = time.monotonic()
        before = self.last["sent"]
        if args.rolling:
            self.roll()
        elif args.join:
            self.cluster.sleep(args.seconds / 2)
            moved = self.cluster.homes(args.clients)
            self.kills.append((time.monotonic_ns() // 1000, "join", set()))
            self.cluster.processes[self.cluster.late].start()
            self.cluster.late = None
            self.cluster.sleep(args.seconds / 2)
            now = self.cluster.homes(args.clients)
            count = sum(moved[i] != now.get(i) for i in moved)
            self.counts["users_moved_by_join"] = f"{count} of {args.clients}, to the router number {args.routers + 1}"
            if count > 1.5 / (args.routers + 1) * args.clients or count == 0:
                self.violations.append(f"a router that joined moved {count} of {args.clients} users")
        else:
            self.kill_some(args.seconds)
        total, _, _ = crowd.state()
        self.counts["load_seconds"] = round(time.monotonic() - loaded, 1)
        self.counts["messages_per_second"] = round((total["sent"] - before) / (time.monotonic() - loaded))
        crowd.ask("rate", 0)
        crowd.ask("chaos", 0, 0)
        self.note("no more load, no more kills")
        self.wait("all processes back", 30, self.cluster.all_ready)
        begun = time.monotonic()
        if self.wait("everything acknowledged", CONVERGE_MAX_S, self.quiet):
            self.counts["settled_after_s"] = round(time.monotonic() - begun, 1)
        begun = time.monotonic()
        if self.wait("presence after the chaos", CONVERGE_MAX_S, self.presence_is_right):
            self.counts["presence_right_after_s"] = round(time.monotonic() - begun, 1)
        else:
            self.violations += self.wrong[:20]
            self.counts["presence_wrong"] = len(self.wrong)
        self.vanish()
        begun = time.monotonic()
        if self.wait("presence after a tenth vanished", RESUME_TIMEOUT_S + CONVERGE_MAX_S, self.presence_is_right):
            self.counts["vanished_told_after_s"] = round(time.monotonic() - begun, 1)
        else:
            self.violations += self.wrong[:20]
            self.counts["vanished_wrong"] = len(self.wrong)

    def __call__(self):
        self.begun = time.monotonic()
        args = self.args
        self.crowd = Crowd(args, self.rng)
        self.cluster = Cluster(args, self.dir, self.rng)
        try:
            self.cluster.start()
            accounts = self.dir / "accounts"
            accounts.write_text("".join(f"u{i}@{DOMAIN} pw{i}\n" for i in range(args.clients)))
            done = self.cluster.ctl("adduser", "--file", str(accounts))
            if done.returncode != 0:
                raise SystemExit(f"jackdawctl adduser: {done.stderr}")
            self.chaos()
            results = [r for part in self.crowd.ask("results") for r in part]
            self.crowd.end()
        finally:
            self.cluster.stop()
        self.results = results
        self.judge(results)
        self.violations += self.cluster.odd
        return self.report()

    def judge(self, results):
        judge(self, results)

    def report(self):
        for name, value in self.counts.items():
            print(f"{name:34} {value}")
        for v in self.violations[:60]:
            print(f"VIOLATION: {v}")
        bad = bool(self.violations)
        print(f"seed {self.args.seed}: {'WRONG, see ' + str(self.dir) if bad else 'nothing lost, nothing twice, all in order, presence right'}")
        if bad:
            with open(self.dir / "results.pickle", "wb") as f:
                pickle.dump(self.results, f)
        if not bad and not self.args.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        return 1 if bad else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(Run(arguments())())
