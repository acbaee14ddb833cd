"""The processes: started, watched, started again when they die, stopped in order."""
import ctypes
import http.client
import os
import select
import signal
import socket
import subprocess
import time

from plan import Refused

MARK = "JACKDAW_SUPERVISED_DIR"  # in the environment of every process that is started here: whose it is
READY_MAX_S = 60
REDIS_READY_MAX_S = 300  # reading a large append-only file takes long
DEATHS_MAX = 3  # of one process before the cluster was ready for the first time
STOP_MAX_S = (20, 8, 8)  # by stage, before SIGKILL
STEADY_S = 10  # a process that has lived so long starts anew without delay
DELAYS_S = (0, 0.25, 0.5, 1, 2, 4, 8)

_libc = ctypes.CDLL(None)


def say(text):
    print(time.strftime("%H:%M:%S ", time.localtime()) + text, flush=True)


def end_with_supervisor(parent):
    """Runs in the child: when the supervisor dies by force, the process drains and ends by itself."""
    _libc.prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def is_ours(pid, directory):
    """True when a process that was started for this directory has this id."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return f"{MARK}={directory}".encode() in f.read().split(b"\0")
    except OSError:
        return False


class Process:
    def __init__(self, plan, spec):
        self.plan, self.spec = plan, spec
        self.popen = None
        self.started = 0
        self.deaths = 0  # in a row, each within STEADY_S of its start
        self.start_at = None  # when to start again; None = runs or is not wanted

    @property
    def pid_file(self):
        return self.plan.run / f"{self.spec.name}.pid"

    @property
    def log_file(self):
        return self.plan.log / f"{self.spec.name}.log"

    def start(self):
        self.start_at = None
        self.started = time.monotonic()
        parent = os.getpid()
        with open(self.log_file, "ab") as log:
            self.popen = subprocess.Popen(
                self.spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.plan.dir,
                env=dict(os.environ, **{MARK: str(self.plan.dir)}),
                **self.plan.identity(),
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
                preexec_fn=lambda: end_with_supervisor(parent),
            )
        self.pid_file.write_text(f"{self.popen.pid}\n")

    def has_died(self):
        """True once after each death; the process is then due again after a delay."""
        if self.popen is None or self.popen.poll() is None:
            return False
        lived = time.monotonic() - self.started
        self.deaths = 1 if lived > STEADY_S else self.deaths + 1
        self.start_at = time.monotonic() + DELAYS_S[min(self.deaths, len(DELAYS_S)) - 1]
        return True

    def reap(self):
        code, self.popen = self.popen.returncode, None
        self.pid_file.unlink(missing_ok=True)
        if code < 0:
            try:
                return f"was ended by {signal.Signals(-code).name}"
            except ValueError:
                return f"was ended by signal {-code}"
        return f"ended with status {code}"

    def signal(self, number):
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(number)

    def last_words(self):
        try:
            with open(self.log_file, "rb") as f:
                f.seek(0, os.SEEK_END)
                f.seek(max(0, f.tell() - 4000))
                lines = f.read().decode(errors="replace").splitlines()[-5:]
        except OSError:
            lines = []
        return "\n".join("    " + line for line in lines)

    def not_ready(self):
        """None when it serves; else what stands in the way."""
        if self.popen is None or self.popen.poll() is not None:
            return "is not running"
        try:
            return self.ask_redis() if self.spec.stats is None else self.ask_readyz()
        except (OSError, http.client.HTTPException) as e:
            return f"does not answer yet ({e})"

    def ask_redis(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            s.connect(self.plan.redis_socket)
            s.sendall(b"PING\r\n")
            answer = s.recv(200)
        return None if answer.startswith(b"+PONG") else answer.decode(errors="replace").strip()

    def ask_readyz(self):
        connection = http.client.HTTPConnection(*self.spec.stats, timeout=2)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            body = response.read(200).decode(errors="replace").strip()
        finally:
            connection.close()
        return None if response.status == 200 else body


class Cluster:
    """Owns all processes. Signals come through a pipe, so that one select waits for everything."""

    def __init__(self, plan):
        self.plan = plan
        self.processes = [Process(plan, spec) for spec in plan.specs]
        self.stopping = 0  # how often we were asked
        self.was_ready = False
        self.wake_in, self.wake_out = os.pipe()
        os.set_blocking(self.wake_in, False)
        os.set_blocking(self.wake_out, False)
        signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.on_stop)
        signal.signal(signal.SIGHUP, self.on_hangup)

    def on_stop(self, *_):
        self.stopping += 1

    def on_hangup(self, *_):
        if os.getpgrp() == os.getpid() and os.getsid(0) == os.getpid():  # detached: reload certificates
            for p in self.processes:
                if p.spec.stage > 0:
                    p.signal(signal.SIGHUP)
        else:
            self.stopping += 1

    def sleep(self, seconds):
        """Until a signal comes, at most so long."""
        select.select([self.wake_in], [], [], max(0, seconds))
        try:
            while os.read(self.wake_in, 4096):
                pass
        except BlockingIOError:
            pass

    def tend(self):
        """Starts again what has died and is due. Returns the seconds until the next one is due."""
        next_s = 3600.0
        for p in self.processes:
            if p.has_died():
                how, words = p.reap(), p.last_words()
                # Who was killed from outside has nothing to say about it.
                told = f"; its last lines:\n{words}" if words and "SIGKILL" not in how else ""
                say(f"{p.spec.name} {how}; starting it again{told}")
                if not self.was_ready and p.deaths >= DEATHS_MAX:
                    raise Refused(f"{p.spec.name} does not stay alive; its last lines ({p.log_file}):\n{words}")
            if p.start_at is not None:
                wait_s = p.start_at - time.monotonic()
                if wait_s <= 0:
                    p.start()
                else:
                    next_s = min(next_s, wait_s)
        return next_s

    def start(self):
        """Returns when everything serves, or when we were asked to stop."""
        for stages, limit_s in (((0,), REDIS_READY_MAX_S), ((1, 2), READY_MAX_S)):
            started = [p for p in self.processes if p.spec.stage in stages]
            for p in started:
                p.start()
            deadline = time.monotonic() + limit_s
            while not self.stopping:
                next_s = self.tend()
                # All in one pass: one that was ready a moment ago may have died since.
                slow, why = next(((p, w) for p in started if (w := p.not_ready()) is not None), (None, None))
                if slow is None:
                    break
                if time.monotonic() > deadline:
                    raise Refused(
                        f"{slow.spec.name} is not ready after {limit_s} s: {why}; its last lines ({slow.log_file}):\n{slow.last_words()}"
                    )
                self.sleep(min(0.03, next_s))
        self.was_ready = not self.stopping

    def watch(self):
        while not self.stopping:
            self.sleep(self.tend())

    def stop(self):
        """c2s and s2s first, so that clients are told; then routers; Redis last."""
        for stage in (2, 1, 0):
            asked = self.stopping
            mine = [p for p in self.processes if p.spec.stage == stage and p.popen is not None]
            for p in mine:
                p.signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_MAX_S[stage]
            while any(p.popen.poll() is None for p in mine):
                if time.monotonic() > deadline or (self.stopping > max(1, asked) and stage > 0):
                    for p in mine:
                        if p.popen.poll() is None:
                            say(f"{p.spec.name} does not end; SIGKILL")
                            p.signal(signal.SIGKILL)
                    deadline = time.monotonic() + 5
                self.sleep(0.2)
            for p in mine:
                p.reap()


def end_leftovers(plan):
    """Ends what a supervisor that was killed has left running for this directory, known by its pid files."""
    left = []
    for file in plan.run.glob("*.pid"):
        if file.name == "supervisor.pid":
            continue
        text = file.read_text().strip()
        if text.isdigit() and is_ours(int(text), plan.dir):
            left.append(int(text))
        else:
            file.unlink(missing_ok=True)
    for number, limit_s in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        for pid in left:
            if is_ours(pid, plan.dir):
                say(f"process {pid} was left over from an earlier run; {number.name}")
                os.kill(pid, number)
        deadline = time.monotonic() + limit_s
        while any(is_ours(pid, plan.dir) for pid in left) and time.monotonic() < deadline:
            time.sleep(0.05)
    return len(left)
