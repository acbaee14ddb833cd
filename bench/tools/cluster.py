"""A cluster of Jackdaw for one measurement, and the call of jackdaw-bench."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSWORD = "bench"

# name: scenario of jackdaw-bench, its options, options of the cluster
PRESETS = {
    "idle10k": ("idle", ["--clients", "10000", "--settle", "5"], {"accounts": 10000}),
    "idle10k-clear": ("idle", ["--clients", "10000", "--settle", "5", "--tls", "none"], {"accounts": 10000}),
    "chat1": ("chat", ["--pairs", "200", "--window", "1"], {}),
    "chat8": ("chat", ["--pairs", "200", "--window", "8"], {}),
    "chat8-clear": ("chat", ["--pairs", "200", "--window", "8", "--tls", "none"], {}),
    "full1": ("chat", ["--pairs", "200", "--window", "1", "--sm"], {}),
    "rate200": ("chat", ["--pairs", "200", "--rate", "200", "--sm"], {}),
    "presence50": ("presence", ["--contacts", "50", "--clients", "204"], {}),
    "ping": ("ping", ["--clients", "400"], {}),
    "logins-scram": ("logins", ["--clients", "20", "--mech", "SCRAM-SHA-1"], {}),
    "roster": ("roster", ["--clients", "200", "--contacts", "100"], {}),
    "roster-set": ("roster-set", ["--clients", "200", "--contacts", "100"], {}),
    "fanout": ("fanout", ["--clients", "210", "--contacts", "20"], {}),
    "resources": ("resources", ["--clients", "210", "--contacts", "20"], {}),
    "reconnect": ("reconnect", ["--clients", "1000", "--mech", "SCRAM-SHA-1", "--settle", "5"], {}),
    "reconnect-resume": ("reconnect", ["--clients", "1000", "--mech", "SCRAM-SHA-1", "--settle", "5", "--resume"], {}),
    "mixed": ("mixed", ["--clients", "310", "--contacts", "30", "--rate", "500", "--mech", "SCRAM-SHA-1"], {}),
}


def find_build(build=None):
    """The release build to use: as named, JACKDAW_BUILD, or build/release, which is made when it is not there."""
    build = pathlib.Path(build or os.environ.get("JACKDAW_BUILD") or ROOT / "build" / "release").resolve()
    if not (build / "bin" / "jackdaw-bench").exists():
        subprocess.run([ROOT / "deploy" / "packages", "build", "run"], check=True)
        subprocess.run(["cmake", "--preset", "release", "-S", ROOT, "-B", build], check=True, stdout=sys.stderr)
        subprocess.run(["cmake", "--build", build], check=True, stdout=sys.stderr)
    return build


def process_ids(directory):
    """name -> process id of a cluster's own processes."""
    return {p.stem: int(p.read_text()) for p in sorted((pathlib.Path(directory) / "run").glob("*.pid")) if p.stem != "supervisor"}


def accounts_file(path, count, domain="localhost"):
    path.write_text("".join(f"bench{i}@{domain} {PASSWORD}\n" for i in range(count)))
    return path


class Cluster:
    """deploy/run in a directory of its own, for a `with`."""

    def __init__(self, build, offset=12000, routers=1, c2s=1, settings=(), accounts=1000, keep=False):
        self.build, self.port, self.keep = build, 5222 + offset, keep
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-bench."))
        self.accounts = accounts
        self.arguments = ["--port-offset", offset, "--routers", routers, "--c2s", c2s, "--s2s", 0, "--set", "c2s.require_tls=false",
                          "--set", "limits.enabled=false"]
        for s in settings:
            self.arguments += ["--set", s]

    def run(self, *arguments):
        subprocess.run([str(a) for a in (ROOT / "deploy" / "run", "--dir", self.dir, *arguments)], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "JACKDAW_BIN": str(self.build / "bin")})

    def __enter__(self):
        try:
            self.run(*self.arguments, "--user", "root", "--detach")
            subprocess.run([self.build / "bin" / "jackdawctl", "--dir", self.dir, "adduser", "--file",
                            accounts_file(self.dir / "accounts", self.accounts)], check=True, stdout=subprocess.DEVNULL)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.run("--stop")
        finally:
            if self.keep:
                print(f"left behind: {self.dir}", file=sys.stderr)
            else:
                shutil.rmtree(self.dir, ignore_errors=True)

    def command(self, scenario, *arguments):
        return [str(a) for a in (self.build / "bin" / "jackdaw-bench", scenario, f"127.0.0.1:{self.port}", "--dir", self.dir, *arguments)]

    def measure(self, scenario, *arguments):
        """The result of one run, which must be without loss."""
        done = subprocess.run([*self.command(scenario, *arguments), "--json"], stdout=subprocess.PIPE, text=True)
        return checked(done.returncode, done.stdout)


def checked(code, text):
    if code not in (0, 1) or not text:
        raise SystemExit(f"jackdaw-bench ended with {code}")
    result = json.loads(text)
    wrong = {k: result[k] for k in ("failed", "lost", "duplicated", "reordered") if result[k]}
    if wrong:
        raise SystemExit(f"{result['scenario']}: {wrong}; {result['trouble']}")
    return result


def cost_us(result):
    """Microseconds of calibrated CPU time of all server processes per unit."""
    return 1e6 / result["per_calibrated_cpu_second"]


def end_on_signals():
    """Makes SIGTERM end this program as Ctrl-C does, so that clusters are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
