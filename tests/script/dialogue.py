"""The language of the dialogues: reading and performing. tests/script/README.md describes it."""
import base64
import dataclasses
import re
import select
import shlex
import ssl
import subprocess
import time
import warnings

import pattern
from xmpp import NS, Client, Failed, Scram, client_context

PASSWORD = "secret"
WITHIN = 20  # seconds for an answer; long, because the machine may be busy
QUIET = 0.25  # seconds of silence that count as nothing, after a round trip through the server


@dataclasses.dataclass
class Line:
    number: int
    text: str


@dataclasses.dataclass
class Dialogue:
    name: str
    file: str
    title: str = ""
    lines: list = dataclasses.field(default_factory=list)
    options: dict = dataclasses.field(default_factory=dict)  # cluster, near, far, differs, only

    def people(self):
        """Everybody who has an account: who acts, and who is named in braces."""
        found = {}
        strangers = set(self.options.get("strangers", "").split())
        for line in self.lines:
            if m := re.match(r"([a-z]\w*)(/\S+)? ", line.text):
                if m[1] not in ("wait", "kill", "stop", "pause", "resume", "ctl", "note", "log"):
                    found[m[1]] = True
            for name in re.findall(r"\{([a-z]\w*)(?:/[^{}:]+)?\}", line.text):
                if name not in ("host", "any", "none", "i", "user", "upper"):
                    found[name] = True
            for name in re.findall(r"\{(?:user|upper)/(\w+)\}", line.text):
                found[name] = True
            for name in re.findall(r"[\[(](\w+)(?:/\w+)?[\])]", line.text if "{repeat" in line.text or "{base64" in line.text else ""):
                found[name] = True
            for name in re.findall(r"\{new:(\w+)\}", line.text):
                strangers.add(name)
        return [name for name in found if name not in strangers]


def read(path, text=None):
    """The dialogues of a file. `== NAME` begins one, `= TITLE` says what it proves, `key: value` are options,
    indented lines continue the one before, # begins a comment."""
    out = []
    for number, raw in enumerate((text if text is not None else path.read_text()).splitlines(), 1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if raw.startswith("== "):
            out.append(Dialogue(raw[3:].strip(), path.name))
        elif not out:
            raise SystemExit(f"{path}:{number}: a dialogue begins with == NAME")
        elif raw.startswith("= "):
            out[-1].title = raw[2:].strip()
        elif raw[0] in " \t":
            out[-1].lines[-1].text += "\n" + stripped
        elif (m := re.fullmatch(r"(cluster|only|strangers|far|near|serial|long): *(.*)", raw)) is not None:
            out[-1].options[m[1]] = m[2]
        else:
            out[-1].lines.append(Line(number, stripped))
    return out


def unescape(text):
    r"""\n \r \t \0 \xNN and \\ in `sends bytes`."""
    table = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\"}

    def one(m):
        return bytes([int(m[1][1:], 16)]) if m[1][:1] == b"x" else table[m[1].decode()]

    return re.sub(rb"\\(x[0-9a-fA-F]{2}|[nrt0\\])", one, text.encode())


class Performance:
    """One dialogue being performed against one server."""

    def __init__(self, dialogue, server, accounts):
        self.dialogue, self.server = dialogue, server
        self.accounts = accounts  # person -> localpart
        self.transcript, self.clients = [], {}
        self.values = {"host": server.domain}
        self.counter = 0
        self.last = None

    def run(self):
        try:
            for line in self.dialogue.lines:
                self.perform(line)
        finally:
            for client in self.clients.values():
                client.close()

    def perform(self, line):
        self.transcript.append(f"-- {self.dialogue.file}:{line.number}: {line.text}")
        for form, method in FORMS:
            if m := form.fullmatch(line.text):
                try:
                    method(self, **{k: v for k, v in m.groupdict().items()})
                except Failed as e:
                    raise Failed(f"{self.dialogue.file}:{line.number}: {line.text}\n    {e}") from None
                return
        raise SystemExit(f"{self.dialogue.file}:{line.number}: not understood: {line.text}")

    # Texts

    def bare(self, person):
        return f"{self.accounts[person]}@{self.server.domain}"

    def fill(self, text):
        """Replaces {person}, {person/resource}, {value} and the functions; leaves the rest for the pattern."""

        def one(m):
            inner = m[1]
            name, slash, resource = inner.partition("/")
            if inner in self.values:
                return self.values[inner]
            if name in self.accounts:
                return self.bare(name) + (slash + resource)
            if name == "user" and resource in self.accounts:
                return self.accounts[resource]
            if name == "upper" and resource in self.accounts:
                return self.accounts[resource].upper()
            head, colon, rest = inner.partition(":")
            if head in ("repeat", "numbered") and colon:
                count, _, what = rest.partition(":")
                what = re.sub(r"\((\w+)(/\w+)?\)", lambda n: self.bare(n[1]) + (n[2] or ""), what)
                return "".join(what.replace("#", str(i)) if head == "numbered" else what for i in range(int(count)))
            if head == "base64" and colon:
                return base64.b64encode(unescape(self.fill_names(rest))).decode()
            return m[0]

        return re.sub(r"\{([^{}]+)\}", one, text)

    def fill_names(self, text):
        return re.sub(r"\[(\w+)\]", lambda m: self.accounts.get(m[1], m[0]), text)

    def label(self, who, resource):
        return who + (resource or "")

    def client(self, who, resource=None):
        label = self.label(who, resource)
        if label not in self.clients:
            raise SystemExit(f"{self.dialogue.name}: {label} is not connected")
        return self.clients[label]

    # Connecting

    def connect(self, who, resource=None, where=None, tls=None, name=None):
        address = self.server.address(where, tls is not None)
        label = self.label(who, resource)
        if label in self.clients:
            self.clients[label].close()
        self.clients[label] = client = Client(label, address, self.transcript)
        client.resource = (resource or "").lstrip("/")
        client.who = who
        client.note = None
        if tls:
            context = client_context()
            context.set_alpn_protocols(["xmpp-client"])
            client.handshake(name or self.server.domain, context)
        client.began = time.monotonic()
        return client

    def opens(self, who, resource=None, attrs=None):
        self.client(who, resource).send(self.header(attrs or ""))

    def header(self, extra=""):
        attrs = {
            "to": self.server.domain,
            "version": "1.0",
            "xmlns": NS["client"],
            "xmlns:stream": NS["stream"],
        }
        for name, value in re.findall(r"([\w:.-]+)='([^']*)'", self.fill(extra)):
            if value == "-":
                attrs.pop(name, None)
            else:
                attrs[name] = value
        return "<?xml version='1.0'?><stream:stream" + "".join(f" {k}='{v}'" for k, v in attrs.items()) + ">"

    def expects_stream(self, who, resource=None, attrs=None):
        client = self.client(who, resource)
        event = self.event(client, WITHIN)
        if event.kind != "open":
            raise Failed(f"a stream header is expected, {describe(event)} came")
        root = event.element
        if (root.name, root.ns) != ("stream", NS["stream"]):
            raise Failed(f"the header is <{root.name} xmlns='{root.ns}'>")
        if b"<stream:stream" not in client.raw[:4096]:
            raise Failed("the header's prefix is not `stream`")
        for name, value in re.findall(r"([\w:.-]+)='([^']*)'", self.fill(attrs or "")):
            if not pattern.fit_text(value, root.attrs.get(name), self.values):
                raise Failed(f"{name} of the header should be {value}, and is {root.attrs.get(name)}")
        client.header = root
        return root

    def open_both(self, client, attrs=""):
        client.send(self.header(attrs))
        label = client.label.partition("/")
        self.expects_stream(label[0], label[1] + label[2] if label[1] else None)
        return self.expect_element(client, "<stream:features/>")

    def secures(self, who, resource=None):
        client = self.client(who, resource)
        self.open_both(client)
        client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.expect_element(client, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        client.handshake(self.server.domain)

    def handshakes(self, who, resource=None, version=None, nameless=None):
        context = client_context()
        if version:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version.replace(".", "_"))
        client = self.client(who, resource)
        client.handshake(None if nameless else self.server.domain, context)

    def fails_handshake(self, who, resource=None, version=None):
        try:
            self.handshakes(who, resource, version)
        except Failed:
            return
        raise Failed("the TLS handshake succeeded")

    def authenticates(self, who, resource=None, mechanism=None, password=None):
        client = self.client(who, resource)
        self.scram(client, who, mechanism or "SCRAM-SHA-1", password or PASSWORD)
        client.restart()

    def scram(self, client, who, mechanism, password):
        name = mechanism.removesuffix("-PLUS").removeprefix("SCRAM-").replace("-", "").lower()
        binding = None
        if mechanism.endswith("-PLUS"):
            binding = ("tls-server-end-point", self.end_point(client))
        scram = Scram(name, self.accounts[who], password, binding)
        first = base64.b64encode(scram.first()).decode()
        client.send(f"<auth xmlns='{NS['sasl']}' mechanism='{mechanism}'>{first}</auth>")
        challenge = self.expect_element(client, f"<challenge xmlns='{NS['sasl']}'/>")
        answer = base64.b64encode(scram.answer(base64.b64decode(challenge.text()))).decode()
        client.send(f"<response xmlns='{NS['sasl']}'>{answer}</response>")
        success = self.expect_element(client, f"<success xmlns='{NS['sasl']}'/>")
        scram.check(base64.b64decode(success.text()))

    def end_point(self, client):
        """tls-server-end-point (RFC 5929): the certificate's hash; ours are signed with SHA-256."""
        import hashlib

        return hashlib.sha256(client.tls.getpeercert(True)).digest()

    def enters(self, who, resource=None, where=None):
        """Up to the features after authentication."""
        client = self.connect(who, resource, where)
        self.secures(who, resource)
        self.open_both(client)
        self.authenticates(who, resource)
        self.open_both(client)
        return client

    def logs_in(self, who, resource=None, where=None):
        client = self.enters(who, resource, where)
        self.bind(client)
        return client

    def bind(self, client):
        wanted = f"<resource>{client.resource}</resource>" if client.resource else ""
        client.send(f"<iq type='set' id='bind'><bind xmlns='{NS['bind']}'>{wanted}</bind></iq>")
        answer = self.expect_element(client, f"<iq type='result' id='bind'><bind xmlns='{NS['bind']}'><jid/></bind></iq>")
        client.jid = answer.find("bind").find("jid").text()

    def comes_online(self, who, resource=None, where=None, priority=None):
        client = self.logs_in(who, resource, where)
        client.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
        self.skip_until(client, "<iq type='result' id='roster'/>")
        inner = f"<priority>{priority}</priority>" if priority else ""
        client.send(f"<presence>{inner}</presence>")
        self.skip_until(client, f"<presence from='{client.jid}' type='{{none}}'/>")

    def sees(self, who, other, mutual=None):
        """who is subscribed to other; `each other`: both ways. Done by two clients that leave again."""
        pairs = [(who, other)] + ([(other, who)] if mutual else [])
        names = {p: self.clients.get(p + "/setup") for p in (who, other)}
        for p in names:
            self.logs_in(p, "/setup")
            self.clients[p + "/setup"].send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
            self.skip_until(self.clients[p + "/setup"], "<iq type='result' id='roster'/>")
        for watcher, watched in pairs:
            a, b = self.clients[watcher + "/setup"], self.clients[watched + "/setup"]
            a.send(f"<presence to='{self.bare(watched)}' type='subscribe'/>")
            self.skip_until(a, f"<iq type='set'><query xmlns='jabber:iq:roster'><item ask='subscribe' jid='{self.bare(watched)}'/></query></iq>")
            # The request may still be under way: an approval before it would be a pre-approval.
            b.send(f"<presence/>")
            self.skip_until(b, f"<presence type='subscribe' from='{self.bare(watcher)}'/>")
            b.send(f"<presence to='{self.bare(watcher)}' type='subscribed'/>")
            want = "{re:to|both}"
            self.skip_until(a, f"<iq type='set'><query xmlns='jabber:iq:roster'><item subscription='{want}' jid='{self.bare(watched)}'/></query></iq>")
            want = "{re:from|both}"
            self.skip_until(b, f"<iq type='set'><query xmlns='jabber:iq:roster'><item subscription='{want}' jid='{self.bare(watcher)}'/></query></iq>")
        for p in names:
            self.leaves(p, "/setup")

    def reopens(self, who, resource=None):
        self.open_both(self.client(who, resource))

    def fails_to_authenticate(self, who, resource=None, mechanism=None):
        """Claims another channel binding than that of the connection."""
        client = self.client(who, resource)
        self.end_point = lambda _: b"x" * 32
        try:
            self.scram(client, who, mechanism, PASSWORD)
        except Failed:
            client.events.appendleft(self.last)
            return
        raise Failed("the authentication succeeded")

    # Sending

    def sends(self, who, resource=None, text=None):
        self.client(who, resource).send(self.fill(text))

    def sends_bytes(self, who, resource=None, text=None):
        self.client(who, resource).send(unescape(self.fill(text)))

    def sends_split(self, who, resource=None, text=None):
        client = self.client(who, resource)
        data = self.fill(text).encode()
        client.say(">", data + b"   (byte by byte)")
        for i in range(len(data)):
            client.send(data[i : i + 1], note=False)

    def sends_times(self, who, resource=None, count=None, text=None):
        client, text = self.client(who, resource), self.fill(text)
        for i in range(int(count)):
            client.send(text.replace("{i}", str(i)))

    def closes(self, who, resource=None):
        self.client(who, resource).send("</stream:stream>")

    def leaves(self, who, resource=None):
        """Says goodbye and waits until the server has, too."""
        client = self.client(who, resource)
        client.send("</stream:stream>")
        while (event := self.event(client, WITHIN)).kind not in ("end", "eof"):
            pass
        client.close()

    def drops(self, who, resource=None):
        self.client(who, resource).drop()

    def ends_tls(self, who, resource=None):
        self.client(who, resource).end_tls()

    def ends_tcp(self, who, resource=None):
        import socket

        self.client(who, resource).socket.shutdown(socket.SHUT_WR)

    # Expecting

    def event(self, client, within):
        event = client.next(within)
        if event is None:
            raise Failed(f"nothing came within {within:g} s")
        if event.kind == "broken":
            raise Failed(event.text)
        self.last = event
        return event

    def expect_element(self, client, want, within=None):
        patterns = pattern.parse(self.fill(want)) if isinstance(want, str) else [want]
        element = None
        for p in patterns:
            event = self.event(client, within or WITHIN)
            if event.kind != "stanza":
                raise Failed(f"{p.show()} is expected, {describe(event)} came")
            if (reason := pattern.fits(p, event.element, self.values)) is not None:
                raise Failed(f"{reason}\n    came: {event.element.show()}")
            element = event.element
        return element

    def expects(self, who, resource=None, text=None, within=None):
        self.expect_element(self.client(who, resource), text, float(within or WITHIN))

    def expects_times(self, who, resource=None, count=None, text=None):
        for i in range(int(count)):
            self.expect_element(self.client(who, resource), text.replace("{i}", str(i)))

    def expect_all(self, client, text, others):
        """All of them come, in any order; others: and other stanzas between."""
        left = pattern.parse(self.fill(text))
        while left:
            event = self.event(client, WITHIN)
            if event.kind != "stanza":
                raise Failed(f"{describe(event)} came; still expected: {' '.join(p.show() for p in left)}")
            for p in left:
                if pattern.fits(p, event.element, self.values) is None:
                    left.remove(p)
                    break
            else:
                if not others:
                    raise Failed(f"not expected: {event.element.show()}\n    still expected: {' '.join(p.show() for p in left)}")

    def expects_any_order(self, who, resource=None, text=None):
        self.expect_all(self.client(who, resource), text, others=False)

    def skip_until(self, client, want):
        p = pattern.parse(self.fill(want))[0]
        end = time.monotonic() + WITHIN
        while True:
            event = self.event(client, max(0.01, end - time.monotonic()))
            if event.kind == "stanza" and pattern.fits(p, event.element, self.values) is None:
                return event.element
            if event.kind in ("end", "eof"):
                raise Failed(f"{p.show()} is expected, {describe(event)} came")

    def skips_until(self, who, resource=None, text=None):
        self.skip_until(self.client(who, resource), text)

    def word(self, who, resource=None, other=None, other_resource=None):
        """A message from the other, and whatever comes before it."""
        self.counter += 1
        to = self.client(who, resource)
        self.client(other, other_resource).send(f"<message to='{to.jid}' id='word-{self.counter}' type='chat'><body>a</body></message>")
        self.skip_until(to, f"<message id='word-{self.counter}'/>")

    def skips_times(self, who, resource=None, count=None, text=None):
        for i in range(int(count)):
            self.skip_until(self.client(who, resource), text.replace("{i}", str(i)))

    def skips_until_all(self, who, resource=None, text=None):
        self.expect_all(self.client(who, resource), text, others=True)

    def expects_nothing(self, who, resource=None, other=None, other_resource=None):
        """A message to itself, or from another client, must be the next that comes, and then silence."""
        client = self.client(who, resource)
        if client.jid is not None:
            self.counter += 1
            sender = self.client(other, other_resource) if other else client
            mark = f"mark-{self.counter}"
            sender.send(f"<message to='{client.jid}' id='{mark}' type='chat'><body>{mark}</body></message>")
            event = self.event(client, WITHIN)
            if event.kind != "stanza" or event.element.attrs.get("id") != mark:
                raise Failed(f"nothing is expected, {describe(event)} came")
        event = client.next(QUIET)
        if event is not None:
            raise Failed(f"nothing is expected, {describe(event)} came")

    def settles(self, who, resource=None):
        """What is under way to it has come and is forgotten."""
        client = self.client(who, resource)
        self.counter += 1
        client.send(f"<message to='{client.jid}' id='settle-{self.counter}' type='chat'><body>a</body></message>")
        self.skip_until(client, f"<message id='settle-{self.counter}'/>")

    def expects_silence(self, who, resource=None, seconds=None):
        event = self.client(who, resource).next(float(seconds))
        if event is not None:
            raise Failed(f"nothing is expected, {describe(event)} came")

    def expects_end(self, who, resource=None):
        event = self.event(self.client(who, resource), WITHIN)
        if event.kind != "end":
            raise Failed(f"</stream:stream> is expected, {describe(event)} came")

    def expects_close(self, who, resource=None, within=None):
        """The server closes the TCP connection; what it says before does not matter."""
        client = self.client(who, resource)
        end = time.monotonic() + float(within or WITHIN)
        while True:
            event = client.next(max(0.01, end - time.monotonic()))
            if event is None:
                raise Failed("the server has not closed the connection")
            if event.kind == "eof":
                return
            if event.kind == "stanza":
                raise Failed(f"the end of the connection is expected, {describe(event)} came")

    def expects_close_notify(self, who, resource=None):
        self.expects_close(who, resource)
        if not self.client(who, resource).close_notify:
            raise Failed("TLS was cut without close_notify")

    def expects_error(self, who, resource=None, condition=None, within=None):
        """<stream:error/> with the condition, </stream:stream>, the end of the connection, and nothing else."""
        client = self.client(who, resource)
        names = condition.split(" or ")
        event = self.event(client, float(within or WITHIN))
        while event.kind == "open" or (event.kind == "stanza" and event.element.name == "features"):
            event = self.event(client, WITHIN)
        if event.kind != "stanza" or (event.element.name, event.element.ns) != ("error", NS["stream"]):
            raise Failed(f"stream error {condition} is expected, {describe(event)} came")
        found = [e.name for e in event.element.elements() if e.ns == NS["streams"] and e.name != "text"]
        if len(found) != 1 or found[0] not in names:
            raise Failed(f"stream error {condition} is expected, {' '.join(found)} came")
        self.expects_end(who, resource)
        self.expects_close(who, resource)

    def expects_broken_stream(self, who, resource=None):
        """The server takes what came for a header: some stream error, or the end."""
        client = self.client(who, resource)
        while (event := self.event(client, WITHIN)).kind not in ("end", "eof"):
            if event.kind == "stanza" and event.element.name != "error":
                raise Failed(f"{describe(event)} came")

    def expects_bare_close(self, who, resource=None):
        """Bytes that are no XMPP (a TLS alert), perhaps, and the end of the connection."""
        client = self.client(who, resource)
        before = len(client.raw)
        while not client.closed:
            if not client.pump(WITHIN):
                raise Failed("the server has not closed the connection")
        if b"stream" in client.raw[before:]:
            raise Failed("the server went on with XML after the failed handshake")

    def expects_refusal(self, who, resource=None):
        """No stream: the connection is closed, or ends with an error."""
        client = self.client(who, resource)
        while (event := self.event(client, WITHIN)).kind != "eof":
            if event.kind == "stanza" and event.element.name != "error":
                raise Failed(f"{describe(event)} came")

    def is_refused_among(self, who, resource=None, count=None):
        refused = 0
        for _ in range(int(count)):
            try:
                client = self.connect(who, resource)
                client.send(self.header())
                while (event := self.event(client, WITHIN)).kind not in ("eof", "stanza"):
                    pass
                refused += event.kind == "eof" or event.element.name == "error"
            except (OSError, Failed):
                refused += 1
        if not 0 < refused < int(count):
            raise Failed(f"{refused} of {count} connections were refused")

    def expects_no_sm(self, who, resource=None):
        event = self.event(self.client(who, resource), WITHIN)
        if event.kind != "stanza" or event.element.name not in ("failed", "error"):
            raise Failed(f"{describe(event)} came")

    def expects_tls_or_close(self, who, resource=None):
        """A server that is strict about bytes in clear may end the connection."""
        client = self.client(who, resource)
        try:
            client.handshake(self.server.domain)
        except (Failed, OSError):
            client.closed = True

    def expects_silence_or_close(self, who, resource=None):
        client = self.client(who, resource)
        event = client.next(1)
        if event is not None and event.kind != "eof":
            raise Failed(f"{describe(event)} came")

    def never_receives(self, who, resource=None, text=None):
        client = self.client(who, resource)
        client.next(2 * QUIET)
        if self.fill(text).encode() in client.raw:
            raise Failed("it came")

    def received(self, who, resource=None, negative=None, regex=None):
        client = self.client(who, resource)
        text = client.raw.decode()
        found = re.search(self.fill(regex), text) if negative else re.match(self.fill(regex), text, re.S)
        if bool(found) == bool(negative):
            raise Failed(f"received: {text}")

    def received_at_most(self, who, resource=None, count=None):
        n = len(self.client(who, resource).raw)
        if n > int(count):
            raise Failed(f"{n} bytes came")

    def has_certificate(self, who, resource=None, name=None):
        der = self.client(who, resource).tls.getpeercert(True)
        if name.encode() not in der:
            raise Failed("the certificate does not name it")

    def has_modern_tls(self, who, resource=None):
        tls = self.client(who, resource).tls
        name, version, _ = tls.cipher()
        if tls.compression() is not None:
            raise Failed("TLS compresses")
        if version != "TLSv1.3" and not (name.startswith("ECDHE-") and ("GCM" in name or "CHACHA" in name)):
            raise Failed(f"the cipher is {name}")

    def has_alpn(self, who, resource=None, name=None):
        chosen = self.client(who, resource).tls.selected_alpn_protocol()
        if chosen != name:
            raise Failed(f"ALPN is {chosen}")

    def has_no_early_data(self, who, resource=None):
        """As openssl sees the ticket."""
        host, port = self.server.address(None, True)
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_3", "-alpn", "xmpp-client", "-ign_eof"],
            input=self.header() + "</stream:stream>", capture_output=True, text=True, timeout=20,
        )
        sizes = re.findall(r"Max Early Data: (\d+)", done.stdout)
        if not sizes or any(size != "0" for size in sizes):
            raise Failed(f"tickets: {sizes}")

    def took_at_least(self, count, seconds):
        took = time.monotonic() - max(c.began for c in self.clients.values())
        if took < float(seconds):
            raise Failed(f"{count} stanzas took {took:.1f} s")

    # The rest

    def signals(self, verb, name):
        self.server.signal(name, {"stop": "TERM", "pause": "STOP", "resume": "CONT"}[verb])

    def binds(self, who, resource=None):
        self.bind(self.client(who, resource))

    def waits(self, seconds):
        time.sleep(float(seconds))

    def kills_home(self, person):
        self.server.kill(self.server.homes[self.accounts[person]])

    def kills(self, name):
        self.server.kill(name)

    def ctl(self, text):
        self.server.ctl(shlex.split(self.fill(text)))

    def log_has(self, name, regex):
        end = time.monotonic() + WITHIN
        while not re.search(self.fill(regex), self.server.log(name)):
            if time.monotonic() > end:
                raise Failed("the log has no such line")
            time.sleep(0.1)

    def log_lacks(self, name, regex):
        if m := re.search(self.fill(regex), self.server.log(name)):
            raise Failed(f"the log has: {m[0]}")

    def differs(self, one, other):
        a, b = self.values[one], self.values[other]
        if a == b:
            raise Failed(f"{one} and {other} are both {a}")

    def matches(self, name, regex):
        if not re.fullmatch(regex, self.values[name]):
            raise Failed(f"{name} is {self.values[name]}")


def register(server, user):
    """Makes an account as a client can (XEP-0077)."""
    show = Performance(Dialogue("register", ""), server, {})
    show.connect("client")
    try:
        show.secures("client")
        show.reopens("client")
        client = show.client("client")
        client.send(
            "<iq type='set' id='r'><query xmlns='jabber:iq:register'>"
            f"<username>{user}</username><password>{PASSWORD}</password></query></iq>"
        )
        show.expect_element(client, "<iq type='result' id='r'/>")
    finally:
        show.client("client").close()


def describe(event):
    if event.kind == "stanza":
        return event.element.show()
    return {"open": "a stream header", "end": "</stream:stream>", "eof": f"the end of the connection{event.text and ' (' + event.text + ')'}"}.get(
        event.kind, event.kind
    )


WHO = r"(?P<who>[a-z]\w*)(?P<resource>/\S+)? "
ON = r"(?: on (?P<where>[\w-]+))?"
FORMS = [
    (re.compile(form, re.S), method)
    for form, method in (
        (WHO + r"connects" + ON + r"(?P<tls> with TLS)?(?: for (?P<name>\S+))?", Performance.connect),
        (WHO + r"reopens", Performance.reopens),
        (WHO + r"handshakes(?P<nameless> without a name)", Performance.handshakes),
        (WHO + r"fails to authenticate with (?P<mechanism>[A-Z0-9-]+)", Performance.fails_to_authenticate),
        (WHO + r"ends TLS", Performance.ends_tls),
        (WHO + r"expects (?P<count>\d+) times: (?P<text>.*)", Performance.expects_times),
        (WHO + r"expects a broken stream", Performance.expects_broken_stream),
        (WHO + r"expects a bare close", Performance.expects_bare_close),
        (WHO + r"expects a refusal", Performance.expects_refusal),
        (WHO + r"expects a refusal of stream management", Performance.expects_no_sm),
        (WHO + r"is refused among (?P<count>\d+) connections", Performance.is_refused_among),
        (WHO + r"expects TLS or close", Performance.expects_tls_or_close),
        (WHO + r"expects silence or close", Performance.expects_silence_or_close),
        (WHO + r"never receives: (?P<text>.*)", Performance.never_receives),
        (WHO + r"has (?P<negative>not )?received: (?P<regex>.*)", Performance.received),
        (WHO + r"has received at most (?P<count>\d+) bytes", Performance.received_at_most),
        (WHO + r"has a certificate for (?P<name>\S+)", Performance.has_certificate),
        (WHO + r"has modern TLS", Performance.has_modern_tls),
        (WHO + r"has ALPN (?P<name>\S+)", Performance.has_alpn),
        (WHO + r"has no early data", Performance.has_no_early_data),
        (r"note (?P<count>\d+) stanzas took at least (?P<seconds>[\d.]+)", Performance.took_at_least),
        (r"(?P<verb>stop|pause|resume) (?P<name>[\w-]+)", Performance.signals),
        (WHO + r"opens a stream(?: with (?P<attrs>.*))?", Performance.opens),
        (WHO + r"expects a stream(?: with (?P<attrs>.*))?", Performance.expects_stream),
        (WHO + r"starts TLS", Performance.secures),
        (WHO + r"handshakes(?: with (?P<version>TLSv1\.?\d?))?", Performance.handshakes),
        (WHO + r"fails to handshake(?: with (?P<version>TLSv1\.?\d?))?", Performance.fails_handshake),
        (WHO + r"authenticates(?: with (?P<mechanism>[A-Z0-9-]+))?(?: password (?P<password>\S+))?", Performance.authenticates),
        (WHO + r"enters" + ON, Performance.enters),
        (WHO + r"binds", Performance.binds),
        (WHO + r"logs in" + ON, Performance.logs_in),
        (WHO + r"comes online" + ON + r"(?: with priority (?P<priority>-?\d+))?", Performance.comes_online),
        (r"(?P<who>[a-z]\w*) sees (?P<other>[a-z]\w*)(?P<mutual>, and the other way round)?", Performance.sees),
        (WHO + r"sends: (?P<text>.*)", Performance.sends),
        (WHO + r"sends bytes: (?P<text>.*)", Performance.sends_bytes),
        (WHO + r"sends byte by byte: (?P<text>.*)", Performance.sends_split),
        (WHO + r"sends (?P<count>\d+) times: (?P<text>.*)", Performance.sends_times),
        (WHO + r"closes", Performance.closes),
        (WHO + r"leaves", Performance.leaves),
        (WHO + r"drops", Performance.drops),
        (WHO + r"ends TCP", Performance.ends_tcp),
        (WHO + r"expects(?: within (?P<within>[\d.]+))?: (?P<text>.*)", Performance.expects),
        (WHO + r"expects in any order: ?(?P<text>.*)", Performance.expects_any_order),
        (WHO + r"settles", Performance.settles),
        (WHO + r"expects a word of (?P<other>[a-z]\w*)(?P<other_resource>/\S+)?", Performance.word),
        (WHO + r"skips (?P<count>\d+) times until: (?P<text>.*)", Performance.skips_times),
        (WHO + r"skips until: (?P<text>.*)", Performance.skips_until),
        (WHO + r"skips until all: (?P<text>.*)", Performance.skips_until_all),
        (WHO + r"expects nothing(?: after (?P<other>[a-z]\w*)(?P<other_resource>/\S+)?)?", Performance.expects_nothing),
        (WHO + r"expects silence for (?P<seconds>[\d.]+)", Performance.expects_silence),
        (WHO + r"expects stream error (?P<condition>[a-z-]+(?: or [a-z-]+)*)(?: within (?P<within>[\d.]+))?", Performance.expects_error),
        (WHO + r"expects the end of the stream", Performance.expects_end),
        (WHO + r"expects close(?: within (?P<within>[\d.]+))?", Performance.expects_close),
        (WHO + r"expects close with close_notify", Performance.expects_close_notify),
        (r"wait (?P<seconds>[\d.]+)", Performance.waits),
        (r"kill the router of (?P<person>\w+)", Performance.kills_home),
        (r"kill (?P<name>[\w-]+)", Performance.kills),
        (r"ctl (?P<text>.*)", Performance.ctl),
        (r"log (?P<name>[\w-]+) has: (?P<regex>.*)", Performance.log_has),
        (r"log (?P<name>[\w-]+) lacks: (?P<regex>.*)", Performance.log_lacks),
        (r"note (?P<one>\w+) differs from (?P<other>\w+)", Performance.differs),
        (r"note (?P<name>\w+) matches (?P<regex>.*)", Performance.matches),
    )
]
