#!/usr/bin/python3
"""common/proc as a process: start, wait for Redis, membership, links, signals, drain, crash; with tiny_role.c and a
real Redis. Usage: test_proc.py TINY_ROLE [TEST]..."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TINY = ""


class Tiny:
    """One process; its standard error is a file that can be waited upon."""

    def __init__(self, case, name, role="router", args=(), **env):
        self.log = case.tmp / f"{name}.log"
        argv = [TINY, "--name", name, "--set", f"cluster.run_dir={case.tmp}", "--set", f"redis.url=unix://{case.socket}"]
        argv += ["--set", "cluster.lease_ms=1000", *args]
        with open(self.log, "wb") as log:
            self.popen = subprocess.Popen(argv, stderr=log, stdout=log, stdin=subprocess.DEVNULL, env=dict(os.environ, TINY_ROLE=role, **env))
        case.addCleanup(self.end)

    def end(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, limit_s=10):
        deadline = time.monotonic() + limit_s
        while not (m := re.search(pattern, self.text())):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} in:\n{self.text()}")
            time.sleep(0.01)
        return m

    def get(self, path):
        host, port = self.wait_for(r"stats=http://([\d.]+):(\d+)/").groups()
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body


class Base(unittest.TestCase):
    def setUp(self):
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-proc-"))
        self.addCleanup(shutil.rmtree, self.tmp)
        self.socket = self.tmp / "redis.sock"

    def start_redis(self):
        p = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.tmp, "--save", ""], stdout=subprocess.DEVNULL
        )
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        deadline = time.monotonic() + 10
        while not self.socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return p

    def wait_ready(self, tiny, status=200):
        deadline = time.monotonic() + 10
        while (answer := tiny.get("/readyz"))[0] != status:
            if time.monotonic() > deadline:
                raise AssertionError(f"{answer}\n{tiny.text()}")
            time.sleep(0.02)
        return answer[1]


class Life(Base):
    def test_waits_for_redis_and_says_so(self):
        a = Tiny(self, "router-1")
        a.wait_for(f"waiting for Redis at unix://{self.socket}")
        self.assertEqual(a.get("/readyz"), (503, "waiting for Redis\n"))
        self.assertEqual(a.get("/healthz")[0], 200)
        self.start_redis()
        a.wait_for("tiny: ready")
        self.wait_ready(a)

    def test_stats(self):
        self.start_redis()
        a = Tiny(self, "router-1")
        self.wait_ready(a)
        stats = json.loads(a.get("/stats")[1])
        self.assertIn("jackdaw_epoch", json.dumps(stats))
        metrics = a.get("/metrics")[1]
        self.assertRegex(metrics, r'jackdaw_process_info\{name="router-1",role="router",version="[\d.]+"\} 1')
        self.assertRegex(metrics, r"jackdaw_ready 1\n")
        self.assertRegex(metrics, r"jackdaw_resident_memory_bytes [1-9]\d{6,}\n")
        self.assertRegex(metrics, r"jackdaw_epoch [1-9]")

    def test_links_and_leave(self):
        self.start_redis()
        a, b, c = Tiny(self, "router-1"), Tiny(self, "router-2"), Tiny(self, "c2s-1", "c2s")
        a.wait_for("tiny: frame from router-2: hello from router-2")
        b.wait_for("tiny: frame from router-1: hello from router-1")
        c.wait_for("tiny: frame from router-1: hello from router-1")
        c.wait_for("tiny: frame from router-2: hello from router-2")
        b.popen.send_signal(signal.SIGTERM)
        self.assertEqual(b.popen.wait(10), 0)
        a.wait_for("tiny: gone router-2")
        c.wait_for("tiny: gone router-2")
        self.assertRegex(b.text(), r"(?s)tiny: drain.*leaving.*tiny: stop")

    def test_killed_peer_is_noticed(self):
        self.start_redis()
        a, b = Tiny(self, "router-1"), Tiny(self, "router-2")
        a.wait_for("tiny: up router-2")
        self.wait_ready(b)
        b.popen.kill()
        a.wait_for("tiny: gone router-2", 5)

    def test_redis_dies_and_returns(self):
        redis = self.start_redis()
        a = Tiny(self, "router-1")
        self.wait_ready(a)
        redis.kill()
        redis.wait()
        a.wait_for("tiny: redis down")
        a.wait_for("Redis does not answer")
        self.wait_ready(a, 503)
        self.socket.unlink()
        self.start_redis()
        a.wait_for("(?s)tiny: redis down.*tiny: redis up")
        self.wait_ready(a)
        self.assertEqual(a.text().count("tiny: ready"), 1)


class Signals(Base):
    def test_terminates_while_redis_is_away(self):
        a = Tiny(self, "router-1")
        a.wait_for("waiting for Redis")
        a.popen.send_signal(signal.SIGINT)
        self.assertEqual(a.popen.wait(5), 0)

    def test_hangup_reloads(self):
        conf = self.tmp / "f.conf"
        conf.write_text('log: { level = "info"; };\n')
        self.start_redis()
        a = Tiny(self, "router-1", args=("--config", str(conf)))
        self.wait_ready(a)
        a.popen.send_signal(signal.SIGHUP)
        a.wait_for("tiny: reload")
        conf.write_text('log: { level = "loud"; };\n')
        a.popen.send_signal(signal.SIGHUP)
        a.wait_for("f.conf:1: log.level must be one of")

    def test_stuck_drain_ends(self):
        self.start_redis()
        a = Tiny(self, "router-1", TINY_STUCK="1")
        self.wait_ready(a)
        a.popen.send_signal(signal.SIGTERM)
        a.wait_for("tiny: drain")
        self.assertEqual(self.wait_ready(a, 503), "draining\n")
        self.assertEqual(a.popen.wait(9), 0)
        self.assertIn("the drain took longer", a.text())

    def test_second_signal_ends_at_once(self):
        self.start_redis()
        a = Tiny(self, "router-1", TINY_STUCK="1")
        self.wait_ready(a)
        a.popen.send_signal(signal.SIGTERM)
        a.wait_for("tiny: drain")
        a.popen.send_signal(signal.SIGTERM)
        self.assertEqual(a.popen.wait(2), 0)

    def test_crash_report(self):
        self.start_redis()
        a = Tiny(self, "router-1")
        self.wait_ready(a)
        a.popen.send_signal(signal.SIGABRT)
        self.assertEqual(a.popen.wait(10), -signal.SIGABRT)
        self.assertRegex(a.text(), r"(?s)=== CRASH role=router name=router-1 version=.*signal=SIGABRT.*tiny_role.*working on: tiny thoughts")


class Refusals(Base):
    def refuse(self, *args, **env):
        done = subprocess.run([TINY, *args], capture_output=True, text=True, timeout=10, env=dict(os.environ, **env))
        return done.returncode, done.stderr

    def test_arguments(self):
        self.assertEqual(self.refuse("--nonsense")[0], 2)
        self.assertEqual(self.refuse("--name", "A B")[0], 2)
        code, text = self.refuse("--set", "c2s.x=1", "--set", "log.level=loud")
        self.assertEqual(code, 1)
        self.assertIn("unknown option", text)
        self.assertIn("log.level must be one of", text)
        self.assertEqual(self.refuse("--config", "/nowhere")[0], 1)

    def test_places(self):
        for setting, word in (
            ("stats.listen=127.0.0.1:99999", "stats.listen"),
            ("redis.url=http://x", "redis.url"),
            ("bus.listen=ipc:///nowhere/at/all", "/nowhere/at/all"),
        ):
            code, text = self.refuse("--set", f"cluster.run_dir={self.tmp}", "--set", setting)
            self.assertEqual(code, 1, text)
            self.assertIn("does not start", text)
            self.assertIn(word, text)
        self.assertEqual(self.refuse("--set", f"cluster.run_dir={self.tmp}", TINY_REFUSE="1")[0], 1)

    def test_print_config(self):
        done = subprocess.run([TINY, "--set", "c2s.require_tls=false", "--print-config"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0)
        self.assertIn("    require_tls = false;", done.stdout)


if __name__ == "__main__":
    TINY = str(pathlib.Path(sys.argv.pop(1)).absolute())
    unittest.main(verbosity=2)
