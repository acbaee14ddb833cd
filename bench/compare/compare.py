"""Runs the same scenarios against each server in turn, several rounds interleaved, and prints the medians.

A round starts one server, runs the scenarios of one mode, stops it, and goes to the next server; so what the machine does
meanwhile hits all of them alike. Results: messages (and so on) per CPU second of all the server's processes."""
import argparse
import datetime
import json
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import servers

# name, mode, better, arguments of jackdaw-bench
SCENARIOS = [
    ("chat, bare, TLS, 200 pairs, window 1", "bare", "chat", ["--pairs", "200"]),
    ("chat, bare, TLS, 200 pairs, window 8", "bare", "chat", ["--pairs", "200", "--window", "8"]),
    ("chat, bare, no TLS, 200 pairs, window 8", "bare", "chat", ["--pairs", "200", "--window", "8", "--tls", "none"]),
    ("presence deliveries, 50 contacts", "bare", "presence", ["--clients", "204"]),
    ("iq ping to the server", "bare", "ping", ["--clients", "400"]),
    ("logins, STARTTLS", "bare", "logins", ["--clients", "20", "--first", "500"]),
    ("chat, full, TLS, 200 pairs, window 1", "full", "chat", ["--pairs", "200"]),
    ("chat, full, TLS, 200 pairs, window 8", "full", "chat", ["--pairs", "200", "--window", "8"]),
    ("latency at 200 messages/s, full", "full", "chat", ["--pairs", "200", "--rate", "200"]),
]
NO_SCRAM = {"jabberd2"}


def measure(bench, server, scenario, extra, seconds):
    arguments = [bench, scenario, f"127.0.0.1:{server.port}", "--pids", server.pids(), "--duration", str(seconds), "--json", *extra]
    if scenario == "logins" and server.name not in NO_SCRAM:
        arguments += ["--mech", "SCRAM-SHA-1"]
    if server.mode == "full" and server.name not in NO_SCRAM:
        arguments += ["--sm"]
    try:
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=240)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        print(f"{server.name}: {scenario} did not end", file=sys.stderr)
    except ValueError:
        print(f"{server.name}: {scenario}: {done.returncode} {done.stdout[-300:]} {done.stderr[-300:]}", file=sys.stderr)
    return None


def cell(name, results):
    good = [r for r in results if r and r["measured"] > 0]
    if not good:
        return "failed", None
    if name.startswith("latency"):
        p50, p99 = (statistics.median(r[k] for r in good) / 1000 for k in ("p50_us", "p99_us"))
        return f"{p50:.2f} / {p99:.1f} ms", None
    value = statistics.median(r["per_cpu_second"] for r in good)
    wrong = sum(r["failed"] + r["lost"] + r["duplicated"] + r["reordered"] for r in good)
    return f"{value:,.0f}" + (f" ({wrong} lost or refused)" if wrong else ""), value


def table(results, chosen, names):
    out = ["| per CPU second of all server processes | " + " | ".join(names) + " | Jackdaw / best other |", "|---" * (len(names) + 2) + "|"]
    for name, *_ in chosen:
        cells = {server: cell(name, results.get((name, server), [])) for server in names}
        others = [v for server, (_, v) in cells.items() if server != "jackdaw" and v]
        ours = cells.get("jackdaw", ("", None))[1]
        ratio = f"{ours / max(others):.1f}" if ours and others else ""
        out.append(f"| {name} | " + " | ".join(cells[s][0] for s in names) + f" | {ratio} |")
    return "\n".join(out)


def versions(names):
    out = []
    for server in servers.ALL:
        if server.name in names and server.packages:
            v = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", server.packages[0]], capture_output=True, text=True).stdout
            out.append(f"{server.name} {v}")
    return ", ".join(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", type=pathlib.Path, required=True, help="a release build")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=8, help="measured in each run")
    p.add_argument("--servers", default=",".join(s.name for s in servers.ALL))
    p.add_argument("--only", default="", help="scenarios whose name this regular expression finds")
    p.add_argument("--port", type=int, default=25222)
    p.add_argument("--json", type=pathlib.Path, help="where all results go")
    a = p.parse_args()
    servers.Jackdaw.build = a.build.resolve()
    bench = a.build.resolve() / "bin" / "jackdaw-bench"
    names = a.servers.split(",")
    chosen = [s for s in SCENARIOS if re.search(a.only, s[0])]
    base = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-compare-"))
    results, port = {}, a.port
    for round_number in range(a.rounds):
        for mode in dict.fromkeys(s[1] for s in chosen):
            for make in (s for s in servers.ALL if s.name in names):
                port += 10  # the last one's connections may linger
                server = make(base, port, mode)
                try:
                    server.start()
                    for name, _, scenario, extra in (s for s in chosen if s[1] == mode):
                        if not server.alive():  # the scenario before was too much for it
                            server.stop()
                            server.start()
                        r = measure(bench, server, scenario, extra, a.seconds)
                        results.setdefault((name, server.name), []).append(r)
                        print(f"round {round_number + 1}: {name}: {server.name}: {cell(name, [r])[0]}", file=sys.stderr, flush=True)
                except RuntimeError as e:
                    print(e, file=sys.stderr)
                finally:
                    server.stop()
    print(f"{datetime.date.today()}, {platform.processor() or platform.machine()}, kernel {platform.release()}, "
          f"{a.rounds} rounds of {a.seconds:g} s; {versions(names)}\n")
    print(table(results, chosen, names))
    if a.json:
        a.json.write_text(json.dumps([{"name": n, "server": s, "results": r} for (n, s), r in results.items()], indent=1))
    shutil.rmtree(base, ignore_errors=True)


main()
