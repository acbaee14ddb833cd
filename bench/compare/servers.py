"""The servers that are compared, each in a directory of its own with a fair configuration: limits and shapers off, the
same features on. bare: roster, presence, messages. full: stream management, carbons, an archive on disk."""
import base64
import concurrent.futures
import hashlib
import hmac
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCOUNTS = 1000
PASSWORD = "bench"
START_S = 60
# Groups of friends for the presence scenario: these accounts, in groups of so many. Prosody and jabberd2 get their rosters
# as files, as they take minutes to make them by subscribing (prosody writes a whole roster at each step).
FRIENDS_FIRST, FRIENDS, FRIENDS_GROUP = 600, 204, 51


def friends():
    """(account, those of its group but itself) for each."""
    for i in range(FRIENDS):
        first = i - i % FRIENDS_GROUP
        yield FRIENDS_FIRST + i, [FRIENDS_FIRST + k for k in range(first, first + FRIENDS_GROUP) if k != i]



def answers(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One server: start() until it takes logins, pids() of all that counts as it, stop()."""

    name = "?"
    packages = []
    accounts_wanted = ACCOUNTS

    def __init__(self, base, port, mode):
        self.mode, self.port = mode, port
        self.dir = pathlib.Path(base) / f"{self.name}-{mode}"
        self.processes = {}

    def clean(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)

    def certificate(self):
        key, crt, pem = (self.dir / f"server.{e}" for e in ("key", "crt", "pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", crt],
                       check=True, capture_output=True)
        pem.write_text(crt.read_text() + key.read_text())
        return key, crt, pem

    def run(self, name, argv, **env):
        with open(self.dir / f"{name}.out", "ab") as log:
            self.processes[name] = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                                    cwd=self.dir, env={**os.environ, **env}, start_new_session=True)

    def wait(self):
        deadline = time.monotonic() + START_S
        while not answers(self.port):
            for name, p in self.processes.items():
                if p.poll() is not None:
                    raise RuntimeError(f"{self.name}: {name} has ended; see {self.dir}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not listen after {START_S} s; see {self.dir}")
            time.sleep(0.1)

    def pids(self):
        return ",".join(f"{name}={p.pid}" for name, p in self.processes.items())

    def alive(self):
        return all(p.poll() is None for p in self.processes.values())

    def stop(self):
        for p in reversed(list(self.processes.values())):
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(15)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.processes = {}


class Prosody(Server):
    name = "prosody"
    packages = ["prosody", "lua-sec"]

    def start(self):
        self.clean()
        key, crt, _ = self.certificate()
        data = self.dir / "data"
        modules = ["roster", "saslauth", "tls", "disco", "ping"]
        if self.mode == "full":
            modules += ["smacks", "carbons", "mam", "offline", "csi_simple"]
        (self.dir / "prosody.cfg.lua").write_text(f"""
run_as_root = true
daemonize = false
pidfile = "{self.dir}/prosody.pid"
data_path = "{data}"
admins = {{}}
modules_enabled = {{ {", ".join(f'"{m}"' for m in modules)} }}
modules_disabled = {{ "s2s"{', "offline"' if self.mode == "bare" else ""} }}
gc = {{ mode = "generational" }}
network_backend = "epoll"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{}}
s2s_ports = {{}}
http_ports = {{}}
https_ports = {{}}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
storage = "internal"
archive_expires_after = "1w"
log = {{ warn = "{self.dir}/prosody.log" }}
ssl = {{ key = "{key}", certificate = "{crt}" }}
VirtualHost "localhost"
""")
        self.accounts(data / "localhost" / "accounts", self.accounts_wanted)
        if self.mode == "bare":
            self.rosters(data / "localhost" / "roster")
        self.run("prosody", ["lua5.4", "/usr/bin/prosody", "--config", self.dir / "prosody.cfg.lua", "-F"])
        self.wait()

    @staticmethod
    def accounts(folder, count):
        folder.mkdir(parents=True)
        salt = base64.b64encode(os.urandom(12)).decode()
        salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt.encode(), 10000)
        stored = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).hexdigest()
        server = hmac.digest(salted, b"Server Key", "sha1").hex()
        for i in range(count):
            (folder / f"bench{i}.dat").write_text(
                f'return {{ ["salt"] = "{salt}"; ["iteration_count"] = 10000; ["stored_key"] = "{stored}"; ["server_key"] = "{server}"; }};\n')


    @staticmethod
    def rosters(folder):
        folder.mkdir()
        for account, others in friends():
            items = "".join(f'["bench{o}@localhost"] = {{ ["subscription"] = "both"; ["groups"] = {{}}; }}; ' for o in others)
            (folder / f"bench{account}.dat").write_text(f'return {{ [false] = {{ ["pending"] = {{}}; ["version"] = 1; }}; {items}}};\n')


class Ejabberd(Server):
    name = "ejabberd"
    packages = ["ejabberd"]

    def start(self):
        """The database of a bare one is kept: accounts and rosters made through the protocol take a minute."""
        if self.mode != "bare" or not (self.dir / "made").exists():
            self.clean()
        _, _, pem = self.certificate()
        modules = ["mod_roster: {}", "mod_disco: {}", "mod_ping: {}", "mod_register: {ip_access: all}"]
        if self.mode == "full":
            modules += ["mod_stream_mgmt: {}", "mod_carboncopy: {}", "mod_offline: {}", "mod_client_state: {}",
                        "mod_mam: {default: always, assume_mam_usage: true}"]
        conf = self.dir / "ejabberd.yml"
        conf.write_text(
            f"hosts: [localhost]\nloglevel: warning\ncertfiles: [{pem}]\n"
            f"listen:\n  - {{port: {self.port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls: true, access: all, max_stanza_size: infinity, "
            "shaper: none, backlog: 1000}\n"
            "auth_method: [internal]\nauth_password_format: scram\nauth_scram_hash: sha\nregistration_timeout: infinity\n"
            "access_rules: {register: {allow: all}}\ns2s_use_starttls: false\n"
            "modules:\n" + "".join(f"  {m}\n" for m in modules))
        ebin = next(pathlib.Path("/usr/lib").glob("*/ejabberd-*/ebin"))
        self.run("ejabberd", ["erl", "+K", "true", "+P", "250000", "-noinput", "-pa", ebin, "-mnesia", "dir", f'"{self.dir}/db"',
                              "-s", "ejabberd"],
                 EJABBERD_CONFIG_PATH=str(conf), EJABBERD_LOG_PATH=str(self.dir / "ejabberd.log"), HOME=str(self.dir),
                 ERL_CRASH_DUMP=str(self.dir / "crash.dump"))
        self.wait()
        self.accounts()

    def accounts(self):
        """In-band registration, a hundred on each stream: ejabberd ends one that takes long."""
        made = self.dir / "made"
        begin = int(made.read_text()) if made.exists() else 0
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(self.hundred, range(begin, self.accounts_wanted, 100)))
        made.write_text(str(max(begin, self.accounts_wanted)))

    def hundred(self, first):
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.settimeout(START_S)
            self.register(s, range(first, min(first + 100, self.accounts_wanted)))

    @staticmethod
    def register(s, numbers):
        s.sendall(b"<stream:stream to='localhost' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>")
        got = b""
        while b"</stream:features>" not in got:
            got += s.recv(65536)
        for i in numbers:
            s.sendall(f"<iq type='set' id='r{i}'><query xmlns='jabber:iq:register'><username>bench{i}</username>"
                      f"<password>{PASSWORD}</password></query></iq>".encode())
            got = b""
            while f"r{i}".encode() not in got or not got.rstrip().endswith(b">"):
                more = s.recv(65536)
                if not more:
                    raise RuntimeError(f"ejabberd hung up on an account: {got}")
                got += more
            if b"error" in got:
                raise RuntimeError(f"ejabberd refuses an account: {got}")


class Jabberd2(Server):
    name = "jabberd2"
    packages = ["jabberd2"]

    def start(self):
        self.clean()
        _, _, pem = self.certificate()
        router = self.port + 1
        database = self.dir / "jabberd2.db"
        schema = subprocess.run(["zcat", "/usr/share/doc/jabberd2/db-setup.sqlite.gz"], check=True, capture_output=True, text=True).stdout
        with sqlite3.connect(database) as db:
            db.executescript(schema)
            db.executemany("INSERT INTO authreg (username, realm, password) VALUES (?, 'localhost', ?)",
                           [(f"bench{i}", PASSWORD) for i in range(self.accounts_wanted)])
            db.executemany('INSERT INTO active ("collection-owner", "time") VALUES (?, 1)',
                           [(f"bench{i}@localhost",) for i in range(self.accounts_wanted)])
            db.executemany('INSERT INTO "roster-items" ("collection-owner", jid, "to", "from", ask) VALUES (?, ?, 1, 1, 0)',
                           [(f"bench{a}@localhost", f"bench{o}@localhost") for a, others in friends() for o in others])
        changes = {
            "router": [("<ip>0.0.0.0</ip>", "<ip>127.0.0.1</ip>")],
            "sm": [("<id>localhost.localdomain</id>", "<id>localhost</id>"),
                   ("<synchronous/>", "")],
            "c2s": [("<id register-enable='mu'>localhost.localdomain</id>", f"<id pemfile='{pem}'>localhost</id>"),
                    ("<ip>0.0.0.0</ip>", "<ip>127.0.0.1</ip>"), ("<port>5222</port>", f"<port>{self.port}</port>"),
                    ("<stanzas>1000</stanzas>", "<stanzas>0</stanzas>")]}
        for part, replacements in changes.items():
            text = pathlib.Path(f"/etc/jabberd2/{part}.xml").read_text()
            replacements = replacements + [("<port>5347</port>", f"<port>{router}</port>"), ("/var/run/jabberd2", str(self.dir)),
                                           ("/var/log/jabberd2", str(self.dir)), ("/var/lib/jabberd2/sqlite.db", str(database)),
                                           ("<max_fds>1024</max_fds>", "<max_fds>16384</max_fds>")]
            for old, new in replacements:
                text = text.replace(old, new)
            (self.dir / f"{part}.xml").write_text(text)
        for part in ("router", "sm", "c2s"):
            self.run(part, [f"/usr/sbin/jabberd2-{part}", "-c", self.dir / f"{part}.xml"])
            time.sleep(1)
        self.wait()
        time.sleep(2)


class Jackdaw(Server):
    """Ours: one c2s, one router, a Redis with its append-only file. bare: nothing is written per message."""

    name = "jackdaw"
    build = None

    def command(self, *arguments):
        subprocess.run([ROOT / "deploy" / "run", "--dir", self.dir, *arguments], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "JACKDAW_BIN": str(self.build / "bin")})

    def start(self):
        self.clean()
        self.command("--port-offset", str(self.port - 5222), "--c2s", "1", "--routers", "1", "--s2s", "0", "--set",
                     "c2s.require_tls=false", "--set", "limits.enabled=false", "--set",
                     f"delivery.durability={'memory' if self.mode == 'bare' else 'redis'}", "--user", "root", "--detach")
        accounts = self.dir / "accounts"
        accounts.write_text("".join(f"bench{i}@localhost {PASSWORD}\n" for i in range(self.accounts_wanted)))
        subprocess.run([self.build / "bin" / "jackdawctl", "--dir", self.dir, "adduser", "--file", accounts], check=True,
                       stdout=subprocess.DEVNULL)

    def pids(self):
        names = sorted(p for p in (self.dir / "run").glob("*.pid") if p.stem != "supervisor")
        return ",".join(f"{p.stem}={p.read_text().strip()}" for p in names)

    def stop(self):
        self.command("--stop")


ALL = [Jackdaw, Prosody, Ejabberd, Jabberd2]
