#!/usr/bin/python3
"""Two clusters, each its own domain, on loopback with DNS and certificates of their own: pairs of clients, one on each
side, talk across. Every message is numbered and counted end to end; CPU time is that of all processes of both.

  bench/run federation [--pairs 100] [--window 4] [--rate R] [--duration 10] …        (options of jackdaw-bench chat)"""
import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/interop/federation"), str(ROOT / "bench/tools")]
from cluster import accounts_file, end_on_signals  # noqa: E402
from lab import Jackdaw, Lab, free_port  # noqa: E402

ACCOUNTS = 1000


def start(lab, domain, settings):
    """A cluster whose server port DNS knows."""
    cluster = Jackdaw(lab, domain, routers=1, limits__enabled="false", log__level="warn", s2s__connect_timeout_s=30, s2s__queue_timeout_s=120,
                      **settings)
    subprocess.run([cluster.dir / "bin/jackdawctl", "--dir", cluster.dir, "adduser", "--file",
                    accounts_file(cluster.dir / "accounts", ACCOUNTS, domain)], check=True, stdout=subprocess.DEVNULL)
    return cluster


def main():
    p = argparse.ArgumentParser(prog="bench/run federation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", type=pathlib.Path, required=True)
    p.add_argument("--offset", help="not used: free ports are looked for")
    p.add_argument("--set", action="append", default=[], metavar="K=V")
    a, rest = p.parse_known_args()
    end_on_signals()
    os.environ["JACKDAW_BIN"] = str(a.build / "bin")
    settings = {k.replace(".", "__"): v for k, v in (s.split("=", 1) for s in a.set)}
    lab = Lab()
    try:
        lab.dns_port = free_port()
        here, there = (start(lab, d, settings) for d in ("one.lab", "two.lab"))
        for c in (here, there):
            lab.serve(c.domain, c.port)
        lab.start_dns()
        command = [a.build / "bin" / "jackdaw-bench", "chat", f"127.0.0.1:{here.client_port}", "--domain", here.domain, "--peer",
                   f"127.0.0.1:{there.client_port}", "--peer-domain", there.domain, "--dir", here.dir, "--dir", there.dir,
                   "--pairs", 100, "--window", 4, "--settle", 4, *rest]
        code = subprocess.run([str(x) for x in command]).returncode
    finally:
        lab.close()
    sys.exit(code)


main()
