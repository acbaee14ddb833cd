"""An XMPP client for tests: a socket, TLS, an XML stream, SCRAM. It shares nothing with the server and hides nothing:
whatever the server sends becomes an event in the order in which it came, and everything is kept for the transcript."""
import base64
import collections
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import time
import xml.parsers.expat

NS = {
    "client": "jabber:client",
    "server": "jabber:server",
    "stream": "http://etherx.jabber.org/streams",
    "streams": "urn:ietf:params:xml:ns:xmpp-streams",
    "stanzas": "urn:ietf:params:xml:ns:xmpp-stanzas",
    "sasl": "urn:ietf:params:xml:ns:xmpp-sasl",
    "tls": "urn:ietf:params:xml:ns:xmpp-tls",
    "bind": "urn:ietf:params:xml:ns:xmpp-bind",
    "xml": "http://www.w3.org/XML/1998/namespace",
}


class Failed(Exception):
    """An expectation was not met; the text says which."""


class Element:
    """A piece of XML: attributes by local name ("xml:lang" for that one), children and text in order."""

    def __init__(self, name, ns, attrs):
        self.name, self.ns, self.attrs, self.children = name, ns, attrs, []

    def elements(self):
        return [c for c in self.children if isinstance(c, Element)]

    def text(self):
        return "".join(c for c in self.children if isinstance(c, str))

    def find(self, name, ns=None):
        for c in self.elements():
            if c.name == name and (ns is None or c.ns == ns):
                return c
        return None

    def show(self, outer=NS["client"]):
        out = f"<{self.name}"
        if self.ns != outer:
            out += f" xmlns='{self.ns}'"
        out += "".join(f" {k}='{v}'" for k, v in self.attrs.items())
        if not self.children:
            return out + "/>"
        inner = "".join(c if isinstance(c, str) else c.show(self.ns) for c in self.children)
        return f"{out}>{inner}</{self.name}>"


Event = collections.namedtuple("Event", "kind element text")  # open, stanza, end, eof, broken


def split_name(name):
    ns, _, local = name.rpartition(" ")
    return ns, local


def attributes(pairs):
    out = {}
    for name, value in pairs.items():
        ns, local = split_name(name)
        out[f"xml:{local}" if ns == NS["xml"] else f"{{{ns}}}{local}" if ns else local] = value
    return out


class Reader:
    """Bytes in, events out, by expat. A server that sends a comment, a processing instruction or a DTD fails here."""

    def __init__(self, events):
        self.events, self.stack, self.root = events, [], None
        self.declared = {}  # on the stream header: prefix -> namespace
        p = self.parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
        p.buffer_text = True
        p.StartElementHandler, p.EndElementHandler, p.CharacterDataHandler = self.start, self.end, self.characters
        p.StartNamespaceDeclHandler = self.declare
        p.CommentHandler = p.ProcessingInstructionHandler = p.StartDoctypeDeclHandler = self.forbidden

    def feed(self, data):
        try:
            self.parser.Parse(data, False)
        except xml.parsers.expat.ExpatError as e:
            self.events.append(Event("broken", None, f"the server sent what is not well-formed: {e}"))

    def forbidden(self, *_):
        self.events.append(Event("broken", None, "the server sent restricted XML"))

    def declare(self, prefix, uri):
        if self.root is None:
            self.declared[prefix or ""] = uri

    def start(self, name, attrs):
        ns, local = split_name(name)
        element = Element(local, ns, attributes(attrs))
        if self.root is None:
            self.root = element
            self.events.append(Event("open", element, ""))
        else:
            if self.stack:
                self.stack[-1].children.append(element)
            self.stack.append(element)

    def end(self, _):
        if not self.stack:
            self.events.append(Event("end", None, ""))
            return
        element = self.stack.pop()
        if not self.stack:
            self.events.append(Event("stanza", element, ""))

    def characters(self, text):
        if self.stack:
            self.stack[-1].children.append(text)


class Client:
    """One connection. Every wait has an end; times are seconds."""

    def __init__(self, label, address, transcript):
        self.label, self.transcript = label, transcript
        self.events = collections.deque()
        self.reader = Reader(self.events)
        self.tls = self.tls_in = self.tls_out = None
        self.closed = False  # nothing more will come
        self.close_notify = False  # TLS said that it ends
        self.raw = b""  # what came in since the last restart, in clear
        self.jid = None
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # Bytes

    def send(self, data, note=True):
        if isinstance(data, str):
            data = data.encode()
        if note:
            self.say(">", data)
        try:
            if self.tls is None:
                self.socket.sendall(data)
                return
            while data:
                data = data[self.tls.write(data) :]
            self.socket.sendall(self.tls_out.read())
        except (BrokenPipeError, ConnectionResetError):
            self.say("!", b"(the connection is gone)")

    def say(self, arrow, data):
        text = data.decode("utf-8", "backslashreplace")
        self.transcript.append(f"{time.strftime('%H:%M:%S')} {self.label:16} {arrow} {text}")

    def pump(self, timeout):
        """Takes what has come within the time; true if anything has."""
        if self.closed:
            return False
        ready, _, _ = select.select([self.socket], [], [], max(0, timeout))
        if not ready:
            return False
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if self.tls is not None and data:
            self.tls_in.write(data)
            data = self.decrypt()
            if data is None:
                return True
        if not data:
            self.finish("")
            return True
        self.take(data)
        return True

    def take(self, data):
        self.raw += data
        self.say("<", data)
        self.reader.feed(data)

    def finish(self, why):
        if not self.closed:
            self.closed = True
            self.say("<", b"(end of the connection)")
            self.events.append(Event("eof", None, why))

    def decrypt(self):
        out = b""
        try:
            while True:
                piece = self.tls.read(65536)
                if not piece:
                    raise ssl.SSLZeroReturnError
                out += piece
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.close_notify = True
            if out:
                self.take(out)
            return None
        except ssl.SSLError as e:
            if out:
                self.take(out)
            self.finish(f"TLS: {e.reason}")
            return None
        if out:
            self.take(out)
        return None

    def drop(self):
        """Ends the TCP connection with a reset, as a crash would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.closed = True
        self.say(">", b"(dropped)")

    def close(self):
        if self.socket.fileno() >= 0:
            self.socket.close()
        self.closed = True

    # TLS

    def handshake(self, server_name, context=None, timeout=10):
        context = context or client_context()
        self.tls_in, self.tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.tls_in, self.tls_out, server_hostname=server_name)
        self.reader = Reader(self.events)
        end = time.monotonic() + timeout
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as e:
                raise Failed(f"the TLS handshake failed: {e}") from e
            self.flush_tls()
            if not select.select([self.socket], [], [], max(0, end - time.monotonic()))[0]:
                raise Failed("the server did not answer the TLS handshake")
            data = self.socket.recv(65536)
            if not data:
                raise Failed("the server closed the connection during the TLS handshake")
            self.tls_in.write(data)
        self.flush_tls()
        self.raw = b""
        self.say("!", f"({self.tls.version()} {self.tls.cipher()[0]})".encode())

    def flush_tls(self):
        data = self.tls_out.read()
        if data:
            self.socket.sendall(data)

    def end_tls(self):
        """Sends our close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        try:
            self.flush_tls()
        except OSError:
            pass

    # Events

    def next(self, timeout):
        """The next event, or None when the time is over."""
        end = time.monotonic() + timeout
        while not self.events:
            left = end - time.monotonic()
            if left <= 0 or (self.closed and not self.events):
                return None
            self.pump(left)
        return self.events.popleft()

    def restart(self):
        self.reader = Reader(self.events)
        self.raw = b""


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# SASL, as far as a client needs it


class Scram:
    """RFC 5802, client side. hash_name: "sha1" and the like; binding: (name, data) for -PLUS, or None."""

    def __init__(self, hash_name, user, password, binding=None, authzid=""):
        self.hash_name, self.password = hash_name, password
        self.nonce = base64.b64encode(os.urandom(18)).decode().replace(",", "")
        name, self.binding = binding if binding else (None, b"")
        self.gs2 = (f"p={name}" if name else "n") + "," + (f"a={authzid}" if authzid else "") + ","
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"

    def first(self):
        return (self.gs2 + self.bare).encode()

    def answer(self, challenge):
        fields = dict(f.split("=", 1) for f in challenge.decode().split(","))
        if not fields["r"].startswith(self.nonce) or fields["r"] == self.nonce:
            raise Failed("the server's nonce does not extend ours")
        bound = base64.b64encode(self.gs2.encode() + self.binding).decode()
        last = f"c={bound},r={fields['r']}"
        message = ",".join((self.bare, challenge.decode(), last)).encode()
        salt, rounds = base64.b64decode(fields["s"]), int(fields["i"])
        salted = hashlib.pbkdf2_hmac(self.hash_name, self.password.encode(), salt, rounds)
        key = self.mac(salted, b"Client Key")
        signature = self.mac(hashlib.new(self.hash_name, key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.expected = self.mac(self.mac(salted, b"Server Key"), message)
        return f"{last},p={base64.b64encode(proof).decode()}".encode()

    def check(self, final):
        if final != b"v=" + base64.b64encode(self.expected):
            raise Failed("the server does not know the password: its signature is wrong")

    def mac(self, key, data):
        return hmac.new(key, data, self.hash_name).digest()
