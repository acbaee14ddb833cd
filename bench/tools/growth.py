"""How costs grow: with sessions (growth), with routers (routers), with the size of things (sizes). Costs are
microseconds of calibrated CPU time of all server processes; medians of rounds in which the variants take turns."""
import argparse
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import Cluster, cost_us, end_on_signals  # noqa: E402

GROWTH_MAX, ROUTERS_MAX = 1.3, 1.15
DOUBLED_MAX = 2.8  # linear is 2, quadratic 4; this is their geometric middle


class Report:
    """Rows of a Markdown table, and whether a limit was missed."""

    def __init__(self, *head):
        self.rows, self.missed = [head, ["---"] * len(head)], 0

    def row(self, *cells):
        self.rows.append([str(c) for c in cells])
        print("| " + " | ".join(self.rows[-1]) + " |", file=sys.stderr, flush=True)

    def verdict(self, value, limit):
        self.missed += value > limit
        return f"{value:.2f} of {limit:g}: " + ("met" if value <= limit else "NOT MET")

    def end(self):
        print("\n".join("| " + " | ".join(r) + " |" for r in self.rows))
        return 1 if self.missed else 0


def median_cost(results):
    return statistics.median(cost_us(r) for r in results)


def times(a):
    return ["--warmup", a.warmup, "--duration", a.duration, "--settle", a.settle]


def growth(a):
    """Sessions: few, all talking; many, all talking; many, of whom few talk."""
    few, many = 400, a.sessions
    variants = {f"{few} online, all talk": ["--clients", few], f"{many} online, all talk": ["--clients", many],
                f"{many} online, {few} talk": ["--clients", many, "--active", few]}
    results = {v: [] for v in variants}
    for _ in range(a.rounds):
        for name, options in variants.items():
            with Cluster(a.build, a.offset, settings=a.set, accounts=many) as cluster:
                results[name].append(cluster.measure("chat", *options, "--mech", "SCRAM-SHA-1", *times(a), "--warmup", 2 + a.warmup))
    first = median_cost(results[next(iter(variants))])
    report = Report("sessions", "us a message", f"over {few}", "KiB a session, with the processes' own")
    for name, rs in results.items():
        cost = median_cost(rs)
        memory = statistics.median(r["bytes_per_session"] for r in rs) / 1024
        report.row(name, f"{cost:.1f}", report.verdict(cost / first, GROWTH_MAX), f"{memory:.1f}")
    return report.end() | memory_flat(a)


def memory_flat(a):
    """Idle sessions: the second half must cost what the first half did."""
    results = {}
    for n in (a.sessions // 4, a.sessions // 2, a.sessions):
        with Cluster(a.build, a.offset, settings=a.set, accounts=n) as cluster:
            r = cluster.measure("idle", "--clients", n, "--mech", "SCRAM-SHA-1", "--settle", max(a.settle, 2))
        results[n] = r["bytes_per_session"] * n
    quarter, half, all_ = results
    first = (results[half] - results[quarter]) / (half - quarter)
    second = (results[all_] - results[half]) / (all_ - half)
    report = Report("idle sessions", "KiB each", "second over first")
    report.row(f"{quarter} to {half}", f"{first / 1024:.2f}", "")
    report.row(f"{half} to {all_}", f"{second / 1024:.2f}", report.verdict(second / first, 1.1))
    return report.end()


def routers(a):
    results = {}
    for _ in range(a.rounds):
        for n in (1, 2, 4):
            with Cluster(a.build, a.offset, routers=n, settings=a.set or ["delivery.durability=memory"]) as cluster:
                for window in (1, 8):
                    r = cluster.measure("chat", "--pairs", 200, "--window", window, *times(a))
                    results.setdefault((window, n), []).append(r)
    report = Report("routers", "window 1: us a message", "over 1", "window 8: us a message", "over 1")
    for n in (1, 2, 4):
        cells = []
        for window in (1, 8):
            cost, one = (median_cost(results[window, k]) for k in (n, 1))
            cells += [f"{cost:.1f}", report.verdict(cost / one, ROUTERS_MAX) if n > 1 else "1"]
        report.row(n, *cells)
    return report.end()


# what, options at half the size, at the size; operations per unit counted at each
SIZES = [
    ("message of 128 and 256 KB, to its reader", "chat", ["--pairs", 10, "--bytes", 128000], ["--pairs", 10, "--bytes", 256000], 1, 1),
    ("roster of 1,000 and 2,000 contacts, asked for", "roster", ["--clients", 10, "--contacts", 1000], ["--clients", 10, "--contacts", 2000], 1, 1),
    ("change in a roster of 1,000 and 2,000, with its push", "roster-set", ["--clients", 10, "--contacts", 1000],
     ["--clients", 10, "--contacts", 2000], 1, 1),
    ("message to a user with 10 and 20 resources", "resources", ["--contacts", 10, "--clients", 110], ["--contacts", 20, "--clients", 210], 10, 20),
    ("presence to 25 and 50 contacts", "presence", ["--contacts", 25, "--clients", 104], ["--contacts", 50, "--clients", 204], 25, 50),
]


def sizes(a):
    results = {}
    for _ in range(a.rounds):
        for what, scenario, half, whole, _, _ in SIZES:
            for k, options in enumerate((half, whole)):  # a cluster each: rosters must not be left over
                with Cluster(a.build, a.offset, settings=a.set, accounts=1000) as cluster:
                    results.setdefault((what, k), []).append(cluster.measure(scenario, *options, "--first", 300 * k, *times(a)))
    report = Report("what, at half the size and at the size", "us at half", "us", "whole over half")
    for what, _, _, _, per_half, per_whole in SIZES:
        half, whole = (median_cost(results[what, k]) * per for k, per in ((0, per_half), (1, per_whole)))
        report.row(what, f"{half:.1f}", f"{whole:.1f}", report.verdict(whole / half, DOUBLED_MAX))
    return report.end()


def main():
    p = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    p.add_argument("--build", type=pathlib.Path, required=True)
    p.add_argument("--offset", type=int, default=12000)
    p.add_argument("--set", action="append", default=[])
    p.add_argument("what", choices=["growth", "routers", "sizes"])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--sessions", type=int, default=10000, help="growth: the many")
    p.add_argument("--warmup", type=float, default=1)
    p.add_argument("--duration", type=float, default=5)
    p.add_argument("--settle", type=float, default=1)
    a = p.parse_args()
    end_on_signals()
    sys.exit({"growth": growth, "routers": routers, "sizes": sizes}[a.what](a))


main()
