"""Two strict clients behind one face for long conversations: slixmpp, whose every incoming stanza is held against
RFC 6120 §8 here, and aioxmpp, which refuses what is not as the RFCs say. What comes in goes to `world`: message,
presence, fault."""
import asyncio
import collections
import datetime
import logging
import os
import socket

import aioxmpp
import aioxmpp.connector
import aioxmpp.disco
import aioxmpp.ping
import slixmpp
from slixmpp.exceptions import IqError, IqTimeout

from harness import PASSWORD

CLIENT = "{jabber:client}"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"
CONDITIONS = """bad-request conflict feature-not-implemented forbidden gone internal-server-error item-not-found
jid-malformed not-acceptable not-allowed not-authorized policy-violation recipient-unavailable redirect
registration-required remote-server-not-found remote-server-timeout resource-constraint service-unavailable
subscription-required undefined-condition unexpected-request""".split()
TYPES = {
    "message": ("normal", "chat", "groupchat", "headline", "error", None),
    "presence": ("unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "error", None),
    "iq": ("get", "set", "result", "error"),
}
DEAF_S = 2  # an old connection that is kept open is not read for up to so long
REPLY_S = 30  # for the answer to an iq; the address sanitizer and a busy machine make it slow


def check_stanza(xml, full):
    """What is wrong with a stanza that a client with this address has received; None when nothing is."""
    kind = xml.tag.removeprefix(CLIENT)
    if kind not in TYPES or not xml.tag.startswith(CLIENT):
        return f"not a stanza: {xml.tag}"
    type_, to, from_ = xml.get("type"), xml.get("to"), xml.get("from")
    if type_ not in TYPES[kind] or (kind == "presence" and type_ == "probe"):
        return f"type {type_}"
    bare = full.partition("/")[0]  # a chat message to a resource that has gone keeps its address (RFC 6121 §8.5.3.2.1)
    if to is not None and to not in (full, bare) and not (type_ == "chat" and to.startswith(f"{bare}/")):
        return f"to {to}, not {full}"
    if from_ is None and kind != "iq":
        return "without from"
    children = list(xml)
    errors = [c for c in children if c.tag == CLIENT + "error"]
    if (type_ == "error") != (len(errors) == 1):
        return f"type {type_} with {len(errors)} errors"
    if errors:
        defined = [c for c in errors[0] if c.tag.startswith("{%s}" % STANZA_ERRORS) and not c.tag.endswith("}text")]
        if len(defined) != 1 or defined[0].tag.partition("}")[2] not in CONDITIONS:
            return "an error without one defined condition"
        if errors[0].get("type") not in ("auth", "cancel", "continue", "modify", "wait"):
            return "an error without a defined type"
    if kind == "iq":
        if not xml.get("id"):
            return "iq without id"
        if type_ in ("get", "set") and len(children) != 1 or type_ == "result" and len(children) > 1:
            return f"iq {type_} with {len(children)} payloads"
    if kind == "presence" and type_ != "error":
        for tag, allowed in (("show", ("away", "chat", "dnd", "xa")), ("priority", None)):
            found = [c for c in children if c.tag == CLIENT + tag]
            if len(found) > 1 or found and (type_ is not None or (allowed and found[0].text not in allowed)):
                return f"presence with a wrong {tag}"
    return None


class LogFaults(logging.Handler):
    """What the libraries find worth a warning is a fault, but for what follows from our own cutting."""

    EXPECTED = (
        "stream failed",  # aioxmpp's words when a transport ends
        "main failed",
        "something is odd: failure future is already done",
        "out of connection attempts",
        "failed to send stanza (ConnectionError('xmlstream not connected'))",
        "failed to send stanza (ConnectionResetError('cut'))",
        "Fatal read error on STARTTLS transport",  # its words for an end of TLS as it should be
        "failed to negotiate stream features",
        "discarding SM state",
        "socket.send() raised exception",
        "Connect call failed",  # where Aio.retire sends it
    )

    def __init__(self, world):
        super().__init__(logging.WARNING)
        self.world = world

    def emit(self, record):
        text = record.getMessage()
        if record.exc_info:
            text += f" ({record.exc_info[1]!r})"
        if not any(e in text for e in self.EXPECTED):
            self.world.fault(f"{record.name} says: {text[:500]}")

    def install(self):
        for name in ("slixmpp", "aioxmpp", "asyncio"):
            logging.getLogger(name).addHandler(self)
            logging.getLogger(name).propagate = False


class Talker:
    """One session of an account. memory keeps the roster and its version between the sessions of one account."""

    def __init__(self, world, jid, resource, c2s, memory):
        self.world = world
        self.jid = jid
        self.resource = resource
        self.full = f"{jid}/{resource}"
        self.c2s = c2s
        self.port = world.cluster.port(c2s)
        self.memory = memory
        self.roster = {}
        self.sm = True
        self.up = False  # between a login (or resumption) and the next loss
        self.ending = False  # its end is wanted
        self.serial = 0

    async def acknowledge(self):
        """Until the server knows what has been received: what it does not know when a session ends it gives to the next."""
        if self.sm:
            self.send_ack()
        await self.request(None, "urn:xmpp:ping", "ping")

    def lost(self, why):
        self.up = False
        if not self.ending:
            self.world.fault(f"{self.full} lost its stream: {why}")

    def keep_open(self, transport):
        """The library closes its descriptor and this copy keeps the connection: the server hears no end of it, and
        nothing else. It has to end it itself once the session is elsewhere."""
        copy = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        copy.setblocking(False)
        self.world.left_open.append(asyncio.ensure_future(self.until_ended(copy)))

    async def until_ended(self, copy):
        await asyncio.sleep(self.world.rng.random() * DEAF_S)
        try:
            async with asyncio.timeout(REPLY_S):
                while await asyncio.get_running_loop().sock_recv(copy, 65536):
                    pass
        except ConnectionError:
            pass
        except TimeoutError:
            self.world.fault(f"{self.full} (c2s-{self.c2s}): an old connection was never ended")
        finally:
            copy.close()


class Slix(Talker):
    library = "slixmpp"

    def __init__(self, world, jid, resource, c2s, memory, sm=True):
        super().__init__(world, jid, resource, c2s, memory)
        self.sm = sm
        x = self.x = slixmpp.ClientXMPP(self.full, PASSWORD)
        x.ca_certs = str(world.cluster.certificate)
        x.roster.auto_authorize = None
        x.roster.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0199", "xep_0202", *(("xep_0198",) if sm else ())):
            x.register_plugin(plugin)
        self.roster = dict(memory.get("slix", {}))
        self.version = memory.get("slix-version")
        x.add_filter("in", self.check)
        x.add_event_handler("session_start", lambda _: self.settle("started"))
        x.add_event_handler("session_resumed", lambda _: self.settle("resumed"))
        x.add_event_handler("failed_all_auth", lambda _: self.settle(AssertionError(f"{self.full}: login refused")))
        x.add_event_handler("disconnected", self.on_disconnected)
        x.add_event_handler("stream_error", self.on_stream_error)
        x.add_event_handler("roster_update", self.on_roster)
        x.add_event_handler("presence", self.on_presence)
        self.outcome = None
        self.gone = None

    def settle(self, what):
        if self.outcome is None or self.outcome.done():
            return
        if isinstance(what, Exception):
            self.outcome.set_exception(what)
        else:
            self.outcome.set_result(what)

    def check(self, stanza):
        if self.up and isinstance(stanza, (slixmpp.Message, slixmpp.Presence, slixmpp.Iq)):
            wrong = check_stanza(stanza.xml, self.full)
            if wrong is not None:
                self.world.fault(f"{self.full} got {stanza}: {wrong}")
        if isinstance(stanza, slixmpp.Message):  # its events leave out what has no body
            self.on_message(stanza)
        return stanza

    def on_disconnected(self, why):
        if self.up:
            self.lost(why)
        if self.gone is not None and not self.gone.done():
            self.gone.set_result(True)

    def on_stream_error(self, error):
        if not self.ending:
            self.world.fault(f"{self.full} got a stream error: {error['condition']} {error['text']}")

    def on_roster(self, iq):
        query = iq.xml.find("{jabber:iq:roster}query")
        if query is None:  # nothing has changed since the version that we named
            return
        if iq["type"] == "result":
            self.roster.clear()
        for item in query:
            if item.get("subscription") == "remove":
                self.roster.pop(item.get("jid"), None)
            else:
                groups = frozenset(g.text for g in item)
                self.roster[item.get("jid")] = (
                    item.get("name") or "",
                    groups,
                    item.get("subscription", "none"),
                    item.get("ask") == "subscribe",
                    item.get("approved") in ("true", "1"),
                )
        self.version = query.get("ver", self.version)

    def on_message(self, m):
        condition = m["error"]["condition"] if m["type"] == "error" else None
        self.world.on_message(self, m["from"].full, m["type"], m["id"], m["body"], condition)

    def on_presence(self, p):
        type_ = p.xml.get("type", "available")
        condition = p["error"]["condition"] if type_ == "error" else None
        show = p.xml.findtext(CLIENT + "show")
        status = p.xml.findtext(CLIENT + "status")
        priority = int(p.xml.findtext(CLIENT + "priority") or 0)
        self.world.on_presence(self, p["from"].full, type_, (show, status, priority), condition)

    async def connect(self):
        self.outcome = asyncio.get_running_loop().create_future()
        self.x.connect(("127.0.0.1", self.port))
        result = await asyncio.wait_for(self.outcome, REPLY_S)
        self.up = True
        return result

    async def start(self):
        await self.connect()
        query = self.x.Iq()
        query["type"] = "get"
        query.enable("roster")
        if self.version is not None:
            query["roster"]["ver"] = self.version
        self.on_roster(await query.send(timeout=REPLY_S))
        return self

    async def end(self):
        self.gone = asyncio.get_running_loop().create_future()
        if not self.x.is_connected():
            return
        self.x.disconnect(wait=5.0)
        await asyncio.wait_for(self.gone, REPLY_S)

    async def stop(self):
        self.ending = True
        if self.roster and self.version is not None:
            self.memory["slix"], self.memory["slix-version"] = dict(self.roster), self.version
        if self.sm:
            await self.flush()
        await self.end()
        self.retire()

    def retire(self):
        self.up = False
        if self.x._run_out_filters is not None:
            self.x._run_out_filters.cancel()

    async def flush(self):
        """Until the server has acknowledged everything. (The library forgets the rest when it resumes.)"""
        sm = self.x.plugin["xep_0198"]
        for _ in range(REPLY_S * 20):
            if not sm.unacked_queue and self.x.waiting_queue.empty():
                return
            sm.request_ack()
            await asyncio.sleep(0.05)
        self.world.fault(f"{self.full}: {len(sm.unacked_queue)} stanzas were never acknowledged")

    def send_ack(self):
        self.x.plugin["xep_0198"].send_ack()

    def abort(self, deaf):
        """As the library's abort(), which says an end of TLS before it; not here when the server is to notice nothing."""
        if not deaf or not self.x.transport:
            return self.x.abort()
        self.keep_open(self.x.transport)
        self.x.cancel_connection_attempt()
        self.x.transport.abort()
        self.x.event("killed")

    def cut(self, deaf=False):
        """Vanishes without a word, for good."""
        self.ending = True
        self.up = False
        self.abort(deaf)
        asyncio.get_running_loop().call_later(1, self.retire)

    async def cut_and_resume(self, deaf):
        await self.flush()
        self.ending, self.up = True, False
        self.gone = asyncio.get_running_loop().create_future()
        self.abort(deaf)
        await asyncio.wait_for(self.gone, REPLY_S)
        how = await self.connect()
        self.ending = False
        if how != "resumed":
            self.world.fault(f"{self.full} could not resume: {how}")

    def send_message(self, to, type_, id_, body):
        m = self.x.make_message(mto=to, mbody=body, mtype=type_)
        m["id"] = id_
        if type_ == "error":
            m["error"]["condition"] = "item-not-found"
        m.send()

    def send_presence(self, type_=None, to=None, show=None, status=None, priority=None):
        p = self.x.make_presence(pto=to, ptype=type_, pshow=show, pstatus=status, ppriority=priority)
        p.send()

    async def ask(self, iq):
        """("result", payload's tag) or ("error", condition)."""
        try:
            answer = await iq.send(timeout=REPLY_S)
        except IqError as e:
            return "error", e.condition
        except IqTimeout:
            return "timeout", ""
        return "result", next((c.tag for c in answer.xml), "")

    def request(self, to, namespace, name):
        iq = self.x.Iq()
        iq["type"] = "get"
        if to is not None:
            iq["to"] = to
        iq.append(slixmpp.xmlstream.ET.Element("{%s}%s" % (namespace, name)))
        return self.ask(iq)

    def roster_set(self, jid, name, groups):
        iq = self.x.Iq()
        iq["type"] = "set"
        iq["roster"]["items"] = {jid: {"name": name, "groups": list(groups)}}
        return self.ask(iq)

    def roster_remove(self, jid):
        iq = self.x.Iq()
        iq["type"] = "set"
        iq["roster"]["items"] = {jid: {"subscription": "remove"}}
        return self.ask(iq)

    def contacts(self):
        return dict(self.roster)


class Aio(Talker):
    library = "aioxmpp"

    def __init__(self, world, jid, resource, c2s, memory):
        super().__init__(world, jid, resource, c2s, memory)
        peer = ("127.0.0.1", self.port, aioxmpp.connector.STARTTLSConnector())
        self.client = aioxmpp.Client(
            aioxmpp.JID.fromstr(self.full), aioxmpp.make_security_layer(PASSWORD), override_peer=[peer], max_initial_attempts=1
        )
        self.client.backoff_start = datetime.timedelta(milliseconds=50)
        self.client.stream.soft_timeout = datetime.timedelta(minutes=5)
        self.contact_list = self.client.summon(aioxmpp.RosterClient)
        self.client.summon(aioxmpp.ping.PingService)
        self.client.summon(aioxmpp.disco.DiscoServer)
        if "aio" in memory:
            self.contact_list.import_from_json(memory["aio"])
        stream = self.client.stream
        stream.app_inbound_message_filter.register(self.on_message, 0)
        stream.app_inbound_presence_filter.register(self.on_presence, 0)
        answer_erroneous = stream._process_incoming_erroneous_stanza

        def erroneous(partial, why):  # the library answers such a stanza with an error and only whispers about it
            world.fault(f"{self.full} could not read a stanza: {partial!r}: {why!r}")
            answer_erroneous(partial, why)

        stream._process_incoming_erroneous_stanza = erroneous
        stream._resume_sm = self.resume_in_order
        self.count_from_enabled(stream)
        self.client.on_stream_suspended.connect(self.on_suspended)
        self.client.on_stream_resumed.connect(self.on_resumed)
        self.client.on_failure.connect(self.on_failure)
        self.started = self.resumed = None
        self.end_error = None

    def resume_in_order(self, handled):
        """In place of the library's own, which sends what was not acknowledged again in the reverse order."""
        stream = self.client.stream
        stream.sm_ack(handled)
        for token in reversed(stream._sm_unacked_list):
            stream._active_queue.putleft_nowait(token)
        stream._sm_unacked_list.clear()

    @staticmethod
    def count_from_enabled(stream):
        """The library looks at what came before <enabled/> only after it, and counts it (XEP-0198 §3: not to be)."""
        early = collections.deque()
        receive, process = stream.recv_stanza, stream._process_incoming

        def received(stanza):
            if not stream.sm_enabled:
                early.append(stanza)
            receive(stanza)

        def processed(xmlstream, entry):
            if early and entry[0] is early[0]:
                early.popleft()
                if stream.sm_enabled and isinstance(entry[0], aioxmpp.stanza.StanzaBase):
                    stream._sm_inbound_ctr = (stream._sm_inbound_ctr - 1) & 0xFFFFFFFF
            process(xmlstream, entry)

        stream.recv_stanza, stream._process_incoming = received, processed

    def on_suspended(self, why):
        self.up = False
        if not self.ending:
            self.lost(why)

    def on_resumed(self):
        self.up = True
        if self.resumed is not None and not self.resumed.done():
            self.resumed.set_result("resumed")

    def on_failure(self, why):
        self.end_error = why
        if self.started is not None and not self.started.done():
            self.started.set_exception(why)
        elif not self.ending:
            self.lost(why)

    def on_message(self, m):
        condition = m.error.condition.value[1] if m.type_ == aioxmpp.MessageType.ERROR and m.error is not None else None
        self.world.on_message(self, str(m.from_), m.type_.value, m.id_, m.body.any() if m.body else "", condition)
        return m

    def on_presence(self, p):
        type_ = p.type_.value or "available"
        condition = p.error.condition.value[1] if p.error is not None else None
        status = p.status.any() if p.status else None
        self.world.on_presence(self, str(p.from_), type_, (p.show.value, status, p.priority), condition)
        return p

    async def start(self):
        self.started = asyncio.get_running_loop().create_future()
        self.client.on_stream_established.connect(self.on_established)
        self.client.start()
        await asyncio.wait_for(self.started, REPLY_S)
        return self

    def on_established(self):
        self.up = True
        if not self.started.done():
            self.started.set_result("started")
        elif not self.ending or self.resumed is not None:
            self.world.fault(f"{self.full} could not resume")

    async def stop(self):
        self.ending = True
        self.memory["aio"] = self.contact_list.export_as_json()
        while not self.client.stream._active_queue.empty():
            await asyncio.sleep(0)
        self.client.stop()
        await self.retire()
        self.up = False

    async def retire(self):
        """Waits until the library has stopped, and sees to it that it does: when the connection breaks while it
        stops, it would connect again."""
        self.client.override_peer = [("127.0.0.1", 1, aioxmpp.connector.STARTTLSConnector())]
        self.client.backoff_start, self.client._backoff_time = datetime.timedelta(seconds=5), None
        for _ in range(REPLY_S):
            done, _ = await asyncio.wait([self.client._main_task], timeout=1)
            if done:
                return
            self.client.stop()
        self.world.fault(f"{self.full} could not be stopped")

    def send_ack(self):
        stream = self.client.stream
        stream._xmlstream.send_xso(aioxmpp.nonza.SMAcknowledgement(counter=stream._sm_inbound_ctr))

    def abort(self, deaf):
        """As if the peer had sent a reset; abort() of the transport would pass for a wish to end."""
        stream, why = self.client.stream._xmlstream, ConnectionResetError("cut")
        if stream.transport is not None:
            if deaf:
                self.keep_open(stream.transport)
            stream.transport._force_close(why)
            stream.connection_lost(why)  # now, not in the next turn: what is written between would be forgotten

    def cut(self, deaf=False):
        self.ending = True
        self.up = False
        self.abort(deaf)
        self.client.stop()
        self.retiring = asyncio.ensure_future(self.retire())

    async def cut_and_resume(self, deaf):
        """Cuts right behind what has been written: that goes out again on the new connection. (What the library
        takes out of its queue between the two it forgets.)"""
        while not self.client.stream._active_queue.empty():
            await asyncio.sleep(0)
        self.resumed = asyncio.get_running_loop().create_future()
        self.ending, self.up = True, False
        self.abort(deaf)
        await asyncio.wait_for(self.resumed, REPLY_S)
        self.ending, self.resumed = False, None

    def send_message(self, to, type_, id_, body):
        m = aioxmpp.Message(type_=aioxmpp.MessageType(type_), to=aioxmpp.JID.fromstr(to))
        m.id_ = id_
        m.body[None] = body
        if type_ == "error":
            m.error = aioxmpp.stanza.Error(condition=aioxmpp.ErrorCondition.ITEM_NOT_FOUND)
        self.client.enqueue(m)

    def send_presence(self, type_=None, to=None, show=None, status=None, priority=None):
        p = aioxmpp.Presence(type_=aioxmpp.PresenceType(type_), show=aioxmpp.PresenceShow(show))
        if to is not None:
            p.to = aioxmpp.JID.fromstr(to)
        if status is not None:
            p.status[None] = status
        if priority is not None:
            p.priority = priority
        self.client.enqueue(p)

    async def ask(self, payload, to=None, type_=aioxmpp.IQType.GET):
        iq = aioxmpp.IQ(type_=type_, to=aioxmpp.JID.fromstr(to) if to is not None else None, payload=payload)
        try:
            answer = await asyncio.wait_for(self.client.send(iq), REPLY_S)
        except aioxmpp.errors.XMPPError as e:
            return "error", e.condition.value[1]
        except asyncio.TimeoutError:
            return "timeout", ""
        return "result", "{%s}%s" % answer.TAG if answer is not None else ""

    def request(self, to, namespace, name):
        payloads = {
            "urn:xmpp:ping": aioxmpp.ping.xso.Ping,
            "http://jabber.org/protocol/disco#info": aioxmpp.disco.xso.InfoQuery,
            "http://jabber.org/protocol/disco#items": aioxmpp.disco.xso.ItemsQuery,
        }
        if namespace not in payloads:
            return self.ask(unknown_payload(namespace, name)(), to)
        return self.ask(payloads[namespace](), to)

    def roster_set(self, jid, name, groups):
        item = aioxmpp.roster.xso.Item(aioxmpp.JID.fromstr(jid), name=name or None)
        for group in groups:
            item.groups.append(aioxmpp.roster.xso.Group(name=group))
        return self.ask(aioxmpp.roster.xso.Query(items=[item]), type_=aioxmpp.IQType.SET)

    def roster_remove(self, jid):
        item = aioxmpp.roster.xso.Item(aioxmpp.JID.fromstr(jid), subscription="remove")
        return self.ask(aioxmpp.roster.xso.Query(items=[item]), type_=aioxmpp.IQType.SET)

    def contacts(self):
        return {
            str(jid): (i.name or "", frozenset(i.groups), i.subscription, i.ask == "subscribe", bool(i.approved))
            for jid, i in self.contact_list.items.items()
        }


_unknown = {}


def unknown_payload(namespace, name):
    """A payload that aioxmpp may send although no class of its own stands for it."""
    key = (namespace, name)
    if key not in _unknown:
        class Unknown(aioxmpp.xso.XSO):
            TAG = key

        aioxmpp.IQ.as_payload_class(Unknown)
        _unknown[key] = Unknown
    return _unknown[key]
