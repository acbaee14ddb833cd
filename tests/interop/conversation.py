#!/usr/bin/python3
"""A long random conversation of strict clients (slixmpp, aioxmpp) on two c2s and four routers, held against a model.

Rounds: some accounts are stirred (logins, ends, presence, subscriptions, rosters, directed presence, sessions that
vanish or are taken over, whether the server hears the end of the old connection or not), each by one change at a time; meanwhile all others talk (messages of every type, iq), some
while their connections are cut and resumed. Then everything must become as the model says: rosters, who sees whom,
and every message where it belongs, once and in order.

Usage: conversation.py [--seconds N | --minutes N] [--seed N] [--accounts N]"""
import argparse
import asyncio
import collections
import json
import pathlib
import random
import re
import sys
import time
import traceback

from harness import DOMAIN, PASSWORD, Cluster
from model import Model, Session
from talker import Aio, LogFaults, Slix

ROUTERS = 4
SETTLE_S = 30  # for everything to become true after a round
RESUME_TIMEOUT_S = 3  # a vanished session is given up after that
RESOURCES = ("balcony", "orchard", "Mantua \u2603")
SHOWS = (None, "away", "chat", "dnd", "xa")
NAMES = ("", "Romeo", "J\u00fcrgen & <Co>", "\U0001f339 'rose' \"by\"", "x" * 60)
GROUPS = ("Friends", "Montague \u00e9", "a/b::c")
TYPES = ("chat",) * 8 + ("normal",) * 3 + ("headline",) * 2 + ("groupchat", "error")
STORED_MAX = 300  # messages kept for one account; mailbox.messages_max is 1000
FAULTS_MAX = 20
NOTES = 40  # changes told with the first fault
PING, INFO, ITEMS = "urn:xmpp:ping", "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"


class ConversationCluster(Cluster):
    def run(self, *args):
        if "--detach" in args:
            args += ("--set", f"c2s.resume_timeout_s={RESUME_TIMEOUT_S}")
        return super().run(*args)


class Expected:
    """A message under way: where it may arrive, and where it did. Order is kept within a lane: what was stored may come
    behind what went to the full JID of a session that did not take messages then, and what waited for a session that
    never resumed comes behind both."""

    def __init__(self, sender, n, type_, how, whom, lane, also=()):
        self.lane = lane
        self.also = also  # sessions that may get it as well
        self.sender, self.n, self.type, self.how, self.whom = sender, n, type_, how, whom
        self.got = []

    def may_reach(self, talker):
        if self.how == "stored":
            return talker.jid == self.whom.jid
        return self.how in ("one", "each") and talker.full in [s.full for s in (*self.whom, *self.also)]

    def missing(self):
        if self.how == "each":
            return any(s.full not in self.got for s in self.whom)
        if self.how == "stored" and not self.whom.mail_sessions():
            return False
        return not self.got

    def done(self):
        return not self.missing() and all(s.full in self.got for s in self.also)


class World:
    """The clients' side: what they report, and what is expected of it."""

    def __init__(self, cluster, jids, rng):
        self.cluster, self.rng = cluster, rng
        self.model = Model(jids)
        self.faults = []
        self.counts = collections.Counter()
        self.expected = {}  # id -> Expected
        self.errors = {}  # id -> (talker, condition)
        self.arrived = {}  # id -> where and when, of what needs not be expected any more
        self.last = {}  # (receiving talker, sending session) -> number of the last message
        self.serial = 0
        self.left_open = []  # waiting for the server to end connections that their clients have left
        self.notes = collections.deque(maxlen=NOTES)

    def note(self, *what):
        self.notes.append(f"{time.time() % 60:6.3f} " + " ".join(str(w) for w in what))

    def fault(self, text):
        if not self.faults:
            print("before the first fault:", *self.notes, sep="\n    ", file=sys.stderr)
        self.faults.append(text)
        print(f"FAULT {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    # ---- what clients report ----

    def on_message(self, talker, from_, type_, id_, body, condition):
        if id_ in self.errors and type_ == "error":
            wanted, wanted_condition = self.errors.pop(id_)
            if talker is not wanted or condition != wanted_condition:
                self.fault(f"{talker.full} got error {condition} for {id_}, not {wanted.full} {wanted_condition}")
            self.counts["message errors"] += 1
            return
        e = self.expected.get(id_)
        if e is None:
            before = f"; it was at {self.arrived[id_]}" if id_ in self.arrived else ""
            self.fault(f"{talker.full} got {type_} {id_} {condition or ''} from {from_}{before}")
            return
        if from_ != e.sender or type_ != e.type or body != f"body of {id_}" or not e.may_reach(talker):
            whom = e.whom.jid if e.how == "stored" else [s.full for s in e.whom or []]
            self.fault(f"{talker.full} got {type_} {id_} {body!r} from {from_}, sent as {e.type} to {e.how} of {whom}")
        if talker.full in e.got or (e.got and e.how != "each"):
            self.fault(f"{talker.full} got {id_} of {e.sender} again; it was at {e.got}")
        last, last_type = self.last.get((talker, e.sender, e.lane), (0, ""))
        if last > e.n:
            self.fault(f"{talker.full} got {type_} {id_} of {e.sender} after {last_type} m{last}")
        self.last[talker, e.sender, e.lane] = e.n, type_
        e.got.append(talker.full)
        self.counts[f"{type_} received"] += 1
        if e.done():
            del self.expected[id_]
            self.arrived[id_] = f"{talker.full} ({talker.library}, c2s-{talker.c2s}) at {time.time() % 60:.3f}"

    def on_presence(self, talker, from_, type_, presence, condition):
        s, bare = talker.session, from_.partition("/")[0]
        self.counts[f"presence {type_}"] += 1
        if type_ == "available":
            s.view[from_] = presence
        elif type_ == "unavailable":
            s.view = {full: p for full, p in s.view.items() if full != from_ and full.partition("/")[0] != from_}
        elif type_ == "subscribe":
            if from_ != bare or not s.account.contact(bare).in_:
                self.fault(f"{talker.full} got a request of {from_} that nobody has made")
            s.requests.add(bare)
        elif type_ == "error":
            self.fault(f"{talker.full} got presence error {condition} from {from_}")
        elif from_ != bare:
            self.fault(f"{talker.full} got {type_} from {from_}, not its bare JID")

    # ---- what is sent ----

    def send(self, s, to, type_, stored_for=None, away=()):
        self.serial += 1
        s.talker.serial += 1
        id_ = f"m{self.serial}"
        how, whom = ("stored", stored_for) if stored_for is not None else self.model.route(type_, to)
        lane = "vanished" if stored_for is not None else "stored" if how == "stored" else "at once"
        if how == "error":
            self.errors[id_] = (s.talker, whom)
        else:
            also = self.model.also(whom, away) if how == "each" and type_ != "headline" else ()
            self.expected[id_] = Expected(s.full, self.serial, type_, how, whom, lane, also)
            if how == "none":  # it must reach nobody
                self.arrived[id_] = "nobody's place"
                del self.expected[id_]
        self.counts[f"{type_} sent"] += 1
        s.talker.send_message(to, type_, id_, f"body of {id_}")

    async def ask(self, s, to, namespace, name, *wanted):
        """wanted: the answers that are right."""
        got = await s.talker.request(to, namespace, name)
        self.counts["iq"] += 1
        if got not in wanted and (name != "ping" or got[0] not in [w[0] for w in wanted]):  # aioxmpp answers a ping with a ping
            self.fault(f"{s.full} asked {to} for {name} {namespace}: {got}, not {' or '.join(map(str, wanted))}")

    # ---- the check ----

    def problems(self):
        found = [f"message {id_} of {e.sender} to {e.how} ({e.got})" for id_, e in self.expected.items() if e.missing()]
        found += [f"error {c} for {id_} of {t.full}" for id_, (t, c) in self.errors.items()]
        for s in self.model.sessions():
            if (roster := s.talker.contacts()) != (wanted := s.account.roster()):
                differ = {j: (roster.get(j), wanted.get(j)) for j in {*roster, *wanted} if roster.get(j) != wanted.get(j)}
                found.append(f"roster of {s.full} (has, should have): {differ}")
            if s.presence is None:
                continue
            if s.view != (truth := self.model.truth(s)):
                differ = {j: (s.view.get(j), truth.get(j)) for j in {*s.view, *truth} if s.view.get(j) != truth.get(j)}
                found.append(f"presence at {s.full} (sees, should see): {differ}")
            if missing := self.model.requests(s) - s.requests:
                found.append(f"requests at {s.full} of {missing}")
        return found

    async def settle(self):
        deadline = time.monotonic() + SETTLE_S
        while problems := self.problems():
            if time.monotonic() > deadline:
                for p in problems[:FAULTS_MAX]:
                    self.fault(f"after {SETTLE_S} s missing: {p}")
                for jid, account in self.model.accounts.items():
                    here, there = set(account.sessions), set(self.cluster.sessions(jid))
                    if here != there:
                        self.fault(f"sessions of {jid}: {here} by the model, {there} by the server")
                return False
            await asyncio.sleep(0.02)
        return True


class Stirring:
    """The changes. Each is made by one account, with at most one other, and no two at a time touch the same."""

    def __init__(self, world):
        self.world, self.model, self.rng = world, world.model, world.rng

    def make_talker(self, account, resource):
        kind, c2s = self.rng.choice((Slix, Slix, Aio, Aio)), self.rng.choice((1, 2))
        options = {"sm": self.rng.random() < 0.75} if kind is Slix else {}
        return kind(self.world, account.jid, resource, c2s, account.memory, **options)

    async def open(self, account, resource):
        talker = self.make_talker(account, resource)
        s = talker.session = Session(account, talker)
        self.world.note("open", talker.full, talker.library, f"c2s-{talker.c2s}", f"sm={talker.sm}")
        await talker.start()
        account.sessions[resource] = s
        if self.rng.random() < 0.85:
            self.show(s)
        self.world.counts[f"logins with {talker.library}"] += 1
        return s

    def show(self, s):
        """Available, or available in another way."""
        status = self.rng.choice((None, "so \u00e9arly?", "<&>"))
        priority = self.rng.choice((0, 0, 0, 1, 5, 127, -1, -128))
        if s.presence is None:
            s.view, s.requests = {}, set()
        s.presence = (self.rng.choice(SHOWS), status, priority)
        s.talker.send_presence(show=s.presence[0], status=status, priority=priority)

    def hide(self, s):
        s.presence, s.directed, s.told = None, {}, set()
        for other in self.model.sessions():
            other.directed.pop(s.full, None)

    def forget(self, s):
        self.hide(s)
        if s.account.sessions.get(s.talker.resource) is s:
            del s.account.sessions[s.talker.resource]

    # ---- one account ----

    async def login(self, account):
        free = [r for r in RESOURCES if r not in account.sessions]
        if free:
            await self.open(account, self.rng.choice(free))

    async def logout(self, account):
        s = self.rng.choice(list(account.sessions.values()))
        if self.rng.random() < 0.5:
            s.talker.send_presence("unavailable")
        await s.talker.acknowledge()
        self.forget(s)
        self.world.note("close", s.full, s.talker.library)
        await s.talker.stop()
        self.world.counts["logouts"] += 1

    async def presence(self, account):
        s = self.rng.choice(list(account.sessions.values()))
        if s.presence is not None and self.rng.random() < 0.2:
            s.talker.send_presence("unavailable")
            self.hide(s)
        else:
            for _ in range(self.rng.choice((1, 1, 1, 3))):
                self.show(s)

    async def taken_over(self, account):
        """Another client logs in under the same resource: the first is told and gone."""
        old = self.rng.choice(list(account.sessions.values()))
        await old.talker.acknowledge()
        self.world.note("take over", old.full, old.talker.library)
        old.talker.ending = True
        self.forget(old)
        await self.open(account, old.talker.resource)
        for _ in range(200):
            if not old.talker.up:
                break
            await asyncio.sleep(0.05)
        else:
            self.world.fault(f"{old.full} lives on beside its successor")
        old.talker.cut()
        self.world.counts["taken over"] += 1

    async def vanish(self, account):
        """Gone without a word, and back at once or not."""
        s, back = self.rng.choice(list(account.sessions.values())), self.rng.random() < 0.5
        await self.leave_suddenly(s, back and self.rng.random() < 0.5)
        if back:
            await self.open(account, s.talker.resource)

    async def leave_suddenly(self, s, deaf):
        await s.talker.acknowledge()
        self.world.note("leave open" if deaf else "cut", s.full, s.talker.library, s.presence)
        s.talker.cut(deaf)
        self.forget(s)
        self.world.counts["vanished, connection left open" if deaf else "vanished"] += 1

    # ---- two accounts ----

    async def subscription(self, account, other):
        mine = account.contact(other.jid)
        choices = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"]
        if not mine.to and not mine.out:
            choices += ["subscribe"] * 6
        if mine.in_:
            choices += ["subscribed"] * 8
        type_ = self.rng.choice(choices)
        s = self.rng.choice(list(account.sessions.values()))
        self.model.subscription(account.jid, type_, other.jid)
        s.talker.send_presence(type_, to=other.jid)
        self.world.counts["subscription stanzas"] += 1

    async def befriend(self, account, other):
        """Both ways, as people do: a request, an answer to it that asks in turn, the answer to that."""
        if not other.sessions:
            return await self.subscription(account, other)
        for type_, who, whom in (
            ("subscribe", account, other),
            ("subscribed", other, account),
            ("subscribe", other, account),
            ("subscribed", account, other),
        ):
            side = who.contact(whom.jid)
            if (type_ == "subscribe" and side.to) or (type_ == "subscribed" and side.from_):
                continue
            s = self.rng.choice(list(who.sessions.values()))
            self.model.subscription(who.jid, type_, whom.jid)
            s.talker.send_presence(type_, to=whom.jid)
            self.world.counts["subscription stanzas"] += 1
            await self.until_rosters(who, whom)

    async def until_rosters(self, *accounts):
        def right():
            sessions = [s for a in accounts for s in a.sessions.values()]
            rosters = all(s.talker.contacts() == s.account.roster() for s in sessions)
            return rosters and all(self.model.requests(s) <= s.requests for s in sessions if s.presence is not None)

        deadline = time.monotonic() + SETTLE_S
        while not right() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def roster(self, account, other):
        s, mine = self.rng.choice(list(account.sessions.values())), account.contact(other.jid)
        if self.rng.random() < 0.25:
            wanted = ("result", "") if mine.in_roster else ("error", "item-not-found")
            if mine.in_roster:
                self.model.remove(account.jid, other.jid)
            got = await s.talker.roster_remove(other.jid)
        else:
            mine.name = self.rng.choice(NAMES)
            mine.groups = frozenset(self.rng.sample(GROUPS, self.rng.randrange(3)))
            mine.in_roster, wanted = True, ("result", "")
            got = await s.talker.roster_set(other.jid, mine.name, mine.groups)
        self.world.counts["roster sets"] += 1
        if got != wanted:
            self.world.fault(f"{s.full} roster set of {other.jid}: {got}, not {wanted}")

    async def directed(self, account, other):
        """Presence for one who does not see us otherwise."""
        if self.model.sees(other.jid, account.jid):
            return
        s = self.rng.choice(list(account.sessions.values()))
        seers = [t for t in other.sessions.values() if t.presence is not None]
        if not seers:
            return
        t = self.rng.choice(seers)
        self.world.counts["directed presence"] += 1
        if t.full in s.directed:
            del s.directed[t.full]
            s.talker.send_presence("unavailable", to=t.full)
        else:
            s.told.add(other.jid)
            s.directed[t.full] = (self.rng.choice(SHOWS), "for you only", 0)
            s.talker.send_presence(to=t.full, show=s.directed[t.full][0], status="for you only")

    async def write_to_vanished(self, account, other):
        """Messages to a session whose connection is lost arrive at its successor, or wherever the account is next."""
        writer, s = self.rng.choice(list(account.sessions.values())), self.rng.choice(list(other.sessions.values()))
        if not s.talker.sm:
            return
        back = self.rng.random() < 0.7
        await self.leave_suddenly(s, back and self.rng.random() < 0.5)
        for _ in range(self.rng.randrange(1, 12)):
            self.world.send(writer, s.full, "chat", stored_for=other)
        await writer.talker.request(None, PING, "ping")
        if back:
            await self.open(other, s.talker.resource)

    def pick(self, account, other):
        """A change for these two, as a coroutine."""
        if not account.sessions:
            return self.login(account)
        alone = [self.login, self.logout, self.presence, self.presence, self.presence, self.taken_over, self.vanish]
        pair = [self.subscription, self.subscription, self.befriend, self.roster, self.roster, self.directed]
        if other.sessions:
            pair.append(self.write_to_vanished)
        change = self.rng.choice(alone + pair)
        self.world.note(change.__name__, account.jid, other.jid)
        return change(account) if change in alone else change(account, other)


class Talk:
    """What the accounts that are not stirred say meanwhile."""

    def __init__(self, world, accounts):
        self.world, self.rng = world, world.rng
        self.accounts = accounts
        self.sessions = [s for a in accounts for s in a.sessions.values()]
        resumable = [s for s in self.sessions if s.talker.sm]
        self.cut = self.rng.sample(resumable, min(len(resumable), self.rng.choice((0, 0, 1, 2))))

    def target(self):
        dice = self.rng.random()
        if dice < 0.5 and self.sessions:
            return self.rng.choice(self.sessions).full
        jid = self.rng.choice(self.accounts).jid
        if dice < 0.85:
            return jid
        return f"{jid}/nowhere" if dice < 0.95 else f"nobody@{DOMAIN}"

    async def write(self, s, pause=True):
        for _ in range(self.rng.randrange(1, 8)):
            to, type_ = self.target(), self.rng.choice(TYPES)
            how, whom = self.world.model.route(type_, to)
            if how == "stored":
                kept = sum(1 for e in self.world.expected.values() if e.how == "stored" and e.whom is whom)
                if kept >= STORED_MAX:
                    continue
            self.world.send(s, to, type_, away=self.cut)
            if pause and self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.random() * 0.02)

    async def ask(self, s):
        query = "{%s}query"
        others = [o for o in self.sessions if o not in self.cut]  # their libraries lose what they answer meanwhile
        other = self.rng.choice(others)
        refused = ("error", "service-unavailable")
        choices = (
            (None, PING, "ping", ("result", "")),
            (DOMAIN, PING, "ping", ("result", "")),
            (DOMAIN, INFO, "query", ("result", query % INFO)),
            (DOMAIN, ITEMS, "query", ("result", query % ITEMS)),
            (s.account.jid, INFO, "query", ("result", query % INFO)),
            (DOMAIN, "urn:example:unknown", "question", ("error", "service-unavailable")),
            (None, "urn:example:unknown", "question", ("error", "service-unavailable")),
            (other.full, PING, "ping", *self.world.model.may_ask(s, other, ("result", ""), refused)),
            (other.full, INFO, "query", *self.world.model.may_ask(s, other, ("result", query % INFO), refused)),
            (f"{s.account.jid}/nowhere", PING, "ping", ("error", "service-unavailable")),
            (f"nobody@{DOMAIN}", PING, "ping", ("error", "service-unavailable")),
        )
        await self.world.ask(s, *self.rng.choice(choices))

    async def resume(self, s):
        await asyncio.sleep(self.rng.random() * 0.05)
        await self.write(s, pause=False)
        deaf = self.rng.random() < 0.5
        self.world.note("leave open" if deaf else "cut", "to resume", s.full, s.talker.library)
        await s.talker.cut_and_resume(deaf)
        self.world.counts[f"resumed with {s.talker.library}" + ", connection left open" * deaf] += 1

    def all(self):
        todo = [self.resume(s) for s in self.cut]
        for s in self.sessions:
            if s in self.cut:
                continue
            if self.rng.random() < 0.7:
                todo.append(self.write(s))
            if self.rng.random() < 0.4:
                todo.append(self.ask(s))
        return todo


async def one_round(world, stirring):
    jids = list(world.model.accounts)
    world.rng.shuffle(jids)
    pairs = [jids[i : i + 2] for i in range(0, 2 * world.rng.randrange(1, len(jids) // 3 + 1), 2)]
    stirred = {jid for pair in pairs for jid in pair}
    talk = Talk(world, [a for jid, a in world.model.accounts.items() if jid not in stirred])
    todo = [stirring.pick(*(world.model.accounts[jid] for jid in pair)) for pair in pairs] + talk.all()
    for coroutine, done in zip(todo, await asyncio.gather(*todo, return_exceptions=True)):
        if isinstance(done, BaseException):
            world.fault(f"{coroutine.__qualname__} failed: {''.join(traceback.format_exception(done))}")
    return await world.settle()


async def finish(world, stirring):
    """Everybody comes once more, with a client that remembers no roster, and gets what is left for him."""
    for account in world.model.accounts.values():
        account.memory.clear()
        free = [r for r in RESOURCES if r not in account.sessions]
        if not free:
            await stirring.logout(account)
            free = [r for r in RESOURCES if r not in account.sessions]
        s = await stirring.open(account, free[0])
        s.presence = (None, None, 0)
        s.view, s.requests = {}, set()
        s.talker.send_presence(priority=0)
    good = await world.settle()
    await asyncio.gather(*world.left_open)
    await asyncio.sleep(1)  # a second copy would come right behind the first
    if never := [id_ for id_, e in world.expected.items() if e.how == "stored" or e.missing()]:
        world.fault(f"{len(never)} messages never came: {never[:10]}")
    for account in world.model.accounts.values():
        while account.sessions:
            await stirring.logout(account)
    return good


async def converse(world, seconds):
    stirring = Stirring(world)
    end, said = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end and len(world.faults) < FAULTS_MAX:
        if not await one_round(world, stirring):
            return
        world.counts["rounds"] += 1
        if time.monotonic() > said + 30:
            said = time.monotonic()
            print(f"{time.strftime('%H:%M:%S')} {world.counts['rounds']} rounds", file=sys.stderr, flush=True)
    if len(world.faults) < FAULTS_MAX:
        await finish(world, stirring)


def server_faults(cluster):
    """What the processes' logs say that should not be there, and processes that were started anew."""
    found = []
    for log in sorted(cluster.dir.glob("log/*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if re.search(r" (ERROR|WARN) |Sanitizer|runtime error|CHECK|restart", line):
                found.append(f"{log.name}: {line[:400]}")
    return found


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--minutes", type=float)
    arguments.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFF)
    arguments.add_argument("--accounts", type=int, default=9)
    options = arguments.parse_args()
    seconds = options.minutes * 60 if options.minutes is not None else options.seconds
    print(f"seed {options.seed}", flush=True)
    cluster = ConversationCluster(ROUTERS)
    try:
        jids = [f"person{i}@{DOMAIN}" for i in range(options.accounts)]
        accounts = pathlib.Path(cluster.tmp / "accounts")
        accounts.write_text("".join(f"{jid} {PASSWORD}\n" for jid in jids))
        cluster.ctl("adduser", "--file", str(accounts))
        loop = asyncio.get_event_loop_policy().get_event_loop()  # the one that slixmpp has taken
        world = World(cluster, jids, random.Random(options.seed))
        LogFaults(world).install()
        loop.run_until_complete(converse(world, seconds))
        faults = world.faults + [f"server: {line}" for line in server_faults(cluster)]
        print(json.dumps(dict(sorted(world.counts.items())), indent=2))
        if faults:
            print(f"{len(faults)} faults with seed {options.seed}:", *faults[:FAULTS_MAX], sep="\n  ")
        return 1 if faults else 0
    finally:
        cluster.remove()


if __name__ == "__main__":
    sys.exit(main())
