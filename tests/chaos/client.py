"""A lean XMPP client with stream management for load and chaos. It sends numbered messages, keeps what is not acknowledged,
resumes after any loss on any node, and remembers exactly what it got. Standard library only.

Numbers, not texts: message K of client S has the id "S.K"; its body is "S.K.TIME" (microseconds of the monotonic clock, which
all processes of a machine share)."""
import asyncio
import base64
import collections
import time

SM = "urn:xmpp:sm:3"
WINDOW = 400  # stanzas without acknowledgement, beyond it the client waits


def now_us():
    return time.monotonic_ns() // 1000


def attribute(tag, name):
    """The value of an attribute of a start tag, or None."""
    at = tag.find(b" " + name + b"=")
    if at < 0:
        return None
    at += len(name) + 2
    return tag[at + 1 : tag.find(tag[at : at + 1], at + 1)]


def take(buffer):
    """Cuts the first element (or the stream's header or end) off: (bytes, rest), or (None, buffer) when it is not whole."""
    at = buffer.find(b"<")
    if at < 0:
        return None, b""
    gt = buffer.find(b">", at)
    if gt < 0:
        return None, buffer
    if buffer.startswith((b"<?", b"<stream:stream", b"</"), at) or buffer[gt - 1] == 47:
        return buffer[at : gt + 1], buffer[gt + 1 :]
    name = buffer[at + 1 : gt].split(None, 1)[0]
    end = buffer.find(b"</" + name + b">", gt)
    if end < 0:
        return None, buffer
    end += len(name) + 3
    return buffer[at:end], buffer[end:]


class Deaf(asyncio.Protocol):
    """Whom a connection is left to when its client has gone elsewhere: nobody reads it, nobody closes it."""


class Client(asyncio.Protocol):
    """One account's one session. `nodes` are (host, port) pairs; any may serve it at any time."""

    connection = {}  # what loop.create_connection is given beside them

    def __init__(self, index, domain, nodes, rng, contacts=(), sm=True):
        self.index, self.domain, self.nodes, self.rng, self.sm = index, domain, nodes, rng, sm
        self.user, self.password = f"u{index}", f"pw{index}"
        self.contacts = contacts  # indices of those whose presence we see and who see ours
        self.transport = None
        self.step = None  # what the next element answers; None = bound
        self.buffer = b""
        self.sm_id = None
        self.in_h = 0  # stanzas received since <enabled/>
        self.out = collections.deque()  # (number, bytes, message number or None) sent and not acknowledged
        self.sent = 0  # stanzas in this session
        self.messages = 0  # messages ever
        self.to = {}  # message number -> index of the recipient
        self.acked = set()  # message numbers that the server has acknowledged
        self.repeated = set()  # message numbers that were sent again in a new session
        self.got = []  # (sender, number, sent us, got us), in order; None marks the begin of a new session
        self.errors = {}  # message number -> text of the error
        self.presence = {}  # index -> None (unavailable) or the status
        self.status = 0  # own, as last sent
        self.away_until = 0.0
        self.stopping = False
        self.vanished = False
        self.resumes = []  # (when, microseconds from <resume/> to <resumed/>)
        self.failed_resumes = []
        self.sessions = 0
        self.roams = 0
        self.trouble = collections.Counter()  # stream errors and the like
        self.asked_us = 0

    # ---- the connection

    @property
    def connected(self):
        return self.transport is not None and self.step is None

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        self.step = self.on_features_to_login
        self.header()

    def connection_lost(self, exc):
        self.transport = None

    def write(self, text):
        self.transport.write(text.encode())

    def header(self):
        self.write(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
            f" to='{self.domain}' version='1.0'>"
        )

    def data_received(self, data):
        self.buffer += data
        while True:
            element, self.buffer = take(self.buffer)
            if element is None or self.transport is None:
                return
            self.element(element)

    def element(self, e):
        if e.startswith((b"<?", b"<stream:stream")):
            return
        if e.startswith((b"<stream:error", b"</")):
            if e.startswith(b"<stream:error"):
                self.trouble[e[14:].split(b" ", 1)[0].strip(b"<>/").decode()] += 1
            self.transport.abort()
            return
        if self.step is not None:
            self.step(e)
        elif e.startswith(b"<a "):
            self.on_ack(int(attribute(e, b"h")))
        elif e.startswith(b"<r"):
            self.acknowledge()
        else:
            self.stanza(e)

    def give_up(self, what, e):
        self.trouble[f"{what}: {e[:120].decode(errors='replace')}"] += 1
        self.transport.abort()

    # ---- login

    def on_features_to_login(self, e):
        token = base64.b64encode(f"\0{self.user}\0{self.password}".encode()).decode()
        self.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>")
        self.step = self.on_login

    def on_login(self, e):
        if not e.startswith(b"<success"):
            self.give_up("login", e)
            return
        self.buffer = b""
        self.step = self.on_features
        self.header()

    def on_features(self, e):
        if self.sm_id:
            self.asked_us = now_us()
            self.write(f"<resume xmlns='{SM}' h='{self.in_h & 0xFFFFFFFF}' previd='{self.sm_id}'/>")
            self.step = self.on_resumed
        else:
            self.bind()

    def on_resumed(self, e):
        h = attribute(e, b"h")
        if e.startswith(b"<resumed"):
            now = now_us()
            self.resumes.append((now, now - self.asked_us))
            self.step = None
            self.on_ack(int(h))
            self.transport.write(b"".join(data for _, data, _ in self.out))
            self.ask()
            return
        self.failed_resumes.append((now_us(), e.decode(errors="replace")))
        if h is not None:
            self.on_ack(int(h))
        self.bind()

    def bind(self):
        self.sm_id = None
        self.write(f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>")
        self.step = self.on_bound

    def on_bound(self, e):
        if b"type='result'" not in e:
            self.give_up("bind", e)
        elif self.sm:
            self.write(f"<enable xmlns='{SM}' resume='true'/>")
            self.step = self.on_enabled
        else:
            self.begin()

    def on_enabled(self, e):
        if e.startswith(b"<enabled"):
            self.sm_id = attribute(e, b"id").decode()
            self.begin()
        elif e.startswith(b"<failed"):
            self.give_up("enable", e)

    def begin(self):
        """A new session: what the old one did not get acknowledged goes again as new stanzas."""
        self.sessions += 1
        self.step = None
        self.in_h = self.sent = 0
        self.got.append(None)
        self.presence = {}
        pending, self.out = self.out, collections.deque()
        self.announce()
        for _, data, number in pending:
            if number is not None:
                self.repeated.add(number)
                self.send(data, number)
        self.ask()

    async def run(self):
        """Keeps the session alive until told to stop."""
        loop = asyncio.get_running_loop()
        while not self.stopping:
            await asyncio.sleep(max(self.away_until - time.monotonic(), 0) or self.rng.uniform(0.02, 0.1))
            if self.transport is not None or self.stopping:
                continue
            host, port = self.rng.choice(self.nodes)
            try:
                await asyncio.wait_for(loop.create_connection(lambda: self, host, port, **self.connection), 5)
            except (OSError, asyncio.TimeoutError):
                continue
            begun = time.monotonic()
            while self.transport is not None and self.step is not None and not self.stopping:
                await asyncio.sleep(0.05)
                if time.monotonic() - begun > 15 and self.transport is not None and self.step is not None:
                    self.trouble["login takes more than 15 s at " + self.step.__name__] += 1
                    self.transport.abort()
        if self.transport is not None:
            self.transport.abort()

    # ---- stream management

    def on_ack(self, h):
        out = self.out
        while out and out[0][0] <= h:
            number = out.popleft()[2]
            if number is not None:
                self.acked.add(number)

    def ask(self):
        if self.sm and self.connected:
            self.write(f"<r xmlns='{SM}'/>")

    def acknowledge(self):
        if self.sm and self.connected:
            self.write(f"<a xmlns='{SM}' h='{self.in_h & 0xFFFFFFFF}'/>")

    # ---- stanzas

    def count(self, data, number=None):
        """Takes a stanza into the row of what has to be acknowledged."""
        self.sent += 1
        if self.sm:
            self.out.append((self.sent, data, number))
        return data

    def send(self, data, number=None):
        self.count(data, number)
        if self.connected:
            self.transport.write(data)

    def message(self, to):
        self.messages += 1
        k = self.messages
        self.to[k] = to
        i = f"{self.index}.{k}"
        text = f"<message to='u{to}@{self.domain}' type='chat' id='{i}'><body>{i}.{now_us()}</body></message>"
        return self.count(text.encode(), k)

    def burst(self, recipients):
        """A message to each, in one write. False when too much is unacknowledged or there is no session."""
        if not self.connected or len(self.out) > WINDOW:
            return False
        self.transport.write(b"".join([self.message(to) for to in recipients]) + f"<r xmlns='{SM}'/>".encode())
        return True

    def announce(self):
        self.status += 1
        self.send(f"<presence><status>{self.status}</status></presence>".encode())

    def subscribe(self):
        for c in self.contacts:
            self.send(f"<presence type='subscribe' to='u{c}@{self.domain}'/>".encode())

    def stanza(self, e):
        self.in_h += 1
        if e.startswith(b"<message"):
            self.on_message(e)
        elif e.startswith(b"<presence"):
            self.on_presence(e)

    def on_message(self, e):
        tag = e[: e.index(b">")]
        if attribute(tag, b"type") == b"error":
            sender, _, number = attribute(tag, b"id").partition(b".")
            self.errors[int(number)] = e.decode(errors="replace")
            return
        at = e.find(b"<body>") + 6
        sender, number, sent = e[at : e.index(b"<", at)].split(b".")
        self.got.append((int(sender), int(number), int(sent), now_us()))

    def on_presence(self, e):
        tag = e[: e.index(b">")]
        kind = attribute(tag, b"type")
        sender = attribute(tag, b"from")
        index = int(sender[1 : sender.index(b"@")])
        if kind == b"subscribe":
            self.send(f"<presence type='subscribed' to='u{index}@{self.domain}'/>".encode())
        elif index == self.index:
            return
        elif kind == b"unavailable":
            self.presence[index] = None
        elif kind is None:
            at = e.find(b"<status>") + 8
            self.presence[index] = int(e[at : e.index(b"<", at)])

    # ---- trouble made here

    def cut(self, recipients, away_s):
        """Loses the connection as a radio does, most often inside a stanza."""
        self.away_until = time.monotonic() + away_s
        if not self.connected:
            return
        if len(self.out) <= WINDOW and self.sm:
            data = b"".join([self.message(to) for to in recipients])
            self.transport.write(data[: self.rng.randrange(len(data))])
        if self.rng.random() < 0.5:
            self.transport.close()
        else:
            self.transport.abort()

    def roam(self, recipients, away_s, open_s):
        """Comes back on another connection, to whichever node, while the old one stays open and is read no more: what a
        telephone does that changes from one network to another."""
        if not self.connected:
            return
        self.away_until = time.monotonic() + away_s
        if len(self.out) <= WINDOW and self.sm:
            self.transport.write(b"".join([self.message(to) for to in recipients]))
        old, self.transport = self.transport, None
        old.pause_reading()
        old.set_protocol(Deaf())
        asyncio.get_running_loop().call_later(open_s, old.abort)
        self.roams += 1

    def vanish(self, politely):
        """Goes for good: with an end, or without a word."""
        self.vanished = True
        self.stopping = True
        if self.transport is not None:
            if politely and self.step is None:
                self.transport.write(b"</stream:stream>")
                self.transport.close()
            else:
                self.transport.abort()
