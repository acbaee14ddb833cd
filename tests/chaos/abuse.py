#!/usr/bin/python3
"""Abuse: honest clients chat over TLS while hostile ones, with accounts and without, do the worst they can at full speed
(hostile.py). Exit code 0: no process ended, nothing acknowledged was lost, no honest message was late (p99), and the memory
of every process stayed within its bound. The figures are printed.

    tests/chaos/abuse.py [--seconds S] [--honest N]        JACKDAW_TESTS_LONG=1: ten minutes"""
import argparse
import asyncio
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import ssl
import sys
import tempfile
import time
import types

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import hostile  # noqa: E402
import judge  # noqa: E402
import run as chaos  # noqa: E402
from client import Client  # noqa: E402

# The long run is for a machine that does nothing else; the short one must tell a fault from a busy machine.
LATE_MAX_MS = 250 if os.environ.get("JACKDAW_TESTS_LONG") else 1000
GROWTH_MAX_MIB = {"c2s": 192, "router": 192, "s2s": 96, "redis": 512}
COMPONENT, SECRET, PASSWORD = "gate.localhost", "abuse-secret", "hostile-pw"
HOSTILE = 12
OURS = re.compile(rb"<body>\d+\.\d+\.\d+</body>|type=.error")


class TlsClient(Client):
    """An honest one; all come from 127.0.0.1, which no hostile one uses."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = {"ssl": context, "server_hostname": chaos.DOMAIN}

    def on_message(self, e):
        """What the hostile ones write to it has no number; what it has sent to itself comes back as it is."""
        if OURS.search(e):
            super().on_message(e)


def honest(pipe, count, port, rate, seed):
    """The process of the honest: they log in one after the other, then chat until told to stop."""

    async def main():
        rng = random.Random(seed)
        clients = [TlsClient(i, chaos.DOMAIN, [("127.0.0.1", port)], random.Random(seed + i)) for i in range(count)]
        tasks = []
        for c in clients:
            tasks.append(asyncio.create_task(c.run()))
            await asyncio.sleep(0.05)
        while not all(c.connected for c in clients):
            await asyncio.sleep(0.1)
        pipe.send("ready")
        while not pipe.poll():
            await asyncio.sleep(1 / rate)
            rng.choice(clients).burst([rng.randrange(count)])
        end = time.monotonic() + 20
        while time.monotonic() < end and any(c.out for c in clients):
            for c in clients:
                c.ask()
            await asyncio.sleep(0.2)
        await asyncio.sleep(1)
        pipe.send([
            {"index": c.index, "sm": True, "messages": c.messages, "to": c.to, "acked": c.acked, "repeated": c.repeated, "got": c.got,
             "errors": c.errors, "unacked": len(c.out), "sessions": c.sessions, "trouble": dict(c.trouble)}
            for c in clients
        ])
        for c in clients:
            c.stopping = True
        await asyncio.gather(*tasks)

    asyncio.run(main())


def resident_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def start(target, *arguments):
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=target, args=(there, *arguments), daemon=True)
    child.start()
    there.close()
    return here, child


def arguments():
    long = bool(os.environ.get("JACKDAW_TESTS_LONG"))
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=600 if long else 60)
    p.add_argument("--honest", type=int, default=100)
    p.add_argument("--rate", type=float, default=100, help="honest messages a second")
    p.add_argument("--port-offset", type=int, default=8600)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--keep", action="store_true")
    return p.parse_args()


class Abuse:
    def __init__(self, args):
        self.args = args
        self.violations, self.counts = [], {}
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="jd-abuse-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"))
        settings = ["limits.enabled=true", "c2s.require_tls=true", "register.enabled=true", f"s2s.components={COMPONENT}={SECRET}"]
        plan = types.SimpleNamespace(set=settings, port_offset=args.port_offset, routers=2, c2s=2, s2s=1, join=False, fsync="everysec", history=False, restart=(9, 9))
        self.cluster = chaos.Cluster(plan, self.dir, random.Random(args.seed))

    def accounts(self):
        lines = [f"u{i}@{chaos.DOMAIN} pw{i}" for i in range(self.args.honest)]
        lines += [f"h{i}@{chaos.DOMAIN} {PASSWORD}" for i in range(HOSTILE)]
        file = self.dir / "accounts"
        file.write_text("\n".join(lines) + "\n")
        done = self.cluster.ctl("adduser", "--file", str(file))
        if done.returncode != 0:
            raise SystemExit(f"jackdawctl adduser: {done.stderr}")

    def watch(self, seconds):
        """Looks at the memory of every process meanwhile; each must stay the process that it is."""
        pids = {n: p.popen.pid for n, p in self.cluster.processes.items()}
        first = {n: resident_mib(pid) for n, pid in pids.items()}
        most = dict(first)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.25)
            for n, pid in pids.items():
                if self.cluster.processes[n].popen.poll() is not None:
                    self.violations.append(f"{n} ended with {self.cluster.processes[n].popen.returncode}\n{self.cluster.processes[n].last_words()}")
                    return
                most[n] = max(most[n], resident_mib(pid))
        for n in pids:
            grown, bound = most[n] - first[n], GROWTH_MAX_MIB[n.split("-")[0]]
            self.counts[f"memory_{n}"] = f"{first[n]:.0f} MiB, at most {most[n]:.0f} MiB"
            if grown > bound:
                self.violations.append(f"{n} grew by {grown:.0f} MiB, its bound is {bound}")

    def judge(self, results):
        self.args.join = self.args.rolling = False
        latencies = judge.count_messages(self, results, self.counts)
        p99 = judge.quantile(latencies, 0.99)
        if p99 is None or p99 > LATE_MAX_MS * 1000:
            self.violations.append(f"99 % of the honest messages took up to {(p99 or 0) / 1000:.0f} ms, {LATE_MAX_MS} are allowed")
        self.counts["honest_sessions"] = sum(r["sessions"] for r in results)
        trouble = [f"u{r['index']}: {r['trouble']}" for r in results if r["trouble"]]
        if trouble:
            self.violations.append(f"honest clients were thrown out: {trouble[:5]}")

    def __call__(self):
        args = self.args
        try:
            self.cluster.start()
            self.accounts()
            tls_port = 5223 + args.port_offset
            good, good_child = start(honest, args.honest, tls_port, args.rate, args.seed)
            if not good.poll(90) or good.recv() != "ready":
                raise SystemExit("the honest clients did not come in")
            world = (chaos.DOMAIN, tls_port, 5347 + args.port_offset, COMPONENT, SECRET, PASSWORD)
            bad, bad_child = start(hostile.work, world, [f"h{i}" for i in range(HOSTILE)], [f"u{i}" for i in range(args.honest)])
            self.watch(args.seconds)
            bad.send("stop")
            done, thrown = bad.recv() if bad.poll(30) else ({}, {})
            good.send("stop")
            results = good.recv() if good.poll(60) else []
            for child in (bad_child, good_child):
                child.join(5)
                child.kill()
        finally:
            self.cluster.stop()
        for act in hostile.INSIDERS + hostile.STRANGERS:
            name = act.__name__
            self.counts[f"hostile_{name}"] = f"{done.get(name, 0)} sent, thrown out {thrown.get(name, {})}"
            if not done.get(name):
                self.violations.append(f"the hostile {name} did nothing")
        self.judge(results)
        self.violations += self.cluster.odd
        for name, value in self.counts.items():
            print(f"{name:34} {value}")
        for v in self.violations[:40]:
            print(f"VIOLATION: {v}")
        if not self.violations and not args.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        print(f"abuse: {'WRONG, see ' + str(self.dir) if self.violations else 'nobody was hurt'}")
        return 1 if self.violations else 0


if __name__ == "__main__":
    sys.exit(Abuse(arguments())())
