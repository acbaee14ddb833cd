"""What the interop tests share: a cluster of deploy/run per test file, accounts whose home routers are known, and
programs whose output is waited for. A test that fails shows the end of every log."""
import asyncio
import codecs
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLIENTS = pathlib.Path(os.environ.get("JACKDAW_INTEROP_CLIENTS") or ROOT / "build/interop-clients")  # made by prepare
DOMAIN = "localhost"
PASSWORD = "wherefore art thou"
WAIT_S = 20  # for anything that should happen at once; a busy machine may be slow
LOG_TAIL_LINES = 40


def free_offset():
    """A port offset under which a whole cluster finds its ports free; from the process id, so that tests differ. All
    ports stay below 32768, where the kernel begins to take ports for outgoing connections."""
    ports = [5222, 5223, 5269, 5270, 5347] + [base + i for base in (9100, 9200, 9300, 15222) for i in range(1, 9)]
    for k in range(60):
        offset = 1000 + (os.getpid() * 61 + k * 331) % 16000
        try:
            for port in ports:
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", port + offset))
            return offset
        except OSError:
            continue
    raise RuntimeError("no free ports")


class Cluster:
    """deploy/run with two c2s; stop and start keep what is stored, settings are options of its --set."""

    def __init__(self, routers=2, settings=()):
        self.routers = routers
        self.settings = [word for setting in settings for word in ("--set", setting)]
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-interop-"))
        self.dir = self.tmp / "d"
        self.offset = free_offset()
        self.homes = {}
        try:
            self.start()
        except BaseException:
            self.show_logs()
            self.remove()
            raise

    def run(self, *args):
        argv = [str(ROOT / "deploy/run"), "--dir", str(self.dir), *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120)

    def start(self):
        counts = ("--routers", str(self.routers), "--c2s", "2", "--s2s", "0")
        done = self.run("--detach", "--user", "root", "--port-offset", str(self.offset), "--domain", DOMAIN, *counts, *self.settings)
        if done.returncode != 0:
            raise RuntimeError(f"deploy/run: {done.stderr}")
        # The cluster's own certificate is the one authority: every client checks it, none is told to look away.
        self.certificate = self.dir / f"tls/{DOMAIN}.crt"
        os.environ["SSL_CERT_FILE"] = os.environ["NODE_EXTRA_CA_CERTS"] = str(self.certificate)

    def stop(self):
        done = self.run("--stop")
        if done.returncode != 0:
            raise RuntimeError(f"deploy/run --stop: {done.stderr}")

    def remove(self):
        self.stop()
        shutil.rmtree(self.tmp, ignore_errors=True)

    def port(self, c2s):
        """The port that leads to c2s number 1 or 2 alone."""
        return 15222 + c2s + self.offset

    @property
    def direct_tls_port(self):
        return 5223 + self.offset

    def ctl(self, *args):
        argv = [str(self.dir / "bin/jackdawctl"), "--dir", str(self.dir), *args]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(argv)}: {done.stderr}")
        return done.stdout

    def sessions(self, jid):
        """resource -> name of its c2s."""
        listed = json.loads(self.ctl("--json", "sessions", jid))["sessions"]
        return {s["resource"]: s["node"] for s in listed}

    def stats(self, name):
        role, _, number = name.partition("-")
        port = {"router": 9100, "c2s": 9200}[role] + int(number) + self.offset
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=10) as answer:
            return json.loads(answer.read())

    def opened(self):
        """Sessions that each router has ever opened."""
        names = [f"router-{i}" for i in range(1, self.routers + 1)]
        return {name: self.stats(name)["jackdaw_router_sessions_opened_total"] for name in names}

    def logins(self, jid):
        """(TLS version, mechanism) of each login, as the c2s have logged them."""
        text = "".join(log.read_text() for log in sorted(self.dir.glob("log/c2s-*.log")))
        return re.findall(rf"session open jid={re.escape(jid)}/.* tls=(\S+) .*mechanism=(\S+)", text)

    def show_logs(self):
        for log in sorted(self.dir.glob("log/*.log")):
            lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            print(f"---- {log.name}", *lines, sep="\n", file=sys.stderr)


class Program:
    """A client in a process of its own, all that it prints in one text."""

    def __init__(self, argv, process):
        self.name = os.path.basename(argv[0])
        self.process = process
        self.text = ""
        self.grown = asyncio.Condition()
        self.readers = [asyncio.ensure_future(self.read(s)) for s in (process.stdout, process.stderr)]

    @classmethod
    async def start(cls, *argv, **env):
        pipe = asyncio.subprocess.PIPE
        argv = [str(a) for a in argv]
        options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": {**os.environ, **env}}
        return cls(argv, await asyncio.create_subprocess_exec(*argv, limit=1 << 20, **options))

    async def read(self, stream):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while some := await stream.read(1 << 16):  # XMPP ends no lines
            async with self.grown:
                self.text += decoder.decode(some)
                self.grown.notify_all()

    async def expect(self, pattern):
        """Waits until all that was printed so far has the pattern somewhere."""
        found = None

        def look():
            nonlocal found
            found = re.search(pattern, self.text)
            return found

        async with self.grown:
            try:
                await asyncio.wait_for(self.grown.wait_for(look), WAIT_S)
            except asyncio.TimeoutError:
                raise AssertionError(f"{self.name} never printed {pattern!r}; it printed:\n{self.text}") from None
        return found

    def write(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    async def ended(self, code=0):
        """Waits for a good end."""
        await asyncio.wait_for(self.process.wait(), WAIT_S)
        await asyncio.gather(*self.readers)
        assert self.process.returncode == code, f"{self.name} ended with {self.process.returncode}:\n{self.text}"

    async def stop(self):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), 5)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
        await asyncio.gather(*self.readers)


async def until(what, why, limit_s=WAIT_S):
    """Polls for what has no event to wait for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while not (value := what()):
        if loop.time() > deadline:
            raise AssertionError(f"waited {limit_s} s in vain: {why() if callable(why) else why}")
        await asyncio.sleep(0.05)
    return value


class InteropCase(unittest.TestCase):
    """One cluster for the class, one event loop for all clients that are libraries of this process."""

    routers = 2
    settings = ()

    @classmethod
    def setUpClass(cls):
        # slixmpp asks for the loop at import time and never again.
        cls.loop = asyncio.get_event_loop_policy().get_event_loop()
        if "JACKDAW_INTEROP_CLIENTS" not in os.environ:  # not by ctest, which has them made once
            subprocess.run([HERE / "prepare", CLIENTS], check=True)
        cls.cluster = Cluster(cls.routers, cls.settings)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.remove()

    def setUp(self):
        self.cleanups = []

    def run_async(self, coroutine):
        async def guarded():
            try:
                return await coroutine
            finally:
                for clean in reversed(self.cleanups):
                    await clean()
                await asyncio.sleep(0.1)  # the libraries close their sockets a little after they say so

        try:
            return self.loop.run_until_complete(guarded())
        except BaseException:
            self.cluster.show_logs()
            raise

    async def program(self, *argv, **env):
        program = await Program.start(*argv, **env)
        self.cleanups.append(program.stop)
        return program
