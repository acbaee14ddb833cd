"""A client made of a socket and as little as possible: it sends what the test wants, right or wrong, and looks at what
comes with string search. For abuse; the dialogues of tests/script have a client that reads XML."""
import base64
import re
import socket
import ssl
import time

HEADER = "<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
WAIT_S = 10


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    return c


class Raw:
    def __init__(self, port, domain="localhost", receive_buffer=None):
        self.domain = domain
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(("127.0.0.1", port))
        self.plain = self.socket
        self.got = b""
        self.ended = False

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def take(self, timeout):
        """Reads once; false at the end, or when nothing came in time."""
        self.socket.settimeout(max(0.001, timeout))
        try:
            data = self.socket.recv(1 << 18)
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except (ConnectionError, ssl.SSLError):
            data = b""
        finally:
            try:
                self.socket.settimeout(WAIT_S)
            except OSError:
                pass
        self.ended |= not data
        self.got += data
        return bool(data)

    def expect(self, pattern, timeout=WAIT_S):
        """The match; what is before it and itself are forgotten."""
        end = time.monotonic() + timeout
        pattern = pattern.encode() if isinstance(pattern, str) else pattern
        while not (found := re.search(pattern, self.got, re.S)):
            if self.ended or time.monotonic() > end:
                raise AssertionError(f"no {pattern} ({'ended' if self.ended else 'open'}); got {self.got[-1600:]}")
            self.take(end - time.monotonic())
        self.got = self.got[found.end() :]
        return found

    def expect_end(self, timeout=WAIT_S):
        end = time.monotonic() + timeout
        while not self.ended:
            if time.monotonic() > end:
                raise AssertionError(f"still open after {timeout} s; got {self.got[-1600:]}")
            self.take(end - time.monotonic())

    def open(self):
        self.send(HEADER % self.domain)
        self.expect("</stream:features>")

    def proceed(self):
        self.open()
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.expect("<proceed[^>]*>")

    def start_tls(self):
        self.proceed()
        self.socket = context().wrap_socket(self.socket, server_hostname=self.domain)
        self.open()

    def authenticate(self, user, password):
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>")
        return self.expect("<success[^>]*>(</success>)?|<failure.*?</failure>").group(0).decode()

    def bind(self, resource):
        self.open()
        self.send(
            f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>"
        )
        self.expect("<iq [^>]*type='result'.*?</iq>")

    def login(self, user, password, resource, available=True):
        self.start_tls()
        answer = self.authenticate(user, password)
        assert answer.startswith("<success"), answer
        self.bind(resource)
        if available:
            self.send("<presence/>")
            self.expect("<presence [^>]*from=[^>]*/>")
        return self

    def ping(self, id_="p"):
        """Seconds until the server's answer."""
        began = time.monotonic()
        self.send(f"<iq type='get' id='{id_}'><ping xmlns='urn:xmpp:ping'/></iq>")
        self.expect(f"<iq [^>]*id='{id_}'[^>]*>")
        return time.monotonic() - began

    def close(self):
        self.socket.close()
