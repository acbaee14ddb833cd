"""Those who mean harm: one thread each, over TLS, at full speed, insiders with an account and strangers without. Every one is
a function that runs until it is told to stop and starts over when it is thrown out; `done` counts what it has sent."""
import base64
import contextlib
import ctypes
import ctypes.util
import hashlib
import os
import random
import re
import socket
import ssl
import struct
import threading
import time

CLIENT_HEADER = "<stream:stream to='%s' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
SM = "urn:xmpp:sm:3"
PIECE = 64  # stanzas in one write


class Thrown(Exception):
    """The server has ended it, or has not answered in time."""


class Peer:
    """A client over direct TLS, from an address of its own."""

    def __init__(self, world, address):
        self.world = world
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        plain.bind((address, 0))
        plain.settimeout(5)
        plain.connect(("127.0.0.1", world.tls_port))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(plain, server_hostname=world.domain)
        self.got = b""

    def send(self, text):
        self.socket.sendall(text.encode())

    def expect(self, pattern, limit_s=10):
        end = time.monotonic() + limit_s
        while not (found := re.search(pattern, self.got, re.S)):
            if time.monotonic() > end:
                raise Thrown(f"no {pattern}")
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            data = self.socket.recv(65536)
            if not data:
                raise Thrown("ended")
            self.got += data
        self.got = self.got[found.end() :]
        return found[0]

    def open(self):
        self.send(CLIENT_HEADER % self.world.domain)
        self.expect(b"</stream:features>")

    def auth(self, user, password):
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>")
        return self.expect(b"<success[^>]*>|<failure.*?</failure>").startswith(b"<success")

    def login(self, user, resource, manage=False):
        self.open()
        if not self.auth(user, self.world.password):
            raise Thrown("login refused")
        self.open()
        self.send(f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>")
        if b"type='error'" in self.expect(b"<iq [^>]*id='b'[^>]*>"):
            raise Thrown("bind refused")
        if manage:
            self.send(f"<enable xmlns='{SM}' resume='true'/>")
            self.expect(b"<enabled[^>]*>")
        return self

    def drain(self):
        """Takes what there is, without waiting."""
        self.socket.settimeout(0.001)
        with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
            while data := self.socket.recv(65536):
                del data
        self.got = b""
        self.socket.settimeout(5)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()


class World:
    """What they know: where the server is, their accounts, and an event that ends it all."""

    def __init__(self, domain, tls_port, component_port, component, secret, password):
        self.domain, self.tls_port, self.password = domain, tls_port, password
        self.component_port, self.component, self.secret = component_port, component, secret
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.done = {}
        self.thrown = {}

    def count(self, who, n=1):
        with self.lock:
            self.done[who] = self.done.get(who, 0) + n


def big_roster(w, me, peer):
    """Rosters of the longest names and groups, then gets of the whole."""
    peer.login(me, "r")
    group = "".join(f"<group>{i:03}{'&gt;' * 1000}</group>" for i in range(24))
    while not w.stop.is_set():
        for i in range(40):
            peer.send(f"<iq type='set' id='s{i}'><query xmlns='jabber:iq:roster'><item jid='c{random.randrange(5000)}@x.example' name='{'&gt;' * 1000}'>{group}</item></query></iq>")
            peer.drain()
            w.count("big_roster")
        peer.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>" * 20)
        peer.drain()


def giant_namespaces(w, me, peer):
    """Namespaces, attributes and ids beyond 64 KiB, to oneself and to others."""
    peer.login(me, "r", manage=True)
    while not w.stop.is_set():
        for text in (f"<x xmlns='{'A' * 70000}'/><body/>", f"<x a='{'B' * 90000}'/>", f"<body>{'&lt;' * 40000}</body>"):
            peer.send(f"<message to='{random.choice(w.victims)}@{w.domain}'>{text}</message>")
            w.count("giant_namespaces")
        peer.send(f"<iq type='get' id='{'i' * 70000}' to='{w.domain}'><ping xmlns='urn:xmpp:ping'/></iq>")
        peer.drain()


def never_reads(w, me, peer):
    """Asks for its own big vCard again and again and reads nothing."""
    peer.login(me, "r")
    peer.send(f"<iq type='set' id='v'><vCard xmlns='vcard-temp'><DESC>{'v' * 100000}</DESC></vCard></iq>")
    peer.expect(b"<iq [^>]*id='v'[^>]*>")
    while not w.stop.is_set():
        peer.send("<iq type='get' id='q'><vCard xmlns='vcard-temp'/></iq>" * PIECE)
        w.count("never_reads", PIECE)


def floods_the_absent(w, me, peer):
    """Leaves a session that can be resumed behind, and floods it with what no mailbox keeps and with what one does."""
    lost = Peer(w, f"127.0.4.{random.randrange(1, 250)}").login(me, "lost", manage=True)
    lost.send("<presence/>")
    lost.expect(b"<presence")
    lost.close()
    peer.login(me, "r")
    body = "x" * 8000
    to = f"{me}@{w.domain}/lost"
    while not w.stop.is_set():
        for text in (
            f"<message to='{to}' type='headline'><body>{body}</body></message>",
            f"<presence to='{to}'><status>{body}</status></presence>",
            f"<iq to='{to}' type='get' id='f'><x xmlns='y'>{body}</x></iq>",
            f"<message to='{to}' type='chat'><body>{body}</body></message>",
        ):
            peer.send(text)
            w.count("floods_the_absent")
        peer.drain()


def malformed_addresses(w, me, peer):
    """Every address that is none, to contacts and strangers, as presence, message and iq."""
    peer.login(me, "r")
    peer.send("<presence/>")
    bad = ("", "@", "@@@", "/", f"@{w.domain}", f"{w.victims[0]}@{w.domain}/ \u3164", "a@b@c", "\u202e@x", "x" * 3000)
    while not w.stop.is_set():
        for to in bad:
            for kind in ("", "type='subscribe'", "type='available'", "type='unavailable'"):
                peer.send(f"<presence {kind} to='{to}'/><message to='{to}'><body/></message><iq type='get' id='i' to='{to}'><a xmlns='b'/></iq>")
                w.count("malformed_addresses", 3)
        peer.drain()


def loses_sessions(w, me, peer):
    """Session after session that is never resumed."""
    peer.login(me, f"r{random.randrange(1 << 30)}", manage=True)
    peer.send("<presence/>")
    w.count("loses_sessions")
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def guesses(w, me, peer):
    """A stranger who tries passwords of accounts that exist and that don't."""
    peer.open()
    while not w.stop.is_set():
        peer.auth(random.choice(w.victims + ["nobody"]), f"guess{random.random()}")
        w.count("guesses")


def registers(w, me, peer):
    """A stranger who makes accounts."""
    peer.open()
    while not w.stop.is_set():
        name = f"spam{random.randrange(1 << 30)}"
        peer.send(f"<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>{name}</username><password>x</password></query></iq>")
        peer.expect(b"<iq [^>]*id='r'[^>]*>")
        w.count("registers")


def connects(w, me, peer):
    """A stranger who connects, begins, and leaves."""
    peer.send("<stream:stream to='")
    w.count("connects")


def component_nicks(w, me, peer):
    """A gateway whose users choose nicks that are no resources; its stream must live."""
    peer.close()
    s = socket.create_connection(("127.0.0.1", w.component_port), timeout=5)
    try:
        s.sendall(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{w.component}'>".encode())
        head = b""
        while b"id=" not in head:
            head += s.recv(4096)
        stream_id = re.search(rb"id=['\"]([^'\"]+)", head)[1].decode()
        s.sendall(f"<handshake>{hashlib.sha1((stream_id + w.secret).encode()).hexdigest()}</handshake>".encode())
        s.settimeout(0.2)
        while not w.stop.is_set():
            for nick in (" lead", "\u3164", "\u1160", "a\u200db", "\u00ad", "\ufe0f", "x" * 1100, ""):
                s.sendall(f"<message from='room@{w.component}/{nick}' to='{random.choice(w.victims)}@{w.domain}' type='headline'><body/></message>".encode())
                w.count("component_nicks")
            with contextlib.suppress(TimeoutError):
                if not s.recv(65536):
                    raise Thrown("ended")
    finally:
        s.close()


class Records:
    """OpenSSL's client by its C functions, since only they can send new keys and nothing else."""

    def __init__(self, fd):
        self.lib = lib = ctypes.CDLL(ctypes.util.find_library("ssl"))
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(lib, name).restype = ctypes.c_void_p
        self.context = lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method()))
        self.ssl = lib.SSL_new(ctypes.c_void_p(self.context))
        lib.SSL_set_fd(ctypes.c_void_p(self.ssl), fd)
        if lib.SSL_connect(ctypes.c_void_p(self.ssl)) != 1:
            raise Thrown("no handshake")

    def new_keys(self):
        """One KeyUpdate that asks for one in return."""
        self.lib.SSL_key_update(ctypes.c_void_p(self.ssl), 1)
        return self.lib.SSL_do_handshake(ctypes.c_void_p(self.ssl)) == 1

    def free(self):
        self.lib.SSL_free(ctypes.c_void_p(self.ssl))
        self.lib.SSL_CTX_free(ctypes.c_void_p(self.context))


def new_keys(w, me, peer):
    """A stranger whose TLS sends new keys without end and reads nothing."""
    peer.close()
    s = socket.socket()
    s.bind((f"127.0.5.{random.randrange(1, 250)}", 0))
    s.settimeout(None)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
    s.connect(("127.0.0.1", w.tls_port))
    records = Records(s.fileno())
    try:
        while not w.stop.is_set():
            if not records.new_keys():
                raise Thrown("ended")
            w.count("new_keys")
    finally:
        records.free()
        s.close()


INSIDERS = (big_roster, giant_namespaces, never_reads, floods_the_absent, malformed_addresses, loses_sessions)
STRANGERS = (guesses, registers, connects, component_nicks, new_keys)


def run_one(w, act, me, address):
    while not w.stop.is_set():
        peer = None
        try:
            peer = Peer(w, address)
            act(w, me, peer)
        except (OSError, Thrown, ssl.SSLError) as e:
            with w.lock:
                reasons = w.thrown.setdefault(act.__name__, {})
                reasons[type(e).__name__] = reasons.get(type(e).__name__, 0) + 1
            w.stop.wait(0.02)
        finally:
            if peer is not None:
                peer.close()


def work(pipe, world_arguments, accounts, victims):
    """A process of them all, until the pipe says so; then the counts go back."""
    os.nice(19)  # they take what the machine has left: a client's own CPU is not what is tested
    w = World(*world_arguments)
    w.victims = victims
    threads = []
    for i, act in enumerate(INSIDERS + STRANGERS):
        t = threading.Thread(target=run_one, args=(w, act, accounts[i % len(accounts)], f"127.0.3.{i + 1}"), daemon=True)
        t.start()
        threads.append(t)
    pipe.recv()
    w.stop.set()
    for t in threads:
        t.join(8)
    pipe.send((w.done, w.thrown))
