#!/usr/bin/python3
"""Runs a cluster on this machine: see --help, plan.py (what will run) and processes.py (how it is kept running).

Whoever holds the lock on DIR/run/supervisor.lock is the supervisor of DIR; the kernel lets go of it with the process."""
import fcntl
import os
import signal
import sys
import time

import user
from plan import Plan, Refused, parse_arguments
from processes import Cluster, end_leftovers, say

STOP_MAX_S = 60


def take_lock(plan):
    """The open lock file, or None when another supervisor has it."""
    lock = open(plan.run / "supervisor.lock", "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def supervisor_pid(plan):
    try:
        return int((plan.run / "supervisor.pid").read_text())
    except (OSError, ValueError):
        return 0


def stop(plan):
    if not plan.run.is_dir():
        print(f"nothing runs in {plan.dir}")
        return 0
    deadline = time.monotonic() + STOP_MAX_S
    asked = False
    while (lock := take_lock(plan)) is None:
        pid = supervisor_pid(plan)
        if pid and not asked:
            os.kill(pid, signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            print(f"the supervisor of {plan.dir} (process {pid}) does not end; look into {plan.log}/supervisor.log", file=sys.stderr)
            return 1
        time.sleep(0.05)
    left = end_leftovers(plan)
    (plan.run / "supervisor.pid").unlink(missing_ok=True)
    print(f"stopped the cluster in {plan.dir}" if asked or left else f"nothing runs in {plan.dir}")
    lock.close()
    return 0


def supervise(plan, tell):
    """Runs the cluster until it is asked to stop. tell(code, text) is called once: started, or why not."""
    cluster = None
    try:
        end_leftovers(plan)
        plan.make()
        plan.user, plan.user_told = user.choose(plan, plan.args.user)
        cluster = Cluster(plan)
        cluster.start()
        if not cluster.stopping:
            tell(0, plan.greeting())
            cluster.watch()
        say("stopping")
        cluster.stop()
        say("stopped")
        return 0
    except Refused as e:
        if cluster is not None:
            cluster.stop()
        tell(1, f"deploy/run: {e}")
        return 1
    finally:
        plan.clean()
        (plan.run / "supervisor.pid").unlink(missing_ok=True)


def write_pid(plan):
    (plan.run / "supervisor.pid").write_text(f"{os.getpid()}\n")


def run_attached(plan):
    def tell(code, text):
        print(text, file=sys.stderr if code else sys.stdout, flush=True)
        if code == 0:
            print("  Stop           Ctrl-C", flush=True)

    write_pid(plan)
    return supervise(plan, tell)


def run_detached(plan):
    """The parent waits for the child's one message and returns; the child is the supervisor."""
    read_end, write_end = os.pipe()
    if os.fork() > 0:
        os.close(write_end)
        with os.fdopen(read_end) as f:
            code, _, text = f.read().partition("\n")
        if code == "0":
            print(f"{text}\n  Stop           deploy/run --stop --dir {plan.dir}")
            return 0
        print(text or f"deploy/run: the supervisor ended; look into {plan.log}/supervisor.log", file=sys.stderr)
        return 1
    os.setsid()
    os.close(read_end)
    os.chdir("/")
    log = os.open(plan.log / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open("/dev/null", os.O_RDONLY)
    for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    write_pid(plan)

    def tell(code, text):
        print(text, flush=True)
        os.write(write_end, f"{code}\n{text}".encode())
        os.close(write_end)

    code = supervise(plan, tell)
    os._exit(code)


def main():
    args = parse_arguments(sys.argv[1:])
    if args.check_arguments:
        return 0
    plan = Plan(args)
    if args.stop:
        return stop(plan)
    os.umask(0o077)
    try:
        plan.make_directories()
    except Refused as e:
        print(f"deploy/run: {e}", file=sys.stderr)
        return 1
    lock = take_lock(plan)
    if lock is None:
        print(
            f"deploy/run: a cluster already runs in {plan.dir} (supervisor {supervisor_pid(plan)}); "
            f"stop it with deploy/run --stop --dir {plan.dir}, or choose another --dir and --port-offset",
            file=sys.stderr,
        )
        return 1
    return run_detached(plan) if args.detach else run_attached(plan)


if __name__ == "__main__":
    sys.exit(main())
