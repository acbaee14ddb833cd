#!/usr/bin/python3
"""The systemd unit: how exposed it is, and that a cluster lives under its system call filter; and what a process says where
io_uring is forbidden. Usage: test_units.py BIN [TEST]…"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
UNIT = ROOT / "deploy/units/jackdaw@.service"
PROFILE = ROOT / "deploy/samples/seccomp-io_uring.json"
EXPOSURE_MAX = 3.0
BIN = pathlib.Path()


def free_offset():
    """A port offset at which a c2s's own port is free."""
    for offset in range(4000, 9000, 97):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", 15223 + offset))
                return offset
            except OSError:
                continue
    raise RuntimeError("no free port")


class Units(unittest.TestCase):
    def setUp(self):
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-units-"))
        self.addCleanup(shutil.rmtree, self.tmp)

    def test_exposure(self):
        command = ["systemd-analyze", "security", "--offline=true", UNIT]
        text = subprocess.run(command, capture_output=True, text=True).stdout
        level = float(re.search(r"Overall exposure level .*: ([\d.]+)", text)[1])
        self.assertLessEqual(level, EXPOSURE_MAX, text)

    def test_lives_under_the_filter(self):
        """Real processes, each under the unit's filter: an account, a login, a message."""
        for name in ("jackdaw-router", "jackdaw-c2s", "jackdaw-s2s"):
            script = self.tmp / name
            command = f"exec /usr/bin/python3 {HERE}/under_filter.py unit {UNIT} {BIN}/{name} \"$@\"\n"
            # deploy/run asks a router for its configuration before; that needs no filter.
            script.write_text(f"#!/bin/sh\ncase \"$1\" in --print-config) exec {BIN}/{name} \"$@\" ;; esac\n{command}")
            script.chmod(0o755)
        (self.tmp / "jackdawctl").symlink_to(BIN / "jackdawctl")
        environment = dict(os.environ, JACKDAW_BIN=str(self.tmp))
        run = [str(ROOT / "deploy/run"), "--dir", str(self.tmp / "cluster")]
        offset = free_offset()
        self.addCleanup(subprocess.run, [*run, "--stop"], env=environment, capture_output=True)
        counts = ["--routers", "1", "--c2s", "1", "--s2s", "1", "--user", "root"]
        done = subprocess.run([*run, *counts, "--detach", "--port-offset", str(offset)], env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        ctl = [BIN / "jackdawctl", "--dir", self.tmp / "cluster"]
        subprocess.run([*ctl, "adduser", "a@localhost", "--password-stdin"], input="pw\n", text=True, check=True, capture_output=True)
        client = f"""
import asyncio, ssl, slixmpp
class C(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__("a@localhost/r", "pw")
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.add_event_handler("session_start", self.begin)
        self.add_event_handler("message", lambda m: (print("got", m["body"], flush=True), self.disconnect()))
    async def begin(self, _):
        self.send_presence()
        self.send_message("a@localhost", "hello")
c = C()
c.connect(("127.0.0.1", {15223 + offset}))
c.loop.call_later(20, c.loop.stop)
c.loop.run_until_complete(c.disconnected)
"""
        done = subprocess.run(["/usr/bin/python3", "-c", client], capture_output=True, text=True, timeout=60)
        self.assertIn("got hello", done.stdout, done.stderr)

    def test_io_uring_forbidden(self):
        command = ["/usr/bin/python3", HERE / "under_filter.py", "deny", "io_uring_setup,io_uring_enter,io_uring_register"]
        for role in ("router", "c2s", "s2s"):
            own = ["--set", f"cluster.run_dir={self.tmp}", "--set", f"redis.url=unix://{self.tmp}/none"]
            done = subprocess.run([*command, BIN / f"jackdaw-{role}", *own], capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("io_uring is forbidden here", done.stderr)
            self.assertIn(PROFILE.name, done.stderr)


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
