#!/usr/bin/python3
"""The whole system on a Redis that something happens to: chats go on, and the judge of tests/chaos counts.

    --what cluster    three masters and three replicas: slots move, masters die
           sentinel   a master, two replicas, three Sentinels: the master is killed, then its successor hangs (SIGSTOP)
           paused     SIGSTOP for ten seconds, longer than a lease
           restarted  SIGTERM and, a second later, a new process with the old file
           full       maxmemory with noeviction, under load, for some seconds

The processes of deploy/run, with redis.url (and redis.wait_replicas) set to that Redis, and the clients of tests/chaos: nothing
that was acknowledged may be lost, doubled or put in another order, every session goes on, and presence is right at the end. While
Redis is full a message may come back with the error resource-constraint: that is the truth, and at least one must."""
import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHAOS = HERE.parent / "chaos" / "run.py"
PAUSE_S = 10
FULL_S = 5


def free_port():
    """One outside the range from which the kernel takes ports of outgoing connections."""
    for port in range(20000 + os.getpid() % 5000, 32000):
        if port not in free_port.taken:
            with socket.socket() as s:
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue
            free_port.taken.add(port)
            return port
    raise SystemExit("no free port")


free_port.taken = set()


class Node:
    """A redis-server, or a Sentinel when a configuration is given."""

    def __init__(self, directory, number, options=None, sentinel=None):
        self.port = free_port()
        self.dir = directory / f"redis-{number}"
        self.dir.mkdir()
        self.popen, self.sentinel = None, sentinel
        self.options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.dir,
            "appendonly": "yes",
            "save": "",
            "repl-diskless-sync-delay": 0,
            "loglevel": "warning",
        } | (options or {})

    def start(self):
        argv = ["redis-server"]
        if self.sentinel is not None:
            conf = self.dir / "sentinel.conf"
            conf.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.dir}\n{self.sentinel}")
            argv += [str(conf), "--sentinel"]
        else:
            for key, value in self.options.items():
                argv += [f"--{key}", str(value)]
        with open(self.dir / "log", "ab") as log:
            self.popen = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.until("PONG", "PING")

    def kill(self, number=signal.SIGKILL):
        self.popen.send_signal(signal.SIGCONT)
        self.popen.send_signal(number)
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


class Single:
    """One redis-server."""

    chaos = []

    def __init__(self, directory, args):
        self.nodes = [Node(directory, 0)]
        self.nodes[0].start()
        self.url = f"redis://127.0.0.1:{self.nodes[0].port}"


class Paused(Single):
    seconds = 20

    def weather(self, args):
        print(f"redis: paused for {PAUSE_S} s", flush=True)
        self.nodes[0].popen.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        self.nodes[0].popen.send_signal(signal.SIGCONT)
        print("redis: goes on", flush=True)


class Restarted(Single):
    seconds = 12

    def weather(self, args):
        for _ in range(2):
            print("redis: is restarted", flush=True)
            self.nodes[0].kill(signal.SIGTERM)
            time.sleep(1)
            self.nodes[0].start()
            time.sleep(2)


class Full(Single):
    seconds = 15
    chaos = ["--may-answer", "resource-constraint"]

    def weather(self, args):
        node = self.nodes[0]
        node.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        for _ in range(2):
            print(f"redis: full for {FULL_S} s", flush=True)
            node.cli("CONFIG", "SET", "maxmemory", 1)
            time.sleep(FULL_S)
            node.cli("CONFIG", "SET", "maxmemory", 0)
            print("redis: has room again", flush=True)
            time.sleep(1)


class Sentinel:
    seconds = 30
    chaos = []

    def __init__(self, directory, args):
        self.nodes = [Node(directory, 0)]
        self.nodes[0].start()
        master = self.nodes[0].port
        for i in (1, 2):
            self.nodes.append(Node(directory, i))
            self.nodes[i].start()
            self.nodes[i].cli("REPLICAOF", "127.0.0.1", master)
            self.nodes[i].until("master_link_status:up", "INFO", "replication")
        conf = (
            f"sentinel monitor shop 127.0.0.1 {master} 2\nsentinel down-after-milliseconds shop 1000\n"
            "sentinel failover-timeout shop 3000\nsentinel parallel-syncs shop 2\n"
        )
        for i in (3, 4, 5):
            self.nodes.append(Node(directory, i, sentinel=conf))
            self.nodes[i].start()
        for s in self.nodes[3:]:
            s.until("OK 3", "SENTINEL", "CKQUORUM", "shop")
        self.nodes[3].until("127.0.0.1", "SENTINEL", "REPLICAS", "shop")
        self.url = "redis+sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.nodes[3:]) + "/shop"

    def master(self):
        answer = self.nodes[3].cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop").split()
        return next(n for n in self.nodes[:3] if str(n.port) in answer)

    def successor_of(self, old, begun):
        while (new := self.master()) is old:
            if time.monotonic() - begun > 20:
                raise SystemExit("the Sentinels named no other master")
            time.sleep(0.1)
        new.until("master", "ROLE")
        print(f"redis: {new.port} has taken over after {time.monotonic() - begun:.1f} s", flush=True)

    def weather(self, args):
        old = self.master()
        print(f"redis: master on {old.port} is killed", flush=True)
        old.kill()
        self.successor_of(old, time.monotonic())
        old.start()
        old.until("slave", "ROLE")
        time.sleep(4)
        old = self.master()
        print(f"redis: master on {old.port} hangs", flush=True)
        old.popen.send_signal(signal.SIGSTOP)
        self.successor_of(old, time.monotonic())
        old.popen.send_signal(signal.SIGCONT)
        old.until("slave", "ROLE")


class Cluster:
    seconds = 20
    chaos = []

    def __init__(self, directory, args):
        self.nodes = nodes = []
        for i in range(6):
            options = {
                "cluster-enabled": "yes",
                "cluster-port": free_port(),
                "cluster-node-timeout": 800,
                "cluster-replica-validity-factor": 0,
            }
            nodes.append(Node(directory, i, options))
            nodes[i].start()
            nodes[i].cli("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for i in range(3):
            nodes[i].cli("CLUSTER", "ADDSLOTSRANGE", i * 16384 // 3, (i + 1) * 16384 // 3 - 1)
        for n in nodes[1:]:
            nodes[0].cli("CLUSTER", "MEET", "127.0.0.1", n.port, n.options["cluster-port"])
        for i in range(3):
            name = nodes[i].cli("CLUSTER", "MYID")
            nodes[i + 3].until(name, "CLUSTER", "NODES")
            nodes[i + 3].cli("CLUSTER", "REPLICATE", name)
        for i in range(3):
            nodes[i + 3].until("master_link_status:up", "INFO", "replication")
            nodes[i].until("cluster_state:ok", "CLUSTER", "INFO")
        self.url = f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[5].port}"

    def master_killed(self, i):
        """Master i dies, its replica i + 3 takes over, and the dead one comes back to follow it."""
        nodes = self.nodes
        print(f"redis: master on {nodes[i].port} is killed", flush=True)
        nodes[i].kill()
        begun = time.monotonic()
        nodes[i + 3].until("master", "ROLE")
        print(f"redis: {nodes[i + 3].port} has taken over after {time.monotonic() - begun:.1f} s", flush=True)
        nodes[i].start()
        nodes[i].until("master_link_status:up", "INFO", "replication")

    def slots_moved(self, source, target, count):
        nodes = self.nodes
        print(f"redis: {count} slots go from {nodes[source].port} to {nodes[target].port}", flush=True)
        argv = ["redis-cli", "--cluster", "reshard", f"127.0.0.1:{nodes[source].port}", "--cluster-yes", "--cluster-slots", str(count)]
        argv += ["--cluster-from", nodes[source].cli("CLUSTER", "MYID"), "--cluster-to", nodes[target].cli("CLUSTER", "MYID")]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"reshard failed:\n{done.stdout[-2000:]}{done.stderr}")

    def weather(self, args):
        begun = time.monotonic()
        self.slots_moved(0, 1, 300)
        self.master_killed(1)
        time.sleep(2)
        if time.monotonic() - begun < args.seconds * 0.8:
            self.master_killed(2)


KINDS = {"cluster": Cluster, "sentinel": Sentinel, "paused": Paused, "restarted": Restarted, "full": Full}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("--what", choices=KINDS, default="cluster")
    p.add_argument("--seconds", type=float, help="of load")
    p.add_argument("--rate", type=float, default=200, help="messages a second")
    p.add_argument("--clients", type=int, default=24)
    p.add_argument("--wait", type=int, help="redis.wait_replicas; default: 1 where there are replicas")
    p.add_argument("--lease", type=int, help="cluster.lease_ms; default: longer than a failover takes, else as usual")
    p.add_argument("--away", type=float, default=0.1, help="share of the clients that is away at any time")
    p.add_argument("--port-offset", type=int, default=8600)
    p.add_argument("--keep", action="store_true")
    args = p.parse_args()
    kind = KINDS[args.what]
    replicated = kind in (Cluster, Sentinel)
    args.seconds = args.seconds or kind.seconds
    directory = pathlib.Path(tempfile.mkdtemp(prefix="jd-redis-", dir="/tmp"))
    redis, chaos = None, None
    try:
        redis = kind(directory, args)
        argv = [sys.executable, str(CHAOS), "--kill", "", "--seconds", str(args.seconds), "--rate", str(args.rate)]
        argv += ["--clients", str(args.clients), "--plain", "0", "--routers", "2", "--s2s", "0", "--workers", "1"]
        argv += ["--away", str(args.away), "--port-offset", str(args.port_offset), "--dir", str(directory / "jackdaw")]
        argv += ["--set", f"redis.url={redis.url}", *kind.chaos]
        wait = args.wait if args.wait is not None else int(replicated)
        lease = args.lease or (10000 if replicated else None)
        argv += ["--set", f"redis.wait_replicas={wait}"] + (["--set", f"cluster.lease_ms={lease}"] if lease else [])
        argv += ["--keep"] * args.keep
        chaos = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        for line in chaos.stdout:
            print(line, end="", flush=True)
            if "see each other" in line:
                break
        time.sleep(min(3, args.seconds / 6))
        redis.weather(args)
        rest, _ = chaos.communicate(timeout=180)
        print(rest, end="")
        return chaos.returncode
    finally:
        if chaos is not None and chaos.poll() is None:
            chaos.terminate()
            chaos.wait()
        for n in redis.nodes if redis is not None else []:
            if n.popen is not None and n.popen.poll() is None:
                n.kill()
        if args.keep:
            print(f"kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    os.chdir(HERE)
    sys.exit(main())
