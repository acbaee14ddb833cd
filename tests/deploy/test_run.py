#!/usr/bin/python3
"""deploy/run: start, restart, stop, refusals; with stand-ins for the roles (fake_role.c) and a real Redis.

Usage: test_run.py FAKE_ROLE [TEST]..."""
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = str(ROOT / "deploy/run")
FAKE = ""


def free_offset():
    """An offset under which the ports that the tests look at are free."""
    for offset in range(20000 + os.getpid() % 5000, 45000, 97):
        try:
            for port in (5222, 5223, 5269, 5270, 5347, 9101, 9102, 9201, 9202, 9301, 15223, 15224):
                with socket.socket() as s:
                    s.bind(("0.0.0.0", port + offset))
            return offset
        except OSError:
            continue
    raise RuntimeError("no free ports")


def wait_until(what, limit_s=15):
    deadline = time.monotonic() + limit_s
    while not (value := what()):
        if time.monotonic() > deadline:
            raise AssertionError("waited too long")
        time.sleep(0.02)
    return value


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Base(unittest.TestCase):
    def setUp(self):
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-run-"))
        self.dir = self.tmp / "d"
        self.bin = self.tmp / "bin"
        self.bin.mkdir()
        for name in ("jackdaw-router", "jackdaw-c2s", "jackdaw-s2s", "jackdawctl"):
            (self.bin / name).symlink_to(FAKE)
        self.env = dict(os.environ, JACKDAW_BIN=str(self.bin), FAKE_DIR=str(self.tmp))
        self.offset = free_offset()

    def tearDown(self):
        self.run_("--stop")
        shutil.rmtree(self.tmp)

    def run_(self, *args):
        return subprocess.run([RUN, "--dir", self.dir, *args], env=self.env, capture_output=True, text=True, timeout=100)

    def start(self, *args):
        done = self.run_("--detach", "--port-offset", str(self.offset), *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, *args):
        done = self.run_("--detach", "--port-offset", str(self.offset), *args)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr

    def pid(self, name):
        try:
            return int((self.dir / f"run/{name}.pid").read_text())
        except (OSError, ValueError):
            return 0

    def pids(self):
        return {f.stem: int(f.read_text()) for f in (self.dir / "run").glob("*.pid")}

    def redis(self, *words):
        done = subprocess.run(["redis-cli", "-s", self.dir / "run/redis.sock", *words], capture_output=True, text=True)
        return done.stdout.strip()


class Life(Base):
    def test_start_and_stop(self):
        text = self.start("--domain", "a.example", "--domain", "b.example")
        self.assertIn(f"[::]:{5222 + self.offset}", text)
        self.assertIn("adduser juliet@a.example", text)
        self.assertIn(f"http://127.0.0.1:{9201 + self.offset}/stats", text)
        pids = self.pids()
        self.assertEqual(set(pids), {"supervisor", "redis", "router-1", "router-2", "c2s-1", "c2s-2", "s2s-1"})
        for name, pid in pids.items():
            self.assertTrue(is_alive(pid), name)
            self.assertTrue((self.dir / f"log/{name}.log").exists(), name)
        for name in ("jackdaw-router", "jackdaw-c2s", "jackdaw-s2s", "jackdawctl"):
            self.assertTrue((self.dir / "bin" / name).exists())
        with open(f"/proc/{pids['c2s-2']}/cmdline") as f:
            self.assertIn(f"c2s.listen=[::]:{5222 + self.offset},127.0.0.1:{15224 + self.offset}", f.read())
        conf = (self.dir / "jackdaw.conf").read_text()
        self.assertIn('domains = ["a.example", "b.example"];', conf)
        self.assertIn(f'component_listen = ["127.0.0.1:{5347 + self.offset}"];', conf)
        self.assertEqual(self.redis("config", "get", "appendonly"), "appendonly\nyes")
        self.assertEqual(self.redis("config", "get", "port"), "port\n0")
        with urllib.request.urlopen(f"http://127.0.0.1:{9101 + self.offset}/readyz") as answer:
            self.assertEqual(answer.read(), b"ready\n")
        done = self.run_("--stop")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.pids(), {})
        self.assertFalse(any(is_alive(pid) for pid in pids.values()))
        self.assertIn("ended by SIGTERM", (self.dir / "log/c2s-1.log").read_text())

    def test_data_stays(self):
        self.start("--routers", "1", "--c2s", "1", "--s2s", "0")
        self.assertEqual(self.redis("set", "k", "v"), "OK")
        certificate = (self.dir / "tls/localhost.crt").read_bytes()
        self.run_("--stop")
        self.start("--routers", "1", "--c2s", "1", "--s2s", "0")
        self.assertEqual(self.redis("get", "k"), "v")
        self.assertEqual((self.dir / "tls/localhost.crt").read_bytes(), certificate)

    def test_dead_processes_start_again(self):
        self.start()
        for name in ("c2s-1", "router-2", "redis"):
            old = self.pid(name)
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: self.pid(name) not in (0, old), 2)
        wait_until(lambda: self.redis("ping") == "PONG")
        # The second death within ten seconds costs a short delay; it never gives up.
        for _ in range(3):
            old = self.pid("c2s-1")
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: self.pid("c2s-1") not in (0, old), 5)
        self.assertIn("c2s-1 was ended by SIGKILL; starting it again", (self.dir / "log/supervisor.log").read_text())

    def test_ctrl_c_in_the_foreground(self):
        p = subprocess.Popen(
            [RUN, "--dir", self.dir, "--port-offset", str(self.offset)], env=self.env, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        line = ""
        while "Ctrl-C" not in line:
            line = p.stdout.readline()
            self.assertNotEqual(line, "")
        pids = self.pids()
        os.killpg(p.pid, signal.SIGINT)  # as a terminal does: to the whole group
        self.assertEqual(p.wait(30), 0)
        p.stdout.close()
        self.assertFalse(any(is_alive(pid) for pid in pids.values()))

    def test_killed_supervisor_takes_all_along(self):
        self.start()
        pids = self.pids()
        os.kill(pids["supervisor"], signal.SIGKILL)
        wait_until(lambda: not any(is_alive(pid) for pid in pids.values()))
        self.start()  # the stale pid files are no obstacle


class UserOfItsOwn(Base):
    def owner(self, name):
        return os.stat(f"/proc/{self.pid(name)}").st_uid

    def test_root_drops(self):
        if os.geteuid() != 0:
            self.assertIn("--user is for root", self.refused("--user", "nobody"))
            return
        counts = ("--routers", "1", "--c2s", "1", "--s2s", "0")
        self.assertIn("the processes run as root, since jackdaw cannot reach", self.start(*counts))
        self.assertEqual(self.owner("c2s-1"), 0)
        self.run_("--stop")
        self.tmp.chmod(0o755)
        self.assertIn("the processes run as jackdaw", self.start(*counts))
        wanted = pwd.getpwnam("jackdaw").pw_uid
        self.assertEqual({self.owner(name) for name in ("c2s-1", "router-1", "redis")}, {wanted})
        self.run_("--stop")
        self.assertIn("the processes run as root", self.start(*counts, "--user", "root"))
        self.assertEqual(self.owner("c2s-1"), 0)


class Refusals(Base):
    def test_second_start(self):
        self.start("--routers", "1", "--c2s", "1", "--s2s", "0")
        self.assertIn("already runs", self.refused())

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("0.0.0.0", 5222 + self.offset))
            s.listen()
            self.assertIn(f"port {5222 + self.offset} is in use", self.refused())
        self.assertEqual(self.pids(), {})

    def test_process_that_refuses(self):
        (self.tmp / "c2s-2.refuse").touch()
        text = self.refused()
        self.assertIn("c2s-2 does not stay alive", text)
        self.assertIn("c2s-2 refuses to start", text)
        self.assertEqual(self.pids(), {})

    def test_wrong_settings(self):
        self.assertIn("there is no such file", self.refused("--config", "/nowhere"))
        self.assertIn("unknown option", self.refused("--set", "c2s.x=1"))
        self.assertIn("true or false", self.refused("--set", "c2s.require_tls=maybe"))
        conf = self.tmp / "f.conf"
        conf.write_text("c2s: {\n require_tsl = false;\n};\n")
        self.assertIn(f"{conf}:2: unknown option", self.refused("--config", str(conf)))
        self.assertIn("must be from 1", self.refused("--routers", "0"))

    def test_stop_of_nothing(self):
        done = self.run_("--stop")
        self.assertEqual(done.returncode, 0)
        self.assertIn("nothing runs", done.stdout)


class Settings(Base):
    def test_order_of_precedence(self):
        conf = self.tmp / "f.conf"
        conf.write_text(
            'cluster: { domains = ["from.file"]; run_dir = "/nowhere"; };\n'
            'c2s: { require_tls = false; listen = []; login_timeout_s = 7; };\nredis: { url = "redis://192.0.2.1:1"; };\n'
        )
        self.start("--config", str(conf), "--set", "c2s.login_timeout_s=9", "--set", "limits.enabled=false")
        text = (self.dir / "jackdaw.conf").read_text()
        for line in ('domains = ["from.file"];', "login_timeout_s = 9;", "enabled = false;", "require_tls = false;", 'listen = "";'):
            self.assertIn("    " + line, text)
        self.assertNotIn("nowhere", text)
        self.assertNotIn("192.0.2.1", text)
        # One port per c2s: the shared list is empty, each has its own.
        with open(f"/proc/{self.pid('c2s-1')}/cmdline") as f:
            self.assertIn(f"c2s.listen=127.0.0.1:{15223 + self.offset}\0", f.read())

    def test_long_directory(self):
        self.dir = self.tmp / ("x" * 100) / "d"
        self.start("--routers", "1", "--c2s", "1", "--s2s", "0")
        self.assertTrue((self.dir / "run/redis.sock").exists())


if __name__ == "__main__":
    FAKE = str(pathlib.Path(sys.argv.pop(1)).absolute())
    unittest.main(verbosity=2)
