"""What will run: arguments, directories, the configuration in force, certificates, ports, one Spec per process."""
import argparse
import dataclasses
import errno
import hashlib
import ipaddress
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = ("jackdaw-router", "jackdaw-c2s", "jackdaw-s2s", "jackdawctl")
OWN_PORT = 15222  # c2s number i also listens here + i, on loopback
STATS_PORT = {"router": 9100, "c2s": 9200, "s2s": 9300}  # process number i serves its statistics here + i
SOCKET_PATH_MAX = 107 - len("/router-00.ipc.lock")


class Refused(Exception):
    """The cluster can't run; the text says why and what to do."""


@dataclasses.dataclass
class Spec:
    """One process: stage 0 (redis) is started first and stopped last."""

    name: str
    stage: int
    argv: list
    stats: tuple = None  # (host, port) of its /readyz; None for redis


def whole(low, high):
    def parse(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}")
        return value

    parse.__name__ = "number"
    return parse


def parse_arguments(argv):
    p = argparse.ArgumentParser(
        prog="deploy/run",
        allow_abbrev=False,
        description="Installs what is missing, builds, and runs a cluster on this machine until Ctrl-C.",
        epilog="Ports: 5222 (STARTTLS), 5223 (direct TLS), 5269 and 5270 (servers), 5347 (components); c2s number i "
        "alone: 15222+i on loopback; statistics: 9100+i (routers), 9200+i (c2s), 9300+i (s2s).",
    )
    p.add_argument("--dir", default=str(ROOT / ".jackdaw"), help="where everything of this cluster lives (default: .jackdaw)")
    p.add_argument("--domain", action="append", default=[], metavar="D", help="a domain to serve; may be repeated (default: localhost)")
    p.add_argument("--routers", type=whole(1, 99), default=2, metavar="N")
    p.add_argument("--c2s", type=whole(0, 99), default=2, metavar="N")
    p.add_argument("--s2s", type=whole(0, 99), default=1, metavar="N")
    p.add_argument("--port-offset", type=whole(0, 45000), default=0, metavar="N", help="added to every port")
    p.add_argument("--config", metavar="FILE", help="configuration that the settings of this command go over")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one option over the file; may be repeated")
    p.add_argument("--user", metavar="NAME", help="by root: run the processes as that user (default: jackdaw, made when missing; root: stay root)")
    p.add_argument("--detach", action="store_true", help="return when the cluster is ready; stop it with --stop")
    p.add_argument("--stop", action="store_true", help="stop the cluster of --dir")
    p.add_argument("--check-arguments", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    for setting in args.set:
        if "=" not in setting or "." not in setting.split("=")[0]:
            p.error(f"--set {setting}: the form is section.name=value")
    if args.config and not os.path.isfile(args.config):
        p.error(f"--config {args.config}: there is no such file")
    args.dir = pathlib.Path(args.dir).absolute()
    return args


class Plan:
    """Made before anything is started; everything that can be refused is refused here."""

    def __init__(self, args):
        self.args = args
        self.dir = args.dir
        self.run = self.dir / "run"
        self.log = self.dir / "log"
        self.bin = self.dir / "bin"
        self.conf_file = self.dir / "jackdaw.conf"
        self.socket_dir = str(self.run)
        self.user = None  # set by user.py
        self.user_told = None

    def make_directories(self):
        for d in (self.dir, self.run, self.log, self.bin, self.dir / "redis", self.dir / "tls"):
            try:
                d.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as e:
                raise Refused(f"cannot make {d}: {e.strerror}; choose another --dir") from e

    def make(self):
        """Everything between the directories and the first process."""
        self.link_binaries()
        self.socket_dir = self.short_run_directory()
        self.redis_socket = f"{self.socket_dir}/redis.sock"
        self.write_configuration()
        self.make_certificates()
        self.specs = ([self.redis_spec()] if self.own_redis else []) + self.role_specs()
        self.check_ports()

    def identity(self):
        """Who the processes run as, for subprocess.Popen."""
        if self.user is None:
            return {}
        return {"user": self.user.uid, "group": self.user.gid, "extra_groups": []}

    def link_binaries(self):
        source = pathlib.Path(os.environ.get("JACKDAW_BIN") or ROOT / "build/release/bin").absolute()
        for name in BINARIES:
            if getattr(self.args, name.removeprefix("jackdaw-"), 1) == 0:
                continue
            if not os.access(source / name, os.X_OK):
                raise Refused(f"{source / name} does not exist; build it (deploy/build release), or set JACKDAW_BIN")
            link = self.bin / name
            link.unlink(missing_ok=True)
            link.symlink_to(source / name)

    def short_run_directory(self):
        """A socket's path may have 107 bytes: a long DIR is reached by a link in /tmp."""
        if len(os.fsencode(self.run)) <= SOCKET_PATH_MAX:
            return str(self.run)
        digest = hashlib.sha256(os.fsencode(self.run)).hexdigest()[:12]
        link = pathlib.Path(f"/tmp/jackdaw-{os.getuid()}-{digest}")
        if not link.is_symlink():
            link.symlink_to(self.run)
        if link.lstat().st_uid != os.getuid() or link.resolve() != self.run.resolve():
            raise Refused(f"{link} belongs to somebody else; choose a shorter --dir")
        return str(link)

    def clean(self):
        """Undoes what is outside of DIR."""
        if self.socket_dir != str(self.run):
            os.unlink(self.socket_dir)

    # The configuration

    def print_config(self, config, settings):
        argv = [self.bin / "jackdaw-router", "--print-config"] + (["--config", config] if config else [])
        for s in settings:
            argv += ["--set", s]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise Refused(f"the configuration is wrong:\n{done.stderr.rstrip() or f'jackdaw-router ended with {done.returncode}'}")
        return done.stdout

    def write_configuration(self):
        """The base file, then this command's own places and ports, then --set. Ports are moved by the offset."""
        args = self.args
        own = [
            f"cluster.run_dir={self.socket_dir}",
            f"redis.url=unix://{self.redis_socket}",
            f"tls.directory={self.dir / 'tls'}",
        ]
        if args.domain:
            own.append(f"cluster.domains={','.join(args.domain)}")
        base = own + args.set
        values = read_config(self.print_config(args.config, base))
        self.ports = {}
        for key in ("c2s.listen", "c2s.listen_tls", "s2s.listen", "s2s.listen_tls", "s2s.component_listen"):
            self.ports[key] = [move_port(a, args.port_offset) for a in values[key]]
            base.append(f"{key}={','.join(self.ports[key])}")
        self.domains = values["cluster.domains"]
        self.own_redis = values["redis.url"] == f"unix://{self.redis_socket}"  # else --set names another one
        self.tls = pathlib.Path(values["tls.directory"])
        self.stats_host = values["stats.listen"].rpartition(":")[0]
        text = self.print_config(args.config, base)
        self.conf_file.write_text(
            "# Written by deploy/run at every start, from --config and --set: changes made here do not last.\n" + text
        )
        self.conf_file.chmod(0o600)

    # Certificates

    def make_certificates(self):
        if self.tls != self.dir / "tls":
            return
        for domain in self.domains:
            if not (self.tls / f"{domain}.crt").exists():
                make_certificate(self.tls, domain)
        for kind in ("crt", "key"):
            default = self.tls / f"default.{kind}"
            if not default.exists() and self.domains:
                shutil.copy(self.tls / f"{self.domains[0]}.{kind}", default)

    # Processes

    def redis_spec(self):
        if not shutil.which("redis-server"):
            raise Refused("redis-server is not installed; run deploy/packages run")
        # Small streams and hashes stay small; the append-only file is what makes them last. Writing it anew every
        # 64 MiB, as Redis does by itself, is every forty seconds under load and stops it for seconds on a slow disk.
        options = {
            "port": "0",
            "unixsocket": self.redis_socket,
            "unixsocketperm": "700",
            "dir": str(self.dir / "redis"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-min-size": "512mb",
            "save": "",
            "daemonize": "no",
            "hash-max-listpack-value": "512",
            "stream-node-max-bytes": "512",
        }
        argv = [shutil.which("redis-server")]
        for key, value in options.items():
            argv += [f"--{key}", value]
        return Spec("redis", 0, argv)

    def role_specs(self):
        specs = []
        for role, count, stage in (("router", self.args.routers, 1), ("c2s", self.args.c2s, 2), ("s2s", self.args.s2s, 2)):
            for i in range(1, count + 1):
                stats_port = STATS_PORT[role] + i + self.args.port_offset
                argv = [str(self.bin / f"jackdaw-{role}"), "--config", str(self.conf_file), "--name", f"{role}-{i}"]
                argv += ["--set", f"stats.listen={self.stats_host}:{stats_port}"]
                if role == "c2s":
                    listen = self.ports["c2s.listen"] + [self.own_address(i)]
                    argv += ["--set", f"c2s.listen={','.join(listen)}"]
                host = "127.0.0.1" if self.stats_host in ("0.0.0.0", "[::]") else self.stats_host.strip("[]")
                specs.append(Spec(f"{role}-{i}", stage, argv, (host, stats_port)))
        return specs

    def own_address(self, i):
        return f"127.0.0.1:{OWN_PORT + i + self.args.port_offset}"

    def check_ports(self):
        addresses = [a for key, list_ in self.ports.items() if getattr(self.args, key.split(".")[0]) > 0 for a in list_]
        addresses += [self.own_address(i + 1) for i in range(self.args.c2s)]
        addresses += [f"{self.stats_host}:{s.stats[1]}" for s in self.specs if s.stats]
        for address in dict.fromkeys(addresses):
            check_port(address)

    def greeting(self):
        ports = {key: ", ".join(list_) or "none" for key, list_ in self.ports.items()}
        domain = self.domains[0] if self.domains else "localhost"
        lines = [
            f"Jackdaw serves {', '.join(self.domains)}: {self.args.routers} routers, {self.args.c2s} c2s, {self.args.s2s} s2s.",
            f"  Connect        {ports['c2s.listen']} (STARTTLS), {ports['c2s.listen_tls']} (direct TLS)",
        ]
        if self.args.c2s:
            lines.append(f"                 c2s-1 alone: {self.own_address(1)}, and so on")
        if self.tls == self.dir / "tls":
            lines.append(f"  Certificates   {self.tls}/ (self-signed unless you put others there)")
        lines += [
            f"  Servers        {ports['s2s.listen']} (STARTTLS), {ports['s2s.listen_tls']} (direct TLS)",
            f"  Components     {ports['s2s.component_listen']}",
            f"  Add an account {self.bin}/jackdawctl --dir {self.dir} adduser juliet@{domain}",
        ]
        for spec in self.specs:
            if spec.stats:
                lines.append(f"  Stats page     http://{spec.stats[0]}:{spec.stats[1]}/stats  ({spec.name}; also /metrics)")
        if self.user_told:
            lines.append(f"  User           {self.user_told}")
        lines.append(f"  Logs           {self.log}/   configuration: {self.conf_file}")
        return "\n".join(lines)


def read_config(text):
    """The values of a file that --print-config wrote: {"section.name": value}."""
    values, section = {}, ""
    for line in text.splitlines():
        if m := re.fullmatch(r"(\w+): \{", line):
            section = m[1]
        elif m := re.fullmatch(r"    (?:# )?(\w+) = (.*);", line):
            raw = re.sub(r"\\x([0-9a-f]{2})", r"\\u00\1", m[2])
            try:
                value = json.loads(raw.rstrip("L"))
            except ValueError:
                continue  # a line of prose
            # The written form of an empty list is "".
            values[f"{section}.{m[1]}"] = [] if value == "" and m[1].startswith(("listen", "component_listen", "domains")) else value
    return values


def move_port(address, offset):
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise Refused(f"{address}: a listening address is HOST:PORT")
    return f"{host}:{int(port) + offset if int(port) else 0}"


def check_port(address):
    host, _, port = address.rpartition(":")
    if not 0 <= int(port) <= 65535:
        raise Refused(f"{address}: no such port; choose a smaller --port-offset")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host.strip("[]"), int(port)))
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                raise Refused(f"port {port} is in use by another program (ss -ltnp shows which); stop it, or choose a --port-offset") from e
            raise Refused(f"cannot listen on {address}: {e.strerror}") from e


def make_certificate(directory, domain):
    """A self-signed ECDSA certificate, valid for ten years, with the names that XMPP looks at (RFC 6120, 13.7)."""
    try:
        names = f"IP:{ipaddress.ip_address(domain)}"
    except ValueError:
        host = domain.encode("idna").decode()
        service = ",".join(f"otherName:1.3.6.1.5.5.7.8.7;IA5STRING:_xmpp-{s}.{host}" for s in ("client", "server"))
        names = f"DNS:{host},{service},otherName:1.3.6.1.5.5.7.8.5;UTF8:{domain}"
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"]
        + ["-days", "3650", "-utf8", "-subj", f"/CN={domain[:64]}", "-addext", f"subjectAltName={names}"]
        + ["-keyout", directory / f"{domain}.key", "-out", directory / f"{domain}.crt"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        (directory / f"{domain}.crt").unlink(missing_ok=True)
        raise Refused(f"openssl could not make a certificate for {domain}: {done.stderr.strip()[-400:]}")
