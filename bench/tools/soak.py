"""Ten minutes at 70 % of the saturation rate, durable: nothing lost, memory that does not grow after the first minute,
latency that does not drift. Saturation is the highest offered rate of messages that the cluster keeps up with: 99 % of
what is offered arrives within the step, half of it within 50 ms. Writes JSON and an SVG."""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[k]) for k in (0, 1)]
import plot  # noqa: E402
from cluster import Cluster, checked, end_on_signals, process_ids  # noqa: E402

MEMORY_EVERY_S = 10
FIRST_S = 60
# After the first minute: the most in the second half over the most in the first (mailboxes are trimmed now and then, so
# Redis goes up and down).
GROWTH_MAX, GROWTH_BYTES = 1.05, 2 << 20
P50_DRIFT_MAX, P99_DRIFT_MAX = 1.5, 2.0  # the last third of the minutes over the first third
KEEPS_UP, P50_MAX_US = 0.99, 50000


def pss_bytes(pid):
    """Proportional set size of a process and its children (Redis forks to rewrite its file, and shares with the child)."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            total = next(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
        for tasks in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(pss_bytes(int(child)) for child in tasks.read_text().split())
    except (OSError, StopIteration):
        pass  # gone meanwhile
    return total


class MemoryWatch(threading.Thread):
    """Reads the memory of a cluster's processes every few seconds."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.pids, self.samples, self.stopped = process_ids(directory), [], threading.Event()

    def run(self):
        start = time.monotonic()
        while True:
            at = time.monotonic() - start
            self.samples.append({"at_s": round(at, 1), "bytes": {n: pss_bytes(p) for n, p in self.pids.items()}})
            if self.stopped.wait(MEMORY_EVERY_S - at % MEMORY_EVERY_S):
                return


def saturation(cluster, a, say):
    """Starts from what a closed loop reaches, and goes down until the cluster keeps up."""
    common = ["--pairs", a.pairs, "--sm", "--warmup", 2, "--settle", 2]
    rate = cluster.measure("chat", *common, "--window", 8, "--duration", a.step)["per_second"]
    say(f"a closed loop with windows of 8 carries {rate:,.0f} messages a second")
    for _ in range(20):
        r = cluster.measure("chat", *common, "--rate", f"{rate:.0f}", "--duration", a.step)
        good = r["per_second"] >= KEEPS_UP * rate and r["p50_us"] <= P50_MAX_US
        say(f"{rate:,.0f} offered: {r['per_second']:,.0f} delivered, p50 {r['p50_us'] / 1000:.1f} ms, p99 {r['p99_us'] / 1000:.1f} ms"
            + (": saturation" if good else ""))
        if good:
            return rate
        rate *= 0.88
    raise SystemExit("no rate was kept up with")


def judge_memory(samples, duration_s, say):
    """The first minute aside: True when nothing grows."""
    rest = [s for s in samples if s["at_s"] >= min(FIRST_S, duration_s / 6)]
    half = max(len(rest) // 2, 1)
    good = True
    for name in [*samples[0]["bytes"], None]:
        values = [sum(s["bytes"].values()) if name is None else s["bytes"][name] for s in rest]
        early, late = max(values[:half]), max(values[-half:])
        grows = late > early * GROWTH_MAX and late - early > GROWTH_BYTES
        good = good and not grows
        say(f"memory of {name or 'all'}: at most {early / 1048576:.1f} MiB in the first half, {late / 1048576:.1f} MiB in the second ({late / early - 1:+.1%})"
            + (" GROWS" if grows else ""))
    return good


def judge_latency(result, say):
    stretches = result["minutes"]
    if len(stretches) < 3:
        stretches = result["seconds"]
    else:
        for i, m in enumerate(stretches):
            say(f"minute {i + 1}: {m['done']:,} messages, p50 {m['p50_us'] / 1000:.2f} p90 {m['p90_us'] / 1000:.2f} "
                f"p99 {m['p99_us'] / 1000:.2f} max {m['max_us'] / 1000:.1f} ms")
    third = max(len(stretches) // 3, 1)
    good = True
    for key, limit in (("p50_us", P50_DRIFT_MAX), ("p99_us", P99_DRIFT_MAX)):
        early, late = (statistics.median(s[key] for s in part) for part in (stretches[:third], stretches[-third:]))
        drifts = late > early * limit
        good = good and not drifts
        say(f"latency {key[:-3]}: {early / 1000:.2f} ms, at the end {late / 1000:.2f} ms" + (" DRIFTS" if drifts else ""))
    return good


def main():
    p = argparse.ArgumentParser(prog="bench/run soak", description=__doc__)
    p.add_argument("--build", type=pathlib.Path, required=True)
    p.add_argument("--offset", type=int, default=12000)
    p.add_argument("--set", action="append", default=[])
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--share", type=float, default=0.7, help="of the saturation rate")
    p.add_argument("--rate", type=float, help="instead of looking for it: messages a second")
    p.add_argument("--pairs", type=int, default=200)
    p.add_argument("--step", type=float, default=6, help="seconds of each step of the search")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("soak"), help="OUT.json, OUT.svg and the cluster's logs in OUT.log (default: soak)")
    a = p.parse_args()
    end_on_signals()
    lines = []

    def say(text):
        lines.append(text)
        print(text, flush=True)

    logs = a.out.with_suffix(".logs")
    logs.mkdir(parents=True, exist_ok=True)  # before ten minutes are spent
    with Cluster(a.build, a.offset, settings=a.set) as cluster:
        rate = a.rate or a.share * saturation(cluster, a, say)
        say(f"{a.minutes:g} minutes at {rate:,.0f} messages a second")
        watch = MemoryWatch(cluster.dir)
        watch.start()
        command = cluster.command("chat", "--pairs", a.pairs, "--sm", "--rate", f"{rate:.0f}", "--duration", a.minutes * 60, "--settle", 5, "--json")
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        watch.stopped.set()
        watch.join()
        shutil.copytree(cluster.dir / "log", logs, dirs_exist_ok=True)
    result = json.loads(done.stdout) if done.stdout else {}
    result["memory"] = watch.samples
    a.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    a.out.with_suffix(".svg").write_text(plot.draw(result))
    checked(done.returncode, done.stdout)
    kept_up = result["per_second"] >= KEEPS_UP * rate
    say(f"{result['measured']:,} messages, {result['per_second']:,.0f} a second; lost 0, duplicated 0, reordered 0"
        + ("" if kept_up else ": DID NOT KEEP UP"))
    good = judge_memory(watch.samples, a.minutes * 60, say)
    good = judge_latency(result, say) and good and kept_up
    result["said"] = lines
    a.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    sys.exit(0 if good else 1)


main()
