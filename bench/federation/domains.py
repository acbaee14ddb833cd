#!/usr/bin/python3
"""Federation with many remote domains at once: one process plays all of them, each on a loopback address of its own,
in clear with dialback. Prints how long all streams take, memory per domain pair and messages a second.

Usage: domains.py [--domains 1000] [--messages 50] [--s2s 1]        (binaries: JACKDAW_BIN, as for deploy/run)"""
import argparse
import multiprocessing
import pathlib
import re
import selectors
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/interop/federation"))
from lab import DIALBACK, SERVER, SM, STREAM, Jackdaw, Lab, free_port, until  # noqa: E402

CLIENTS = 8


def servers(port, counters, ready):
    """All remote servers: header, features, every key is right, count what comes."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(4096)
    listener.setblocking(False)
    loop = selectors.EpollSelector()
    loop.register(listener, selectors.EVENT_READ, None)
    ready.set()
    while True:
        for key, _ in loop.select():
            if key.data is None:
                s, _ = listener.accept()
                s.setblocking(False)
                loop.register(s, selectors.EVENT_READ, bytearray())
                continue
            serve(loop, key.fileobj, key.data, counters)


def serve(loop, s, kept, counters):
    try:
        data = s.recv(262144)
    except OSError:
        data = b""
    if not data:
        loop.unregister(s)
        s.close()
        return
    counters[0] += data.count(b"</message>")
    if kept is not None and b"DONE" not in kept[:4]:
        kept += data
        if (m := re.search(rb"<stream:stream[^>]* from='([^']*)' to='([^']*)'[^>]*>", kept)) and b"<db:result" not in kept:
            s.send(f"<stream:stream xmlns='{SERVER}' xmlns:stream='{STREAM}' xmlns:db='{DIALBACK}' from='{m[2].decode()}' to='{m[1].decode()}' id='i' version='1.0'>"
                   "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>".encode())
        elif m := re.search(rb"<db:result from='([^']*)' to='([^']*)'>[^<]*</db:result>", kept):
            s.send(f"<db:result from='{m[2].decode()}' to='{m[1].decode()}' type='valid'/>".encode())
            counters[1] += 1
            kept[:] = b"DONE"


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--domains", type=int, default=1000)
    p.add_argument("--messages", type=int, default=50)
    p.add_argument("--s2s", type=int, default=1)
    args = p.parse_args()
    lab = Lab()
    try:
        lab.dns_port = free_port()
        port = free_port()
        counters, ready = multiprocessing.Array("Q", 2, lock=False), multiprocessing.Event()
        process = multiprocessing.Process(target=servers, args=(port, counters, ready), daemon=True)
        process.start()
        ready.wait(10)
        lab.stoppers.append(process.terminate)
        for i in range(args.domains):
            lab.serve(f"d{i}.lab", port, host=f"127.1.{i // 250}.{i % 250 + 1}")
        lab.start_dns()
        jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=args.s2s, s2s__require_tls="false", limits__enabled="false", log__level="warn",
                          s2s__connect_timeout_s=60, s2s__queue_timeout_s=120)
        for i in range(CLIENTS):
            jackdaw.add(f"u{i}")
        clients = [jackdaw.client(f"u{i}") for i in range(CLIENTS)]
        pids = jackdaw.pids("s2s").values()
        before = sum(resident(pid) for pid in pids)

        def send(rounds):
            start, want = time.monotonic(), counters[0] + args.domains * rounds
            for r in range(rounds):
                for k, c in enumerate(clients):
                    c.send("".join(f"<message to='x@d{i}.lab' type='chat' id='m'><body>message number {r} of the bench, as long as people write</body></message>"
                                   for i in range(k, args.domains, CLIENTS)))
            until(lambda: counters[0] >= want, lambda: f"{want - counters[0]} messages have not come", 300, 0.002)
            return time.monotonic() - start

        took = send(1)
        after = sum(resident(pid) for pid in pids)
        print(f"{args.domains} domains: all streams proven and used after {took:.2f} s; "
              f"{(after - before) / args.domains:.1f} KiB a domain pair with its open stream (s2s: {before} -> {after} KiB)")
        took = send(args.messages)
        print(f"{args.domains * args.messages} messages to {args.domains} domains in {took:.2f} s: {args.domains * args.messages / took:.0f} a second")
        until(lambda: jackdaw.stats("jackdaw_s2s_stanzas_out_total") == jackdaw.stats("jackdaw_s2s_stanzas_safe_total"), "not all is safe")
        for c in clients:
            c.close()
    finally:
        lab.close()


if __name__ == "__main__":
    main()
