"""Counts the instructions of the hot rooms with callgrind and compares with baseline.json: more than 5 % more fails.

    bench/micro/check.py BUILD            (a release build)
    bench/micro/check.py BUILD --update   writes the baseline anew; say in the commit why it has changed

A count is that of one run of a measurement in bench_stream (1024 stanzas) less that of a run without any, per stanza."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
STANZAS = 1024
TOLERANCE = 0.05
NAMES = ["frame, scalar", "frame, SSE2", "frame + parse + rewrite", "stream engine", "frame + index", "frame + tree"]


def instructions(program, only):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program, only], cwd=folder,
                              env={**os.environ, "JD_BENCH_ONCE": "1"}, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    program = pathlib.Path(sys.argv[1]).resolve() / "bench" / "bench_stream"
    nothing = instructions(program, "-")
    now = {name: round((instructions(program, name) - nothing) / STANZAS) for name in NAMES}
    if "--update" in sys.argv:
        BASELINE.write_text(json.dumps(now, indent=2) + "\n")
    before = json.loads(BASELINE.read_text())
    slower = 0
    for name, count in now.items():
        growth = count / before[name] - 1
        slower += growth > TOLERANCE
        print(f"{name:40} {count:7} instructions a stanza, {growth:+6.1%} against the baseline" + ("  TOO MANY" if growth > TOLERANCE else ""))
    if slower:
        sys.exit("slower than the baseline: find out why, or write a new one with --update and say why")


main()
