#!/usr/bin/python3
"""The whole system on a Redis Cluster: chats go on while slots move and masters die.

Three masters and three replicas on loopback, the processes of deploy/run with redis.url and redis.wait_replicas set to them,
and the clients and the judge of tests/chaos: nothing that was acknowledged may be lost, doubled or put in another order."""
import argparse
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHAOS = HERE.parent / "chaos" / "run.py"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    def __init__(self, directory, number):
        self.port, self.bus = free_port(), free_port()
        self.dir = directory / f"redis-{number}"
        self.dir.mkdir()
        self.popen = None

    def start(self):
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.dir,
            "cluster-enabled": "yes",
            "cluster-port": self.bus,
            "cluster-node-timeout": 800,
            "cluster-replica-validity-factor": 0,
            "repl-diskless-sync-delay": 0,
            "appendonly": "yes",
            "save": "",
            "loglevel": "warning",
        }
        argv = ["redis-server"]
        for key, value in options.items():
            argv += [f"--{key}", str(value)]
        with open(self.dir / "log", "ab") as log:
            self.popen = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def cli(self, *words):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *map(str, words)], capture_output=True, text=True)
        return (done.stdout + done.stderr).strip()

    def until(self, wanted, *words, seconds=15):
        deadline = time.monotonic() + seconds
        while wanted not in (answer := self.cli(*words)):
            if time.monotonic() > deadline:
                raise SystemExit(f"Redis on {self.port}: {' '.join(map(str, words))} never said {wanted}, but {answer}")
            time.sleep(0.05)


def make_cluster(directory):
    nodes = [Node(directory, i) for i in range(6)]
    for i, n in enumerate(nodes):
        n.start()
        n.until("PONG", "PING")
        n.cli("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
    for i in range(3):
        nodes[i].cli("CLUSTER", "ADDSLOTSRANGE", i * 16384 // 3, (i + 1) * 16384 // 3 - 1)
    for n in nodes[1:]:
        nodes[0].cli("CLUSTER", "MEET", "127.0.0.1", n.port, n.bus)
    for i in range(3):
        name = nodes[i].cli("CLUSTER", "MYID")
        nodes[i + 3].until(name, "CLUSTER", "NODES")
        nodes[i + 3].cli("CLUSTER", "REPLICATE", name)
    for i in range(3):
        nodes[i + 3].until("master_link_status:up", "INFO", "replication")
        nodes[i].until("cluster_state:ok", "CLUSTER", "INFO")
    return nodes


def master_killed(nodes, i):
    """Master i dies, its replica i + 3 takes over, and the dead one comes back to follow it."""
    print(f"redis: master on {nodes[i].port} is killed", flush=True)
    nodes[i].kill()
    begun = time.monotonic()
    nodes[i + 3].until("master", "ROLE")
    print(f"redis: {nodes[i + 3].port} has taken over after {time.monotonic() - begun:.1f} s", flush=True)
    nodes[i].start()
    nodes[i].until("master_link_status:up", "INFO", "replication")


def slots_moved(nodes, source, target, count):
    print(f"redis: {count} slots go from {nodes[source].port} to {nodes[target].port}", flush=True)
    argv = ["redis-cli", "--cluster", "reshard", f"127.0.0.1:{nodes[source].port}", "--cluster-yes", "--cluster-slots", str(count)]
    argv += ["--cluster-from", nodes[source].cli("CLUSTER", "MYID"), "--cluster-to", nodes[target].cli("CLUSTER", "MYID")]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"reshard failed:\n{done.stdout[-2000:]}{done.stderr}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("--seconds", type=float, default=20, help="of load")
    p.add_argument("--rate", type=float, default=200, help="messages a second")
    p.add_argument("--clients", type=int, default=24)
    p.add_argument("--wait", type=int, default=1, help="redis.wait_replicas")
    p.add_argument("--lease", type=int, default=10000, help="cluster.lease_ms: longer than a failover takes")
    p.add_argument("--away", type=float, default=0.1, help="share of the clients that is away at any time")
    p.add_argument("--port-offset", type=int, default=8600)
    p.add_argument("--keep", action="store_true")
    args = p.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="jd-redis-", dir="/tmp"))
    nodes, chaos = [], None
    try:
        nodes = make_cluster(directory)
        url = f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[5].port}"
        argv = [sys.executable, str(CHAOS), "--kill", "", "--seconds", str(args.seconds), "--rate", str(args.rate)]
        argv += ["--clients", str(args.clients), "--plain", "0", "--routers", "2", "--s2s", "0", "--workers", "1"]
        argv += ["--away", str(args.away), "--port-offset", str(args.port_offset), "--dir", str(directory / "jackdaw")]
        argv += ["--set", f"redis.url={url}", "--set", f"redis.wait_replicas={args.wait}"]
        argv += ["--set", f"cluster.lease_ms={args.lease}"] + ["--keep"] * args.keep
        chaos = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        for line in chaos.stdout:
            print(line, end="", flush=True)
            if "see each other" in line:
                break
        begun = time.monotonic()
        time.sleep(min(3, args.seconds / 6))
        slots_moved(nodes, 0, 1, 300)
        master_killed(nodes, 1)
        time.sleep(2)
        if time.monotonic() - begun < args.seconds * 0.8:
            master_killed(nodes, 2)
        rest, _ = chaos.communicate(timeout=180)
        print(rest, end="")
        return chaos.returncode
    finally:
        if chaos is not None and chaos.poll() is None:
            chaos.terminate()
            chaos.wait()
        for n in nodes:
            if n.popen is not None and n.popen.poll() is None:
                n.kill()
        if args.keep:
            print(f"kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    os.chdir(HERE)
    sys.exit(main())
