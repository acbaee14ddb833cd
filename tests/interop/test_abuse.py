#!/usr/bin/python3
"""What nobody should send, and what should not happen: junk, slowness, floods, storms, giants, a Redis that goes away.
After each: every process is the one that was there before, its memory has not grown beyond a bound, a counter has moved
and the log has a line that names the cause or what to do.

Usage: test_abuse.py [TEST]..."""
import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import hostile  # noqa: E402
from harness import DOMAIN, PASSWORD, Cluster
from raw import HEADER, Raw

LOGIN_TIMEOUT_S = 4
PER_ADDRESS = 700
USERS = [f"abuse{i}" for i in range(8)]
NAMES = ["router-1", "router-2", "c2s-1", "c2s-2"]
RSS_BOUND_KIB = 6144  # for what should cost nothing
STREAM_ERROR = 'jackdaw_c2s_stream_errors_total{condition="%s"}'


def is_sanitized():
    """Whether the binaries are those of the address sanitizer, which keeps what is freed."""
    binary = pathlib.Path(os.environ.get("JACKDAW_BIN", "/")) / "jackdaw-c2s"
    return binary.exists() and b"__asan_init" in binary.read_bytes()


class AbuseCluster(Cluster):
    SETTINGS = (
        f"c2s.login_timeout_s={LOGIN_TIMEOUT_S}",
        f"limits.connections_per_address={PER_ADDRESS}",
        "limits.connection_rate_per_address=2000",
        "limits.bytes_per_second=20000000",
        "mailbox.bytes_max=67108864",  # one test has 32 MB under way
    )

    def run(self, *args):
        if "--detach" in args:
            for setting in self.SETTINGS:
                args += ("--set", setting)
        return super().run(*args)

    def pid(self, name):
        return int((self.dir / f"run/{name}.pid").read_text())

    def rss_kib(self, name):
        text = pathlib.Path(f"/proc/{self.pid(name)}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))

    def metrics(self, name):
        role, _, number = name.partition("-")
        port = {"router": 9100, "c2s": 9200}[role] + int(number) + self.offset
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return {k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if line and line[0] != "#")}

    def counter(self, names, series):
        return sum(self.metrics(name)[series] for name in names)

    def log_text(self):
        return {log.name: log.read_text(errors="replace") for log in self.dir.glob("log/*.log")}


class Abuse(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
        cls.sanitized = is_sanitized()
        cls.cluster = AbuseCluster()
        cls.addClassCleanup(cls.cluster.remove)
        cls.port = cls.cluster.port(1)
        accounts = cls.cluster.tmp / "accounts"
        accounts.write_text("".join(f"{user}@{DOMAIN} {PASSWORD}\n" for user in USERS))
        cls.cluster.ctl("adduser", "--file", str(accounts))
        for user in USERS:  # first use of everything is not growth
            Raw(cls.port).login(user, PASSWORD, "first").close()

    def run(self, result=None):
        began = len(result.errors) + len(result.failures)
        super().run(result)
        if len(result.errors) + len(result.failures) > began:
            self.cluster.show_logs()

    @contextlib.contextmanager
    def watched(self, moved=(), said=(), grown_kib=RSS_BOUND_KIB):
        """moved: series of the c2s whose sum must have grown; said: patterns of which the new log lines have each."""
        c = self.cluster
        pids = {name: c.pid(name) for name in NAMES}
        before = {name: c.rss_kib(name) for name in NAMES}
        counted = {series: c.counter(NAMES[2:], series) for series in moved}
        logged = {name: len(text) for name, text in c.log_text().items()}
        yield
        self.assertEqual({name: c.pid(name) for name in NAMES}, pids)
        Raw(self.port).login(USERS[0], PASSWORD, "after").close()
        for series, was in counted.items():
            self.until(lambda: c.counter(NAMES[2:], series) > was, f"{series} moves from {was}")
        for pattern in said:
            self.until(
                lambda: any(re.search(pattern, text[logged.get(name, 0) :]) for name, text in c.log_text().items()),
                f"the log says {pattern}",
            )
        grown = {name: c.rss_kib(name) - before[name] for name in NAMES}
        if not self.sanitized:
            self.assertLess(max(grown.values()), grown_kib, grown)
        for name, text in c.log_text().items():
            self.assertNotRegex(text, "Sanitizer|runtime error|CHECK", name)

    def until(self, look, what, limit_s=10):
        end = time.monotonic() + limit_s
        while not look():
            self.assertLess(time.monotonic(), end, f"waited {limit_s} s in vain: {what}")
            time.sleep(0.05)

    def login(self, user, name="abuse", port=None, **options):
        client = Raw(port or self.port, **options)
        self.addCleanup(lambda: client.close())
        return client.login(user, PASSWORD, name)

    # ---- junk ----

    def test_junk_instead_of_tls(self):
        failed = 'jackdaw_c2s_tls_handshakes_total{result="failed"}'
        with self.watched([failed, STREAM_ERROR % "not-well-formed"], ["TLS handshake failed", "stream error=not-well-formed"]):
            for junk in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000), b"\x16\x03\x01\x40\x00" + b"\xff" * 20000):
                client = Raw(self.cluster.direct_tls_port)
                with contextlib.suppress(ConnectionError):
                    client.send(junk)
                client.expect_end()
                client.close()
                client = Raw(self.port)
                client.proceed()
                with contextlib.suppress(ConnectionError):
                    client.send(junk)
                client.expect_end()
                client.close()
            client = Raw(self.port)
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            client.expect("<stream:stream .*<not-well-formed")
            client.expect_end()
            client.close()

    def test_junk_after_tls(self):
        with self.watched([STREAM_ERROR % "not-well-formed", STREAM_ERROR % "bad-format"], ["TLS broken", "stream error=bad-format"]):
            client = self.login(USERS[0])
            client.send(b"junk" + os.urandom(2000).replace(b"<", b""))
            client.expect("<stream:error><bad-format")  # text between stanzas is not even XML's fault
            client.expect_end()
            client = self.login(USERS[0])
            raw = socket.socket(fileno=os.dup(client.socket.fileno()))
            raw.sendall(os.urandom(2000))
            client.expect_end()
            raw.close()
            client = self.login(USERS[0])
            client.send("<message to='x'><body>\x01</body></message>")
            client.expect("<stream:error><not-well-formed")
            client.expect_end()

    # ---- slow ones and halves ----

    def test_slow_loris_and_unfinished_logins(self):
        """One byte a second, in clear and inside the TLS handshake; 300 that stop at each stage of a log-in."""
        timeout = STREAM_ERROR % "connection-timeout"
        open_before = self.cluster.metrics("c2s-1")["jackdaw_c2s_connections"]
        said = ["no TLS handshake within c2s.login_timeout_s", "log-in takes too long.*login_timeout_s|login_timeout_s"]
        with self.watched([timeout, 'jackdaw_c2s_tls_handshakes_total{result="failed"}'], said, grown_kib=40960):
            slow = [(Raw(self.port), (HEADER % DOMAIN).encode()), (Raw(self.cluster.direct_tls_port), b"\x16\x03\x01\x02\x00\x01")]
            stuck = []
            for i in range(300):
                client = Raw(self.port)
                if i % 3 == 1:
                    client.proceed()
                elif i % 3 == 2 and i < 150:
                    client.start_tls()
                    client.send(
                        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1hYnVzZTAscj1hYmM=</auth>"
                    )
                stuck.append(client)
            began = time.monotonic()
            at = 0
            while not all(client.ended for client, _ in slow):
                for client, data in slow:
                    with contextlib.suppress(OSError):
                        client.send(data[at : at + 1])
                    client.take(0.1)
                at += 1
                self.assertLess(time.monotonic(), began + LOGIN_TIMEOUT_S + 4, "a slow one still stands")
                time.sleep(0.8)
            self.assertIn(b"<connection-timeout", slow[0][0].got)
            for client in stuck:
                client.expect_end(LOGIN_TIMEOUT_S + 6)
            for client in [*stuck, slow[0][0], slow[1][0]]:
                client.close()
            self.until(
                lambda: self.cluster.metrics("c2s-1")["jackdaw_c2s_connections"] <= open_before, "the connections are gone"
            )

    def test_half_closed(self):
        with self.watched(["jackdaw_c2s_connections_total"], ["session closed jid=abuse1@localhost/half.*how="]):
            before = self.cluster.metrics("c2s-1")["jackdaw_c2s_connections"]
            halves = []
            for i in range(100):
                client = Raw(self.port)
                if i % 2:
                    client.open()
                client.plain.shutdown(socket.SHUT_WR)
                halves.append(client)
            for client in halves:
                client.expect_end()
                client.close()
            client = self.login(USERS[1], "half")
            client.send("<iq type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>")
            socket.socket.shutdown(client.socket, socket.SHUT_WR)  # TCP's half only: no close_notify
            client.expect_end()
            self.until(lambda: self.cluster.metrics("c2s-1")["jackdaw_c2s_connections"] <= before, "all are closed")

    # ---- giants ----

    def test_giants(self):
        refused = STREAM_ERROR % "policy-violation"
        with self.watched([refused], ["stream error=policy-violation"], grown_kib=RSS_BOUND_KIB):
            client = Raw(self.port)
            client.start_tls()
            with contextlib.suppress(OSError):
                client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + "A" * 200000)
            client.expect_end()
            self.assertIn(b"<policy-violation", client.got)
            client.close()
            giants = (
                "<message to='x@localhost'><body>" + "a" * 400000 + "</body></message>",
                "<message to='x@localhost'><body>" + "a" * 3000000,
                "<message to='x@localhost' " + " ".join(f"a{i}=''" for i in range(10000)) + "/>",
                "<message to='x@localhost'>" + "<a>" * 10000 + "</a>" * 10000 + "</message>",
                "<message to='x@localhost'>" + "<a/>" * 60000 + "</message>",
                "<" + "m" * 300000 + "/>",
            )
            for text in giants:
                client = self.login(USERS[2])
                with contextlib.suppress(OSError):
                    client.send(text)
                if "<a/>" not in text:  # that one is legal
                    client.expect("<stream:error><policy-violation")
                    client.expect_end()
                client.close()

    # ---- too much ----

    def test_never_reads(self):
        """32 MB for one who does not read: they wait in Redis, not in memory, and come when he reads."""
        count, size = 780, 41000  # the first 400 pass at once, the others at 200 a second
        with self.watched(['jackdaw_c2s_stanzas_in_total{kind="message"}'], ["session open jid=abuse3"], grown_kib=16384):
            reader = self.login(USERS[3], "deaf", self.cluster.port(2), receive_buffer=8192)
            before = {name: self.cluster.rss_kib(name) for name in NAMES}
            writer = self.login(USERS[4])
            for i in range(count):
                body = f"{i:06d}" + "x" * size
                writer.send(f"<message to='{USERS[3]}@{DOMAIN}/deaf' type='chat' id='n{i}'><body>{body}</body></message>")
            writer.ping("behind")
            time.sleep(0.5)
            grown = {name: self.cluster.rss_kib(name) - before[name] for name in NAMES}
            if not self.sanitized:
                # What was under way when its router heard that it is slow; all that came later is not there.
                self.assertLess(grown["c2s-2"], 12288, grown)
            print(f"  {count * size // 1000} kB to one who does not read: {grown} KiB more", flush=True)
            for i in range(count):
                found = reader.expect(r"<message [^>]*id='n(\d+)'[^>]*><body>(\d+)x+</body>.*?</message>", 20)
                self.assertEqual((int(found.group(1)), int(found.group(2))), (i, i))

    def test_flood(self):
        """900 stanzas at once: the client is slowed, not killed, nothing is lost, and others do not feel it."""
        count = 900  # 400 pass at once, the others at 200 a second
        held = 'jackdaw_c2s_holds_total{reason="rate"}'
        with self.watched([held], ["limits.stanzas_per_second"]):
            reader, flooder, other = self.login(USERS[5]), self.login(USERS[6]), self.login(USERS[7])
            text = "".join(
                f"<message to='{USERS[5]}@{DOMAIN}' type='chat' id='f{i}'><body>f</body></message>" for i in range(count)
            )
            quiet = sorted(other.ping(f"q{i}") for i in range(20))
            began = time.monotonic()
            sender = threading.Thread(target=flooder.send, args=(text,))
            sender.start()
            delays = []
            while len(delays) < 60:
                delays.append(other.ping(f"d{len(delays)}"))
                time.sleep(0.02)
            for i in range(count):
                found = reader.expect(r"<message [^>]*id='f(\d+)'")
                self.assertEqual(int(found.group(1)), i)
            took = time.monotonic() - began
            sender.join()
            flooder.ping("still here")
            delays.sort()
            print(f"  ping: {quiet[10] * 1000:.1f} ms at rest, {delays[30] * 1000:.1f} ms beside a flood, worst {delays[-1] * 1000:.0f} ms")
            self.assertGreater(took, (count - 400) / 200 - 0.5)
            self.assertLess(delays[30], 0.1)
            self.assertLess(delays[-1], 2)

    def test_new_keys_without_end(self):
        """KeyUpdates before login: few bytes, much work, and each asks for an answer that is not read."""
        with self.watched(['jackdaw_c2s_holds_total{reason="rate"}'], ["read more slowly jid=- .*limits.bytes_per_second"]):
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
            plain.connect(("127.0.0.1", self.cluster.direct_tls_port))
            records = hostile.Records(plain.fileno())
            sent, read, began = [0, 0], [0, 0], time.monotonic()
            for i, until_s in enumerate((1, LOGIN_TIMEOUT_S - 1)):
                while time.monotonic() < began + until_s and records.new_keys():
                    sent[i] += 1
                time.sleep(max(0, began + until_s - time.monotonic()))
                read[i] = self.cluster.counter(NAMES[2:], "jackdaw_c2s_bytes_in_total")
            records.free()
            plain.close()
            print(f"  {sent} new keys sent; in the last two seconds {read[1] - read[0]:.0f} bytes were read", flush=True)
            # Two seconds' worth passes at once, and what the kernel had received before the pause took effect; then
            # eight records of 27 bytes for each of 200 stanzas a second.
            self.assertGreater(sum(sent), 8000)
            self.assertLess(read[1] - read[0], 500000)

    def test_asks_and_never_reads(self):
        """4,000 requests of 100 kB each by one who reads nothing: he is no longer read."""
        with self.watched(['jackdaw_c2s_holds_total{reason="output"}'], grown_kib=40960):
            client = self.login(USERS[5], "glutton", receive_buffer=8192)
            client.send(f"<iq type='set' id='v'><vCard xmlns='vcard-temp'><DESC>{'v' * 100000}</DESC></vCard></iq>")
            client.expect("<iq [^>]*id='v'[^>]*>")
            before = {name: self.cluster.rss_kib(name) for name in NAMES}
            client.socket.settimeout(1)
            with contextlib.suppress(TimeoutError):
                for i in range(4000):
                    client.send(f"<iq type='get' id='g{i}'><vCard xmlns='vcard-temp'/></iq>")
            time.sleep(6)
            grown = {name: self.cluster.rss_kib(name) - before[name] for name in NAMES}
            print(f"  400 MB asked for and not read: {grown} KiB more", flush=True)
            if not self.sanitized:
                # What was asked before the first answer came: c2s.unacked_max × 100 kB at the most.
                self.assertLess(grown["c2s-1"], 32768, grown)
            for i in range(3):  # it goes on where it stood
                client.expect(f"<iq [^>]*id='g{i}'[^>]*>.*?</iq>")

    def test_storm_from_one_address(self):
        refused = 'jackdaw_c2s_connections_refused_total{reason="too-many"}'
        with self.watched([refused], ["limits.connections_per_address"], grown_kib=20480):
            other = self.login(USERS[0], "calm", self.cluster.port(2))
            storm = []
            for _ in range(2000):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(("127.0.0.1", self.port))
                storm.append(s)
            time.sleep(1)
            gone = 0
            for s in storm:
                try:
                    gone += s.recv(100) == b""
                except BlockingIOError:
                    pass
                except OSError:
                    gone += 1
            self.assertGreaterEqual(gone, 2000 - PER_ADDRESS)
            self.assertLess(gone, 2000)
            self.assertLess(other.ping(), 2)
            for s in storm:
                s.close()
            # Those that left make room.
            self.until(lambda: self.cluster.metrics("c2s-1")["jackdaw_c2s_connections"] < 50, "room")

    # ---- Redis ----

    def test_redis_away_at_start(self):
        """A process waits, says so, does not listen, and goes on when Redis comes."""
        with tempfile.TemporaryDirectory(prefix="jackdaw-abuse-") as tmp:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            log = open(f"{tmp}/log", "w+")
            settings = {
                "cluster.run_dir": tmp,
                "redis.url": f"unix://{tmp}/redis.sock",
                "stats.listen": f"127.0.0.1:{port}",
                "cluster.domains": DOMAIN,
            }
            argv = [str(self.cluster.dir / "bin/jackdaw-router"), "--name", "router-1"]
            for key, value in settings.items():
                argv += ["--set", f"{key}={value}"]
            role = subprocess.Popen(argv, stdout=log, stderr=log)
            redis = None

            def ready():
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                        return answer.status == 200
                except (urllib.error.URLError, OSError):
                    return False

            try:
                self.until(lambda: "waiting for Redis at" in pathlib.Path(log.name).read_text(), "it says that it waits")
                self.assertFalse(ready())
                self.assertIsNone(role.poll())
                argv = ["redis-server", "--port", "0", "--unixsocket", f"{tmp}/redis.sock", "--dir", tmp, "--save", ""]
                redis = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
                self.until(ready, "it is ready")
            finally:
                for process in filter(None, (role, redis)):
                    process.terminate()
                    process.wait(20)
                log.close()

    def talk_while(self, event):
        """A sends numbered messages to B, both with stream management; event() happens meanwhile. Nothing is lost or
        twice, the streams stay. Returns what A was acknowledged and what a log-in during the event got."""
        a, b = self.login(USERS[1], "a"), self.login(USERS[2], "b", self.cluster.port(2))
        a.send("<enable xmlns='urn:xmpp:sm:3'/>")
        a.expect("<enabled")
        stop, sent = threading.Event(), [0]

        def write():
            while not stop.is_set():
                n = sent[0]
                a.send(f"<message to='{USERS[2]}@{DOMAIN}/b' type='chat' id='r{n}'><body>r</body></message><r xmlns='urn:xmpp:sm:3'/>")
                sent[0] = n + 1
                time.sleep(0.02)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            time.sleep(0.5)
            answers = event()
            time.sleep(1)
        finally:
            stop.set()
            writer.join()
        for i in range(sent[0]):
            try:
                found = b.expect(r"<message [^>]*id='r(\d+)'", 20)
            except AssertionError as e:
                raise AssertionError(f"number {i} of {sent[0]} did not come; A has {a.got[-200:]}") from e
            self.assertEqual(int(found.group(1)), i)
        # All is acknowledged in the end, on the stream that stood all the time.
        acked = 0
        end = time.monotonic() + 20
        while acked < sent[0] and time.monotonic() < end:
            acked = int(a.expect(r"<a xmlns='urn:xmpp:sm:3' h='(\d+)'").group(1))
        self.assertEqual(acked, sent[0])
        self.assertLess(b.ping("end"), 5)
        self.assertNotRegex(b.got, rb"<message [^>]*id='r")
        return answers

    def try_login(self):
        client = Raw(self.port)
        try:
            client.start_tls()
            return client.authenticate(USERS[3], PASSWORD)
        except AssertionError as e:
            return f"no answer: {e}"
        finally:
            client.close()

    def test_redis_stands_still(self):
        pid = self.cluster.pid("redis")

        def event():
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(3)
                answer = self.try_login()
                time.sleep(5)
                return answer
            finally:
                os.kill(pid, signal.SIGCONT)

        with self.watched(["jackdaw_redis_timeouts_total"], ["Redis does not answer.*look at Redis"], grown_kib=12288):
            answer = self.talk_while(event)
            self.assertRegex(answer, "temporary-auth-failure|no answer")
            self.until(lambda: self.try_login().startswith("<success"), "log-ins work again")

    def test_redis_is_killed(self):
        def event():
            pid = self.cluster.pid("redis")
            os.kill(pid, signal.SIGKILL)

            def back():
                with contextlib.suppress(OSError, ValueError):
                    return self.cluster.pid("redis") != pid
                return False

            self.until(back, "Redis is started again")
            return ""

        with self.watched(["jackdaw_redis_reconnects_total"], ["Redis"], grown_kib=12288):
            self.talk_while(event)
            self.until(lambda: self.try_login().startswith("<success"), "log-ins work again")


if __name__ == "__main__":
    unittest.main(verbosity=2)
