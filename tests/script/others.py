#!/usr/bin/python3
"""Runs the dialogues against Debian's prosody and ejabberd, started here in directories of their own on loopback, and
writes DIFFERENCES.md: every dialogue that one of them does not pass, with the reason from differences.txt.

    tests/script/others.py [prosody|ejabberd] [-- ARGUMENTS OF run.py]
    tests/script/others.py --from DIR      writes DIFFERENCES.md from the results that an earlier run has left in DIR
    tests/script/others.py --save DIR      leaves them there
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
DIFFERENCES = HERE / "DIFFERENCES.md"

PROSODY = """
run_as_root = true
daemonize = false
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
interfaces = {{ "127.0.0.1" }}
use_ipv6 = false
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{}}
s2s_direct_tls_ports = {{}}
http_ports = {{}}
https_ports = {{}}
component_ports = {{}}
c2s_require_encryption = true
authentication = "internal_hashed"
storage = "internal"
plugin_paths = {{}}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "c2s", "presence", "message", "iq", "offline", "smacks", "posix", "register_ibr" }}
modules_disabled = {{ "s2s", "http", "admin_shell", "limits" }}
allow_registration = true
log = {{ info = "{dir}/prosody.log" }}
ssl = {{ key = "{dir}/server.key"; certificate = "{dir}/server.crt"; }}
VirtualHost "localhost"
"""

EJABBERD = """
hosts: [localhost]
loglevel: info
certfiles: ["{dir}/server.pem"]
listen:
  - {{port: {port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls_required: true, access: all, max_stanza_size: 262144}}
  - {{port: {tls_port}, ip: 127.0.0.1, module: ejabberd_c2s, tls: true, access: all, max_stanza_size: 262144}}
auth_method: [internal]
auth_password_format: plain
registration_timeout: infinity
access_rules: {{register: {{allow: all}}}}
modules:
  mod_roster: {{versioning: true}}
  mod_disco: {{}}
  mod_ping: {{}}
  mod_offline: {{}}
  mod_stream_mgmt: {{}}
  mod_register: {{ip_access: all}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Other:
    """One of the other servers, running in a directory of its own."""

    def __init__(self, name):
        self.name = name
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"jd-{name}-", dir="/tmp"))
        self.port, self.tls_port = free_port(), free_port()
        (self.dir / "data").mkdir()
        self.certificate()
        env = dict(os.environ, HOME=str(self.dir))
        self.out = open(self.dir / "out", "wb")
        argv = getattr(self, name)(env)
        self.process = subprocess.Popen(argv, env=env, stdout=self.out, stderr=self.out, start_new_session=True)
        end = time.monotonic() + 60
        while not answers(self.port) or not answers(self.tls_port):
            if time.monotonic() > end or self.process.poll() is not None:
                self.stop()
                raise SystemExit(f"{name} did not start; see {self.dir}")
            time.sleep(0.2)

    def certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256", "-days", "30"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
            + ["-keyout", self.dir / "server.key", "-out", self.dir / "server.crt"],
            check=True,
            capture_output=True,
        )
        (self.dir / "server.pem").write_text((self.dir / "server.crt").read_text() + (self.dir / "server.key").read_text())

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text.format(dir=self.dir, port=self.port, tls_port=self.tls_port))
        return str(path)

    def prosody(self, _):
        return ["/usr/bin/prosody", "--config", self.write("prosody.cfg.lua", PROSODY), "-F"]

    def ejabberd(self, env):
        """A plain Erlang program: no epmd, no other user."""
        env["EJABBERD_CONFIG_PATH"] = self.write("ejabberd.yml", EJABBERD)
        env["EJABBERD_LOG_PATH"] = str(self.dir / "ejabberd.log")
        env["ERL_CRASH_DUMP"] = str(self.dir / "crash.dump")
        ebin = next(pathlib.Path("/usr/lib").glob("*/ejabberd-*/ebin"))
        return ["erl", "-noinput", "-pa", str(ebin), "-mnesia", "dir", f'"{self.dir}/db"', "-s", "ejabberd"]

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.out.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def run(name, arguments):
    """The results of all dialogues against one of them."""
    server = Other(name)
    try:
        results = server.dir / "results.json"
        argv = ["/usr/bin/python3", str(HERE / "run.py"), "--host", "127.0.0.1", "--port", str(server.port), "--tls-port", str(server.tls_port)]
        argv += ["--accounts", "register", "--within", "6", "-j", "6", "--results", str(results)] + arguments
        subprocess.run(argv, check=False)
        return json.loads(results.read_text())
    finally:
        server.stop()


def explanations():
    """[(pattern of names, servers, reason)] of differences.txt."""
    out = []
    for line in (HERE / "differences.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            names, servers, reason = (cell.strip() for cell in line.split(" | ", 2))
            out.append((re.compile(names), servers.split(), reason))
    return out


def explain(name, server):
    for names, servers, reason in explanations():
        if names.fullmatch(name) and server in servers:
            return reason
    return None


def versions():
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", "prosody", "ejabberd"], capture_output=True, text=True)
    return ", ".join(done.stdout.split("\n")).strip(", ")


def write(found):
    """DIFFERENCES.md; false when a difference has no explanation."""
    groups, unexplained = {}, []
    for server, results in found.items():
        for name, (result, _) in results.items():
            if result == "pass":
                continue
            reason = explain(name, server)
            if reason is None:
                unexplained.append(f"{server}: {name}")
            groups.setdefault(reason or "NOT EXPLAINED", {}).setdefault(server, []).append(name)
    total = {server: (len(r), sum(x[0] == "pass" for x in r.values())) for server, r in found.items()}
    lines = ["# Where prosody and ejabberd differ", "", f"Generated by `tests/script/others.py` ({versions()}) from what they answer and `differences.txt`."]
    lines += ["Dialogues that need a special cluster, an operator's tool or our own choices are left out."]
    lines += ["", *(f"- {server}: {passed} of {count} dialogues pass" for server, (count, passed) in total.items())]
    lines += ["", "| Difference, and what we do | prosody | ejabberd |", "|---|---|---|"]
    for reason, servers in sorted(groups.items(), key=lambda g: sorted(sum(g[1].values(), []))):
        cells = ["<br>".join(sorted(servers.get(s, []))) for s in ("prosody", "ejabberd")]
        lines.append(f"| {reason.replace('<', '&lt;')} | {cells[0]} | {cells[1]} |")
    DIFFERENCES.write_text("\n".join(lines) + "\n")
    for u in unexplained:
        print(f"no explanation in differences.txt: {u}", file=sys.stderr)
    return not unexplained


def main():
    arguments, save = sys.argv[1:], None
    if arguments[:1] == ["--from"]:
        found = {s: json.loads(pathlib.Path(arguments[1], f"{s}.json").read_text()) for s in ("prosody", "ejabberd")}
        return 0 if write(found) else 1
    if arguments[:1] == ["--save"]:
        save, arguments = pathlib.Path(arguments[1]), []
    names = [a for a in arguments[:1] if a in ("prosody", "ejabberd")]
    rest = arguments[len(names) :]
    found = {name: run(name, [a for a in rest if a != "--"]) for name in names or ("prosody", "ejabberd")}
    for name in found if save else ():
        save.mkdir(parents=True, exist_ok=True)
        (save / f"{name}.json").write_text(json.dumps(found[name], indent=1))
    if names or rest:
        return 0
    return 0 if write(found) else 1


if __name__ == "__main__":
    sys.exit(main())
