#!/usr/bin/python3
"""Runs the dialogues of tests/script/dialogues against a cluster of its own, or against any XMPP server.

    tests/script/run.py [PATTERN]...                 dialogues whose name contains one of the patterns (default: all)
    tests/script/run.py --host H --port P --domain D --accounts register|"COMMAND {user} {password}"  another server
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import dialogue  # noqa: E402
import matrices  # noqa: E402
import table  # noqa: E402
from xmpp import Failed  # noqa: E402

# The kinds of clusters; a dialogue says which one it needs (`cluster:`), "usual" otherwise.
USUAL = ["limits.connection_rate_per_address=100000", "limits.connections_per_address=20000", "cluster.domains=localhost,second.localhost"]
CLUSTERS = {
    "usual": (2, 2, USUAL),
    "tight": (
        1,
        1,
        [
            "limits.connection_rate_per_address=100000",
            "limits.sessions_per_account=3",
            "limits.roster_items=3",
            "limits.roster_bytes=65536",
            "c2s.stanza_max_bytes=10000",
            "c2s.login_timeout_s=3",
            "c2s.idle_timeout_s=2",
            "tls.slim_after_ms=1",
            "limits.auth_attempts=3",
            "mailbox.messages_max=3",
            "register.enabled=true",
        ],
    ),
    "crowd": (1, 1, ["limits.connections_per_address=5", "limits.connection_rate_per_address=100000"]),
    "rate": (1, 1, ["limits.connection_rate_per_address=3", "limits.stanzas_per_second=20"]),
    "signup": (1, 1, ["limits.connection_rate_per_address=100000", "register.enabled=true", "register.per_address=2"]),
    "fragile": (2, 2, USUAL),
}


class Cluster:
    """A Jackdaw of our own, from deploy/run."""

    def __init__(self, kind, keep):
        self.kind, self.offset, self.domain, self.keep = kind, 0, "localhost", keep
        self.routers, self.c2s, self.settings = CLUSTERS[kind]
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="jd-script-", dir="/tmp"))
        self.homes = {}
        self.command = [str(ROOT / "deploy/run"), "--dir", str(self.dir)]

    def start(self):
        argv = ["--user", "root", "--routers", str(self.routers), "--c2s", str(self.c2s), "--s2s", "0", "--detach"]
        for s in self.settings:
            argv += ["--set", s]
        for _ in range(10):
            self.offset = random.randrange(10600, 17400)  # all ports below those that the kernel gives to clients
            command = self.command + ["--port-offset", str(self.offset)] + argv
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return
            if "in use" not in done.stderr:
                break
        raise SystemExit(f"the cluster did not start:\n{done.stdout}{done.stderr}")

    def stop(self):
        subprocess.run(self.command + ["--stop"], capture_output=True)
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def address(self, where, tls):
        if where:
            return ("127.0.0.1", 15222 + int(where.rpartition("-")[2]) + self.offset)
        return ("127.0.0.1", (5223 if tls else 5222) + self.offset)

    def ctl(self, arguments):
        argv = [str(self.dir / "bin/jackdawctl"), "--dir", str(self.dir)] + arguments
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"jackdawctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def signal(self, name, which):
        pid = int((self.dir / f"run/{name}.pid").read_text())
        os.kill(pid, getattr(signal, f"SIG{which}"))

    def kill(self, name):
        """The supervisor starts it again; dialogues that do this are performed one by one."""
        self.signal(name, "KILL")

    def recover(self):
        """Waits until all routers are members again, and the accounts' homes are what they were."""
        for _ in range(100):
            if self.ctl(["cluster"]).count(" alive ") == self.routers + self.c2s:
                return
            time.sleep(0.1)
        raise SystemExit("the cluster has not recovered")

    def log(self, name):
        return (self.dir / f"log/{name}.log").read_text(errors="replace")

    def add_accounts(self, users):
        file = self.dir / "accounts"
        file.write_text("".join(f"{u}@{self.domain} {dialogue.PASSWORD}\n" for u in users))
        self.ctl(["adduser", "--file", str(file)])
        for line in self.ctl(["where"] + [f"{u}@{self.domain}" for u in users]).splitlines() if self.routers > 1 else ():
            jid, home = line.split()
            self.homes[jid.partition("@")[0]] = home


class Foreign:
    """Some other server."""

    def __init__(self, args):
        self.args, self.domain, self.homes = args, args.domain, {}
        self.kind = "foreign"

    def start(self):
        pass

    stop = recover = start

    def address(self, where, tls):
        return (self.args.host, self.args.tls_port if tls else self.args.port)

    def ctl(self, arguments):
        raise Failed("only Jackdaw has jackdawctl")

    kill = ctl

    def add_accounts(self, users):
        if self.args.accounts == "none":
            return
        if self.args.accounts == "register":
            for user in users:
                dialogue.register(self, user)
            return
        for user in users:
            argv = [a.format(user=user, password=dialogue.PASSWORD) for a in shlex.split(self.args.accounts)]
            done = subprocess.run(argv, capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{' '.join(argv)}: {done.stdout}{done.stderr}")


class Cast:
    """Hands out fresh accounts; "near" and "far" ask for people whose homes are the same or different routers."""

    def __init__(self, server, count, prefix):
        self.free = [f"{prefix}{i}" for i in range(count)]
        self.server = server
        server.add_accounts(self.free)

    def take(self, home=None, other=None):
        for i, user in enumerate(self.free):
            h = self.server.homes.get(user)
            if h is None or (home in (None, h) and (other is None or other != h)):
                return self.free.pop(i)
        raise SystemExit("too few accounts: raise the count in run.py")

    def choose(self, d):
        people, out = d.people(), {}
        for p in people:
            if not out:
                out[p] = self.take()
                first = self.server.homes.get(out[p])
            elif p in d.options.get("far", "").split():
                out[p] = self.take(other=first)
            elif p in d.options.get("near", "").split():
                out[p] = self.take(home=first)
            else:
                out[p] = self.take()
        return out


def perform(d, server, accounts):
    """(result, reason, seconds, transcript)"""
    began = time.monotonic()
    show = dialogue.Performance(d, server, accounts)
    try:
        show.run()
        return "pass", "", time.monotonic() - began, show.transcript
    except Failed as e:
        return "FAIL", str(e), time.monotonic() - began, show.transcript
    except SystemExit as e:
        return "FAIL", f"the dialogue is wrong: {e}", time.monotonic() - began, show.transcript
    except Exception:  # a broken connection, say: the dialogue has failed, the others go on
        return "FAIL", traceback.format_exc(), time.monotonic() - began, show.transcript


def load(patterns, exact=False, everything=False):
    """Those whose names fit; without patterns all but the long ones, which a long run adds."""
    dialogues = []
    for path in sorted((HERE / "dialogues").glob("*.txt")):
        dialogues += dialogue.read(path)
    dialogues += matrices.dialogues()
    names = [d.name for d in dialogues]
    for name in {n for n in names if names.count(n) > 1}:
        raise SystemExit(f"there are two dialogues {name}")
    if not patterns and not os.environ.get("JACKDAW_TESTS_LONG") and not everything:
        dialogues = [d for d in dialogues if "long" not in d.options]
    if patterns:
        dialogues = [d for d in dialogues if any(p == d.name or (p in d.name and not exact) for p in patterns)]
    return dialogues


def run_on(server, dialogues, args, results):
    """Performs dialogues on one server, several at a time."""
    try:
        server.start()
        people = sum(len(d.people()) for d in dialogues)
        # Half of the people are far from the others: twice the number, and some, is enough.
        cast = Cast(server, people * (2 if server.kind in ("usual", "fragile") else 1) + 20, f"{args.prefix}{server.kind[0]}")
        casting = [(d, cast.choose(d)) for d in dialogues]
        together = [c for c in casting if "serial" not in c[0].options]
        alone = [c for c in casting if "serial" in c[0].options]
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            futures = {pool.submit(perform, d, server, who): d for d, who in together}
            for f in concurrent.futures.as_completed(futures):
                report(futures[f], f.result(), args, results)
        for d, who in alone:
            report(d, perform(d, server, who), args, results)
            server.recover()
    finally:
        server.stop()


def report(d, outcome, args, results):
    result, reason, seconds, transcript = outcome
    results[d.name] = (result, reason)
    if result == "pass" and not args.verbose:
        return
    print(f"{result} {d.name} ({seconds:.1f} s) {d.title}", flush=True)
    if result != "pass":
        print(f"    {reason}", flush=True)
    if args.transcripts and (result != "pass" or args.verbose):
        print("\n".join("      " + line for line in transcript), flush=True)


def main():
    p = argparse.ArgumentParser(description="Runs the dialogues of tests/script/dialogues.")
    p.add_argument("patterns", nargs="*", metavar="PATTERN", help="dialogues whose name contains it")
    p.add_argument("--exact", action="store_true", help="a PATTERN is a whole name")
    p.add_argument("--list", action="store_true", help="only list them")
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("-t", "--transcripts", action="store_true", help="show what was said in failed dialogues")
    p.add_argument("-j", "--jobs", type=int, default=8, help="dialogues at a time")
    p.add_argument("--keep", action="store_true", help="leave the clusters' directories")
    p.add_argument("--host", help="another server, in place of a cluster of our own")
    p.add_argument("--port", type=int, default=5222)
    p.add_argument("--tls-port", type=int, default=5223)
    p.add_argument("--within", type=float, help="seconds to wait for an answer")
    p.add_argument("--domain", default="localhost")
    p.add_argument("--accounts", default="none", metavar="COMMAND", help="adds an account: {user} {password}; register: in-band (XEP-0077)")
    p.add_argument("--prefix", default="p", help="what account names begin with")
    p.add_argument("--write-table", action="store_true", help="write tests/CONFORMANCE.md after a run of everything")
    p.add_argument("--results", metavar="FILE", help="write the results there (JSON)")
    args = p.parse_args()
    dialogue.WITHIN = args.within or dialogue.WITHIN
    dialogues = load(args.patterns, args.exact)
    if args.list:
        for d in dialogues:
            print(f"{d.name:40} {d.title}")
        return 0
    began, results = time.monotonic(), {}
    if args.host:
        own = [d for d in dialogues if "cluster" not in d.options and d.options.get("only") != "jackdaw"]
        run_on(Foreign(args), own, args, results)
    else:
        for kind in CLUSTERS:
            mine = [d for d in dialogues if d.options.get("cluster", "usual") == kind]
            if mine:
                run_on(Cluster(kind, args.keep), mine, args, results)
    failed = [n for n, r in results.items() if r[0] != "pass"]
    if args.results:
        pathlib.Path(args.results).write_text(json.dumps(results, indent=1, sort_keys=True))
    print(f"{len(results) - len(failed)} of {len(results)} dialogues passed in {time.monotonic() - began:.0f} s")
    if args.host or args.patterns:
        return 1 if failed else 0
    text, problems = table.build(load([], everything=True), results)
    if args.write_table:
        table.TABLE.write_text(text)
    return 1 if table.check(text, problems) or failed else 0


if __name__ == "__main__":
    sys.exit(main())
