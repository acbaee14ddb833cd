"""A small Internet on loopback: an authority for certificates, a DNS server, servers of several makes that find each
other by it, and clients and servers that speak exactly what a test tells them. Everything lives in one directory and
ends with the test."""
import base64
import functools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[3]
WAIT_S = 20
PASSWORD = "secret"
SERVER, CLIENT, STREAM = "jabber:server", "jabber:client", "http://etherx.jabber.org/streams"
DIALBACK, TLS, SASL = "jabber:server:dialback", "urn:ietf:params:xml:ns:xmpp-tls", "urn:ietf:params:xml:ns:xmpp-sasl"
SM, BIDI = "urn:xmpp:sm:3", "urn:xmpp:bidi"


def free_port(host="127.0.0.1"):
    """Below those that the kernel takes for outgoing connections, or one of them would have it by the time of its use."""
    while True:
        with socket.socket() as s:
            try:
                s.bind((host, random.randrange(10000, 32768)))
                return s.getsockname()[1]
            except OSError:
                continue


def until(what, why, limit_s=WAIT_S, step_s=0.05):
    deadline = time.monotonic() + limit_s
    while not (value := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s} s in vain: {why() if callable(why) else why}")
        time.sleep(step_s)
    return value


def answers(port, host="127.0.0.1"):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((host, port)) == 0


class Lab:
    """The directory, the authority, DNS, and everything that was started."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-federation-"))
        self.dir.chmod(0o755)
        self.stoppers = []
        self.zone = []
        self.signed = {}  # zone -> file, served beside (DNSSEC)
        self.dns_port = None
        self.dns = None
        self.ca = self.dir / "ca.crt"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                     "/CN=Laboratory authority", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", self.dir / "ca.key", "-out", self.ca)

    def openssl(self, *args):
        done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {args}: {done.stderr}")

    def certificate(self, name, domains, directory=None, days=30, self_signed=False, seconds=None):
        """NAME.crt and NAME.key for these domains. days=0: it has run out long ago; seconds: it will soon."""
        directory = pathlib.Path(directory or self.dir)
        crt, key, csr, ext = (directory / f"{name}.{e}" for e in ("crt", "key", "csr", "ext"))
        names = ",".join(f"DNS:{d}" for d in domains)
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={domains[0]}",
                     "-keyout", key, "-out", csr)
        ext.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        signer = ["-signkey", key] if self_signed else ["-CA", self.ca, "-CAkey", self.dir / "ca.key", "-CAcreateserial"]
        if seconds is not None:
            self.by_dates(csr, crt, ext, time.time() - 60, time.time() + seconds)
            return crt, key
        times = ["-days", days]
        if days <= 0:  # expired yesterday
            times = ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"]
        try:
            self.openssl("x509", "-req", "-in", csr, *signer, *times, "-extfile", ext, "-out", crt)
        except RuntimeError:  # an openssl without -not_before: by a short-lived configuration of `ca`
            self.by_dates(csr, crt, ext, 1577836800, 1580515200)
        key.chmod(0o644)
        return crt, key

    def pair(self, name):
        """Where certificate() has put a certificate and its key."""
        return self.dir / f"{name}.crt", self.dir / f"{name}.key"

    def by_dates(self, csr, crt, ext, start, end):
        dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t)) for t in (start, end)]
        d = self.dir / "old-ca"
        d.mkdir(exist_ok=True)
        (d / "index.txt").write_text("")
        (d / "serial").write_text("77\n")
        (d / "ca.cnf").write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={d}/index.txt\nserial={d}/serial\nnew_certs_dir={d}\n"
                                  "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
        self.openssl("ca", "-batch", "-config", d / "ca.cnf", "-cert", self.ca, "-keyfile", self.dir / "ca.key", "-in", csr, "-out", crt,
                     "-startdate", dates[0], "-enddate", dates[1], "-extfile", ext, "-notext")

    # DNS

    def serve(self, domain, port, host="127.0.0.1", tls_port=None, target=None):
        """DNS says that the domain's server is there. (ejabberd finds addresses by the C library: target "localhost".)"""
        self.zone += [f"{domain}. A {host}"]
        if port is not None:
            self.zone.append(f"_xmpp-server._tcp.{domain}. SRV 10 5 {port} {target or domain}.")
        if tls_port is not None:
            self.zone.append(f"_xmpps-server._tcp.{domain}. SRV 5 5 {tls_port} {target or domain}.")

    def start_dns(self):
        if self.dns is not None:
            self.stop_process(self.dns)
        self.dns_port = self.dns_port or free_port()
        conf = self.dir / "unbound.conf"
        zones = sorted({line.split()[0].split("_tcp.")[-1].split(".")[-2] for line in self.zone})
        lines = [f'    local-zone: "{z}." static' for z in zones]
        lines += [f"    local-data: '{line}'" for line in self.zone]
        conf.write_text(
            f'server:\n    interface: 127.0.0.1@{self.dns_port}\n    do-daemonize: no\n    username: ""\n    chroot: ""\n'
            f'    directory: "{self.dir}"\n    pidfile: "{self.dir}/unbound.pid"\n    logfile: "{self.dir}/unbound.log"\n    use-syslog: no\n'
            f"    verbosity: 1\n    num-threads: 1\n    module-config: iterator\n    do-not-query-localhost: no\n" + "\n".join(lines)
            + "\nremote-control:\n    control-enable: no\n"
            + "".join(f'auth-zone:\n    name: "{z}"\n    zonefile: "{f}"\n    for-downstream: yes\n    for-upstream: no\n' for z, f in self.signed.items()))
        self.dns = self.process(["/usr/sbin/unbound", "-d", "-c", conf], "unbound")
        until(lambda: answers(self.dns_port), "unbound does not answer")

    def sign(self, zone, records, forge=None):
        """Serves a zone signed with a key of its own; its DNSKEY is added to anchors.key. forge: (old, new) text, replaced
        after signing."""
        plain = self.dir / f"{zone}.zone"
        plain.write_text(f"$ORIGIN {zone}.\n$TTL 60\n@ SOA {zone}. root.{zone}. 1 60 60 6000 60\n@ NS {zone}.\n" + "\n".join(records) + "\n")
        tool = functools.partial(subprocess.run, cwd=self.dir, check=True, capture_output=True, text=True)
        key = tool(["ldns-keygen", "-k", "-a", "ECDSAP256SHA256", zone]).stdout.strip()
        tool(["ldns-signzone", "-f", f"{zone}.signed", plain.name, key])
        with open(self.dir / "anchors.key", "a") as anchors:
            anchors.write((self.dir / f"{key}.key").read_text())
        signed = self.dir / f"{zone}.signed"
        if forge is not None:
            text = signed.read_text()
            assert forge[0] in text
            signed.write_text(text.replace(*forge))
        self.signed[zone] = signed

    # Processes

    def process(self, argv, name, **env):
        log = open(self.dir / f"{name}.out", "ab")
        p = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **env},
                             start_new_session=True)
        log.close()
        self.stoppers.append(lambda: self.stop_process(p))
        return p

    def stop_process(self, p):
        if p.poll() is None:
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def close(self):
        for stop in reversed(self.stoppers):
            stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        for log in sorted([*self.dir.glob("*.out"), *self.dir.glob("*/log/*.log"), *self.dir.glob("*/*.log")]):
            print(f"---- {log.relative_to(self.dir)}", *log.read_text(errors="replace").splitlines()[-60:], sep="\n", file=sys.stderr)


class Jackdaw:
    """deploy/run; `stats` sums a figure over all s2s processes."""

    def __init__(self, lab, domain, s2s=1, routers=2, also=(), **settings):
        self.lab, self.domain, self.s2s = lab, domain, s2s
        self.dir = lab.dir / domain
        (self.dir / "tls").mkdir(parents=True)
        for d in (domain, *also):
            lab.certificate(d, [d], self.dir / "tls")
        shutil.copy(self.dir / "tls" / f"{domain}.crt", self.dir / "tls/default.crt")
        shutil.copy(self.dir / "tls" / f"{domain}.key", self.dir / "tls/default.key")
        self.settings = {
            "c2s.require_tls": "false", "s2s.trust_file": lab.ca, "s2s.resolver": f"127.0.0.1@{lab.dns_port}", "s2s.connect_timeout_s": 5,
            "s2s.queue_timeout_s": 20, "s2s.backoff_max_s": 2, "log.level": "debug", **{k.replace("__", "."): v for k, v in settings.items()}}
        self.domains = [domain, *also]
        self.routers = routers
        lab.stoppers.append(self.stop)
        for attempt in range(5):  # somebody else's cluster may take the same ports at the same time
            self.offset = free_offset(attempt)
            self.port, self.tls_port, self.component_port = 5269 + self.offset, 5270 + self.offset, 5347 + self.offset
            self.client_port = 5222 + self.offset
            try:
                self.start()
                break
            except RuntimeError as e:
                if "in use" not in str(e) or attempt == 4:
                    raise

    def run(self, *args):
        return subprocess.run([str(ROOT / "deploy/run"), "--dir", str(self.dir), *map(str, args)], capture_output=True, text=True, timeout=120)

    def start(self):
        args = ["--detach", "--user", "root", "--port-offset", self.offset, "--routers", self.routers, "--c2s", 1, "--s2s", self.s2s]
        for d in self.domains:
            args += ["--domain", d]
        for key, value in self.settings.items():
            args += ["--set", f"{key}={value}"]
        done = self.run(*args)
        if done.returncode != 0:
            raise RuntimeError(f"deploy/run: {done.stderr}")

    def stop(self):
        self.run("--stop")
        for log in self.dir.glob("log/*.log"):
            text = log.read_text(errors="replace")
            # What the others leave behind at their end is not these tests' matter.
            if m := re.search(r"(Address|Leak)Sanitizer|runtime error:|CHECK failed|BUG:" if "s2s" in log.name else r"ERROR: AddressSanitizer|runtime error:|CHECK failed", text):
                raise AssertionError(f"{log.name}: {text[m.start() - 80:m.start() + 4000]}")

    def add(self, user, domain=None):
        jid = f"{user}@{domain or self.domain}"
        done = subprocess.run([self.dir / "bin/jackdawctl", "--dir", self.dir, "adduser", jid, "--password", PASSWORD], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return jid

    def client(self, user, resource="r", domain=None, presence="<presence/>"):
        return Client(self.client_port, user, domain or self.domain, resource, presence)

    def redis(self, *words):
        """One command to its Redis; the raw answer (a short one)."""
        line = f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(WAIT_S)
            s.connect(re.search(r'^\s*url = "unix://([^"]+)"', (self.dir / "jackdaw.conf").read_text(), re.M).group(1))
            s.sendall(line.encode())
            return s.recv(4096)

    def stats(self, figure):
        total = 0
        for i in range(1, self.s2s + 1):
            with urllib.request.urlopen(f"http://127.0.0.1:{9300 + i + self.offset}/stats", timeout=10) as answer:
                total += json.loads(answer.read()).get(figure, 0)
        return total

    def log(self):
        return "".join(p.read_text(errors="replace") for p in sorted(self.dir.glob("log/s2s-*.log")))

    def pids(self, role="s2s"):
        """name -> process id of this cluster's own processes."""
        found = {}
        for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = p.read_bytes().split(b"\0")
            except OSError:
                continue
            if words and words[0].startswith(bytes(self.dir)) and f"jackdaw-{role}".encode() in words[0] and b"--name" in words:
                found[words[words.index(b"--name") + 1].decode()] = int(p.parent.name)
        return found


def free_offset(attempt=0):
    """From the process id, so that tests differ; all ports below those of outgoing connections."""
    ports = [5222, 5223, 5269, 5270, 5347] + [base + i for base in (9100, 9200, 9300, 15222) for i in range(1, 5)]
    for k in range(200):
        offset = 1000 + (os.getpid() * 61 + attempt * 4099 + k * 331) % 16000
        try:
            for port in ports:
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", port + offset))
            return offset
        except OSError:
            continue
    raise RuntimeError("no free ports")


class Prosody:
    def __init__(self, lab, domain, auth="certificate", bidi=False, sm=True, direct_tls=False, components=(), certificate=True, extra=""):
        """auth: "certificate" offers and uses SASL EXTERNAL, "dialback" never does."""
        self.lab, self.domain = lab, domain
        self.dir = lab.dir / domain
        self.data = self.dir / "data"
        self.data.mkdir(parents=True)
        self.port, self.client_port, self.tls_port = free_port(), free_port(), free_port() if direct_tls else None
        if certificate is True:  # one that nobody trusts leaves dialback alone to prove who it is
            self.crt, self.key = lab.certificate(domain, [domain], self.dir, self_signed=auth == "dialback")
        else:
            self.crt, self.key = certificate
        modules = ["roster", "saslauth", "tls", "disco", "ping", "c2s", "s2s", "presence", "message", "iq", "posix", "offline"]
        modules += ["s2s_auth_certs"]
        modules += ["dialback"]
        modules += ["smacks"] if sm else []
        modules += ["s2s_bidi"] if bidi else []
        disabled = ["carbons", "http", "admin_shell", "limits"] + ([] if auth == "certificate" else ["s2s_auth_certs"])
        lines = [
            "run_as_root = true", "daemonize = false", f'pidfile = "{self.dir}/prosody.pid"', f'data_path = "{self.data}"',
            'interfaces = { "127.0.0.1" }', f"c2s_ports = {{ {self.client_port} }}", f"s2s_ports = {{ {self.port} }}",
            f"s2s_direct_tls_ports = {{ {self.tls_port or ''} }}", "c2s_direct_tls_ports = {}", "component_ports = {}", "http_ports = {}",
            "https_ports = {}", "allow_unencrypted_plain_auth = true", "c2s_require_encryption = false", "s2s_require_encryption = true",
            "s2s_secure_auth = false", 'authentication = "internal_plain"', 'storage = "internal"', "plugin_paths = {}",
            f'modules_enabled = {{ {", ".join(repr(m) for m in modules if m not in disabled)} }}',
            f'modules_disabled = {{ {", ".join(repr(m) for m in disabled)} }}',
            f'log = {{ debug = "{self.dir}/prosody.log" }}', f'certificates = "{self.dir}"',
            f'ssl = {{ key = "{self.key}"; certificate = "{self.crt}"; cafile = "{lab.ca if auth == "certificate" else self.crt}"; }}',
            f'unbound = {{ resolvconf = false; hoststxt = false; forward = "127.0.0.1@{lab.dns_port}"; options = {{ ["do-not-query-localhost:"] = "no"; }} }}',
            "s2s_smacks = true", "smacks_enabled_s2s = true", "smacks_max_unacked_stanzas = 5", "use_ipv6 = false", extra,
            f'VirtualHost "{domain}"']
        for name, port, secret in components:
            lines += [f'Component "{name}"', f'    component_secret = "{secret}"']
        self.conf = self.dir / "prosody.cfg.lua"
        self.conf.write_text("\n".join(lines) + "\n")
        self.name = domain
        self.start()

    def start(self):
        # Prosody refuses to be root's only as a courtesy; its data is the test's own directory.
        self.p = self.lab.process(["/usr/bin/prosody", "--config", self.conf, "-F"], f"prosody-{self.name}")
        until(lambda: answers(self.client_port) and answers(self.port), "prosody does not answer")

    def stop(self):
        self.lab.stop_process(self.p)

    def add(self, user):
        d = self.data / "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in self.domain) / "accounts"
        d.mkdir(parents=True, exist_ok=True)
        (d / f"{user}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        return f"{user}@{self.domain}"

    def client(self, user, resource="p"):
        return Client(self.client_port, user, self.domain, resource)


class Ejabberd:
    """Debian's ejabberd as a plain Erlang program: no epmd, no su."""

    def __init__(self, lab, domain, auth="certificate"):
        self.lab, self.domain = lab, domain
        self.dir = lab.dir / domain
        self.dir.mkdir(parents=True)
        self.port, self.client_port = free_port(), free_port()
        crt, key = lab.certificate(domain, [domain], self.dir, self_signed=auth == "dialback")
        trusted = lab.ca if auth == "certificate" else crt
        pem = self.dir / "server.pem"
        pem.write_text(crt.read_text() + key.read_text())
        inetrc = self.dir / "inetrc"
        inetrc.write_text(f"{{lookup, [dns]}}.\n{{resolv_conf, \"\"}}.\n{{nameserver, {{127,0,0,1}}, {lab.dns_port}}}.\n{{edns, false}}.\n")
        modules = ["mod_roster", "mod_disco", "mod_ping", "mod_offline", "mod_stream_mgmt"]
        modules += ["mod_s2s_dialback"]
        conf = self.dir / "ejabberd.yml"
        conf.write_text(
            f"hosts: [{domain}]\nloglevel: debug\ncertfiles: [{pem}]\nca_file: {trusted}\n"
            f"listen:\n  - {{port: {self.client_port}, ip: 127.0.0.1, module: ejabberd_c2s, starttls: false, access: all}}\n"
            f"  - {{port: {self.port}, ip: 127.0.0.1, module: ejabberd_s2s_in}}\n"
            f"s2s_use_starttls: required\ns2s_cafile: {trusted}\noutgoing_s2s_families: [ipv4]\n"
            "auth_method: [internal]\nauth_password_format: plain\nregistration_timeout: infinity\ntrusted_proxies: []\n"
            "access_rules: {register: {allow: all}}\n"
            "modules:\n" + "".join(f"  {m}: {{}}\n" for m in modules) + "  mod_register: {ip_access: all}\n")
        ebin = next(pathlib.Path("/usr/lib").glob("*/ejabberd-*/ebin"))
        self.p = lab.process(
            ["erl", "-noinput", "-pa", ebin, "-mnesia", "dir", f'"{self.dir}/db"', "-s", "ejabberd"], f"ejabberd-{domain}",
            EJABBERD_CONFIG_PATH=str(conf), EJABBERD_LOG_PATH=str(self.dir / "ejabberd.log"), ERL_INETRC=str(inetrc), HOME=str(self.dir),
            ERL_CRASH_DUMP=str(self.dir / "crash.dump"))
        until(lambda: answers(self.client_port) and answers(self.port), "ejabberd does not answer", 60)

    def add(self, user):
        c = Peer(socket.create_connection(("127.0.0.1", self.client_port)))
        c.send(f"<stream:stream to='{self.domain}' xmlns='{CLIENT}' xmlns:stream='{STREAM}' version='1.0'>")
        c.expect(f"{{{STREAM}}}features")
        c.send(f"<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>{user}</username><password>{PASSWORD}</password></query></iq>")
        e = c.expect(lambda e: e.get("id") == "r")
        assert e.get("type") == "result", ET.tostring(e)
        c.close()
        return f"{user}@{self.domain}"

    def client(self, user, resource="e"):
        return Client(self.client_port, user, self.domain, resource)


class Peer:
    """One XML stream over a socket, element by element."""

    def __init__(self, sock):
        self.sock = sock
        self.restart()
        self.elements = []
        self.closed = False

    def restart(self):
        self.parser = ET.XMLPullParser(events=("start", "end"))
        self.depth = 0
        self.header = None
        self.elements = []

    def send(self, text):
        self.sock.sendall(text.encode())

    def pump(self, limit_s):
        self.sock.settimeout(max(limit_s, 0.01))
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        try:
            self.parser.feed(data)
        except ET.ParseError as e:
            raise AssertionError(f"not XML: {data!r}: {e}") from None
        for event, e in self.parser.read_events():
            if event == "start":
                self.depth += 1
                if self.depth == 1:
                    self.header = e
            else:
                self.depth -= 1
                if self.depth == 1:
                    self.elements.append(e)
                elif self.depth == 0:
                    self.closed = True

    def expect(self, what, why=None, limit_s=WAIT_S):
        """Takes the first element for which what(element) is true, or whose name is `what`."""
        match = what if callable(what) else lambda e: e.tag == what
        deadline = time.monotonic() + limit_s
        while True:
            for e in self.elements:
                if match(e):
                    self.elements.remove(e)
                    return e
            if time.monotonic() > deadline or self.closed:
                seen = [ET.tostring(e).decode() for e in self.elements]
                raise AssertionError(f"{why or what} never came{' (closed)' if self.closed else ''}; there is {seen}")
            self.pump(deadline - time.monotonic())

    def wait_header(self):
        deadline = time.monotonic() + WAIT_S
        while self.header is None:
            if time.monotonic() > deadline or self.closed:
                raise AssertionError("no stream header")
            self.pump(deadline - time.monotonic())
        return self.header

    def stream_error(self, condition):
        e = self.expect(f"{{{STREAM}}}error")
        names = [c.tag.partition("}")[2] for c in e]
        assert condition in names, f"{names}, not {condition}"

    def quiet(self, seconds=1.0):
        """Reads for so long; what has come is in elements."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.closed:
            self.pump(deadline - time.monotonic())

    def start_tls(self, name="jackdaw.lab", certificate=None, authority=None, behind=""):
        """Asks for TLS and begins the stream anew. certificate: (file, key file) that is shown; authority: file to check the
        server's name by; behind: sent in clear behind the request, in one go with it."""
        self.send(f"<starttls xmlns='{TLS}'/>{behind}")
        self.expect(f"{{{TLS}}}proceed")
        context = ssl.create_default_context(cafile=authority) if authority else ssl._create_unverified_context()
        if certificate:
            context.load_cert_chain(*certificate)
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        self.restart()

    def accept_tls(self, certificate, direct=False):
        """The same as a server: waits to be asked, unless it is direct TLS."""
        if not direct:
            self.expect(f"{{{TLS}}}starttls")
            self.send(f"<proceed xmlns='{TLS}'/>")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.restart()

    def close(self):
        self.sock.close()


class Client(Peer):
    """A client that logs in without TLS (the lab's servers allow it) and binds."""

    def __init__(self, port, user, domain, resource, presence="<presence/>"):
        super().__init__(socket.create_connection(("127.0.0.1", port)))
        self.jid = f"{user}@{domain}"
        head = f"<?xml version='1.0'?><stream:stream to='{domain}' xmlns='{CLIENT}' xmlns:stream='{STREAM}' version='1.0'>"
        self.send(head)
        self.expect(f"{{{STREAM}}}features")
        token = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
        self.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{token}</auth>")
        self.expect(f"{{{SASL}}}success")
        self.restart()
        self.send(head)
        self.expect(f"{{{STREAM}}}features")
        self.send(f"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>")
        e = self.expect(lambda e: e.get("id") == "bind")
        self.full = e[0][0].text
        self.send(presence)

    def message(self, to, body, id="m"):
        self.send(f"<message to='{to}' type='chat' id='{id}'><body>{body}</body></message>")

    def got(self, body, sender=None, limit_s=WAIT_S):
        e = self.expect(lambda e: e.tag.endswith("}message") and e.get("type") != "error" and e.findtext(f"{{{CLIENT}}}body") == body,
                        f"message {body!r}", limit_s)
        assert sender is None or e.get("from") == sender, e.get("from")
        return e

    def error(self, condition, id="m", limit_s=WAIT_S):
        e = self.expect(lambda e: e.get("type") == "error" and e.get("id") == id, f"error {condition}", limit_s)
        names = [c.tag.partition("}")[2] for c in e.find(f"{{{CLIENT}}}error")]
        assert condition in names, f"{names}, not {condition}"
        return e

    def enable_sm(self):
        self.send(f"<enable xmlns='{SM}'/>")
        self.expect(f"{{{SM}}}enabled")

    def acked(self, h, limit_s=WAIT_S):
        """Waits until the server has acknowledged h stanzas."""
        deadline = time.monotonic() + limit_s
        while True:
            self.send(f"<r xmlns='{SM}'/>")
            e = self.expect(f"{{{SM}}}a", limit_s=limit_s)
            if int(e.get("h")) >= h:
                return
            assert time.monotonic() < deadline, f"acknowledged {e.get('h')}, not {h}"
            time.sleep(0.1)


class Case(unittest.TestCase):
    """A test whose logs are shown when it fails."""

    lab = None

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab()
        try:
            cls.prepare()
        except BaseException:
            cls.lab.show_logs()
            cls.lab.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.lab.close()

    @classmethod
    def prepare(cls):
        pass

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before and os.environ.get("JACKDAW_LAB_LOGS", "1") != "0":
            self.lab.show_logs()
