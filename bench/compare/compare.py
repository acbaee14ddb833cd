"""Runs the same scenarios against each server in turn, several rounds interleaved, and prints the medians.

A round starts one server, runs the scenarios of one mode, stops it, and goes to the next server; so what the machine does
meanwhile hits all of them alike. A run over all lines and servers also writes its table into README.md. Memory is
measured once, as it does not depend on what else the machine does."""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import servers
from lines import IDLE_CLIENTS, LINES, NO_SCRAM, cell, table

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- made by bench/compare/run -->\n", "<!-- end of bench/compare/run -->"
RUN_MAX_S = 180


class Comparison:
    def __init__(self, arguments):
        self.a = arguments
        self.names = arguments.servers.split(",")
        self.lines = [s for s in LINES if re.search(arguments.only, s.name)]
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-compare-"))
        self.results, self.port = {}, arguments.port
        self.bench = arguments.build / "bin" / "jackdaw-bench"
        self.begun = time.monotonic()

    def whole(self):
        return self.lines == LINES and set(self.names) == {s.name for s in servers.ALL}

    def call(self, server, line):
        """One run of jackdaw-bench; None when it did not come to a result."""
        a = [self.bench, line.scenario, f"127.0.0.1:{server.port}", "--pids", server.pids(), "--warmup", "1", "--duration", self.a.seconds,
             "--settle", "1", "--json", *line.options]
        if server.name not in NO_SCRAM:
            a += ["--mech", "SCRAM-SHA-1"]
            if server.mode == "full":
                a += ["--sm"]
        try:
            done = subprocess.run([str(x) for x in a], capture_output=True, text=True, timeout=RUN_MAX_S)
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            print(f"{server.name}: {line.name} did not end", file=sys.stderr)
        except ValueError:
            print(f"{server.name}: {line.name}: {done.returncode} {done.stdout[-300:]} {done.stderr[-300:]}", file=sys.stderr)
        return None

    def measure(self, server, line):
        """A server that the scenario before was too much for begins anew, once."""
        for attempt in range(2):
            if not server.alive():
                server.stop()
                server.start()
            r = self.call(server, line)
            if cell(line, [r]).values:
                break
            server.stop()
            server.start()
        self.results.setdefault((line.name, server.name), []).append(r)
        return r

    def visit(self, round_number, make, mode):
        self.port += 10  # the last one's connections may linger
        server = make(self.base, self.port, "bare" if mode == "idle" else mode)
        server.accounts_wanted = IDLE_CLIENTS if mode == "idle" else servers.ACCOUNTS
        try:
            for i, line in enumerate(s for s in self.lines if s.mode == mode):
                if i == 0 or mode == "idle":  # what the line before has freed would be used again
                    server.stop()
                    server.start()
                r = self.measure(server, line)
                print(f"[{time.monotonic() - self.begun:5.0f} s] round {round_number + 1}: {line.name}: {server.name}: {cell(line, [r]).text()}",
                      file=sys.stderr, flush=True)
        except RuntimeError as e:
            print(e, file=sys.stderr)
        finally:
            server.stop()

    def run(self):
        for round_number in range(self.a.rounds):
            for mode in dict.fromkeys(s.mode for s in self.lines):
                if mode == "idle" and round_number > 0:
                    continue
                for make in servers.ALL:
                    if make.name in self.names:
                        self.visit(round_number, make, mode)

    def report(self):
        about = f"{datetime.date.today()}, {machine()}; {versions(self.names)}. Medians of {self.a.rounds} rounds of {self.a.seconds:g} s, " \
                f"interleaved; {(time.monotonic() - self.begun) / 60:.0f} minutes in all."
        return about + "\n\n" + table(self.lines, self.names, self.results) + "\n"


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    kib = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    return f"{os.cpu_count()} CPUs ({cpu[1].strip() if cpu else platform.machine()}), {kib / 1048576:.0f} GiB, kernel {platform.release()}, " \
           f"load {os.getloadavg()[2]:.1f}"


def versions(names):
    out = []
    for server in servers.ALL:
        if server.name not in names:
            continue
        for package in server.packages[:1]:
            v = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True).stdout
            out.append(f"{package} {v}")
        if server.name == "jackdaw":
            commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
            out.insert(0, f"Jackdaw {commit}".strip())
    return ", ".join(out)


def write_readme(text):
    path = ROOT / "README.md"
    before = path.read_text()
    if BEGIN not in before or END not in before:
        print(f"README.md has no {BEGIN.strip()}: not written", file=sys.stderr)
        return
    head, rest = before.split(BEGIN, 1)
    path.write_text(head + BEGIN + text + END + rest.split(END, 1)[1])


def main():
    p = argparse.ArgumentParser(prog="bench/compare/run", description=__doc__)
    p.add_argument("--build", type=pathlib.Path, required=True, help="a release build")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=4, help="measured in each run")
    p.add_argument("--servers", default=",".join(s.name for s in servers.ALL))
    p.add_argument("--only", default="", metavar="LINE", help="lines whose name this regular expression finds")
    p.add_argument("--list", action="store_true", help="print the names of the lines")
    p.add_argument("--port", type=int, default=25222)
    p.add_argument("--json", type=pathlib.Path, help="where all results go")
    p.add_argument("--from-json", type=pathlib.Path, help="measure nothing: print the table of such a file")
    p.add_argument("--no-readme", action="store_true", help="leave README.md alone")
    a = p.parse_args()
    if a.list:
        print("\n".join(s.name for s in LINES))
        return
    a.build = a.build.resolve()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    servers.Jackdaw.build = a.build
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # servers are stopped then, too
    c = Comparison(a)
    if a.from_json:
        c.results = {(r["name"], r["server"]): r["results"] for r in json.loads(a.from_json.read_text())}
    else:
        c.run()
    if a.json:
        a.json.write_text(json.dumps([{"name": n, "server": s, "results": r} for (n, s), r in c.results.items()], indent=1))
    text = c.report()
    print(text)
    if c.whole() and not a.no_readme and not a.from_json:
        write_readme(text)
    shutil.rmtree(c.base, ignore_errors=True)


main()
