"""Counts the instructions of the hot rooms with callgrind and compares with baseline.json: more than 5 % more fails.

    bench/micro/check.py BUILD            (a release build)
    bench/micro/check.py BUILD --update   writes the baseline anew; say in the commit why it has changed

A count is that of one run of a measurement (measure.h), the preparations left out, per unit of its work. What the C
library and OpenSSL choose by the processor is pinned, so that machines agree."""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
TOLERANCE = 0.05

# program: measurement -> units of work in one run
MEASUREMENTS = {
    "bench_stream": {"frame, scalar": 1024, "frame, SSE2": 1024, "frame + parse + rewrite": 1024, "stream engine": 1024,
                     "frame + index": 1024, "frame + tree": 1024},
    "bench_jid": {"jid, prepared, ASCII": 1024, "jid, prepared, Unicode": 1024, "jid, split": 1024},
    "bench_wire": {"wire, STANZA written": 1024, "wire, STANZA read": 1024, "wire, DELIVER written": 1024, "wire, DELIVER read": 1024},
    "bench_tls": {"tls, 200 bytes written and read": 8192, "tls, slim, 200 bytes written and read": 8192},
    "bench_base": {"timers, moved": 10000, "timers, fired and set again": 10000},
    "bench_bus": {"bus, a frame over a link": 1000},
    "bench_router": {"router, message, durable": 256, "router, message, in memory": 256, "router, presence to 50 contacts": 16,
                     "router, ping": 256},
}


def instructions(program, only):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["valgrind", "--tool=callgrind", "--toggle-collect=measure_once", f"--callgrind-out-file={folder}/out", program, only], cwd=folder,
                              env={**os.environ, "JD_BENCH_ONCE": "1", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-ERMS",
                                   "OPENSSL_ia32cap": ":~0x20"},
                              capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"{program} {only}: {done.returncode}\n{done.stderr[-2000:]}")
    return int(found.group(1))


def count(folder):
    """name -> instructions a unit."""
    jobs = [(p, name) for p, names in MEASUREMENTS.items() for name in names]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        total = dict(zip(jobs, pool.map(lambda j: instructions(folder / j[0], j[1]), jobs)))
    return {name: round(total[p, name] / units) for p, names in MEASUREMENTS.items() for name, units in names.items()}


def main():
    now = count(pathlib.Path(sys.argv[1]).resolve() / "bench")
    if "--update" in sys.argv:
        BASELINE.write_text(json.dumps(now, indent=2) + "\n")
    before = json.loads(BASELINE.read_text())
    slower = 0
    for name, n in now.items():
        growth = n / before[name] - 1
        slower += growth > TOLERANCE
        print(f"{name:34} {n:7} instructions, {growth:+6.1%} against the baseline" + ("  TOO MANY" if growth > TOLERANCE else ""))
    if slower:
        sys.exit("slower than the baseline: find out why, or write a new one with --update and say why")


main()
