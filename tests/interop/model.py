"""What is true in a conversation, computed apart from the server: rosters and subscriptions (RFC 6121 §2, §3 and
appendix A), who is online how, who sees whom, and where each message has to arrive (§8.5)."""
import contextlib

SUBSCRIPTIONS = {(False, False): "none", (True, False): "to", (False, True): "from", (True, True): "both"}


class Contact:
    """One account's side of a relation."""

    def __init__(self):
        self.to = self.from_ = self.out = self.in_ = self.approved = self.in_roster = False
        self.name, self.groups = "", frozenset()

    def item(self):
        """(name, groups, subscription, ask, approved), as a roster shows it."""
        return self.name, self.groups, SUBSCRIPTIONS[self.to, self.from_], self.out, self.approved


class Account:
    def __init__(self, jid):
        self.jid = jid
        self.contacts = {}
        self.sessions = {}  # resource -> Session
        self.memory = {}  # its clients' rosters with their versions

    def contact(self, jid):
        return self.contacts.setdefault(jid, Contact())

    def roster(self):
        return {jid: c.item() for jid, c in self.contacts.items() if c.in_roster}

    def mail_sessions(self):
        return [s for s in self.sessions.values() if s.presence is not None and s.presence[2] >= 0]

    def most_available(self):
        takers = self.mail_sessions()
        best = max((s.presence[2] for s in takers), default=None)
        return [s for s in takers if s.presence[2] == best]


class Session:
    def __init__(self, account, talker):
        self.account = account
        self.talker = talker
        self.full = talker.full
        self.presence = None  # (show, status, priority) while available
        self.view = {}  # full JID -> presence, as the client was told
        self.directed = {}  # full JID of the receiver -> presence, as it was sent
        self.told = set()  # bare JIDs that may still count as receivers of directed presence
        self.requests = set()  # bare JIDs whose subscription request it has been shown


class Model:
    def __init__(self, jids):
        self.accounts = {jid: Account(jid) for jid in jids}

    def sessions(self):
        return [s for a in self.accounts.values() for s in a.sessions.values()]

    def session(self, full):
        jid, _, resource = full.partition("/")
        account = self.accounts.get(jid)
        return account.sessions.get(resource) if account is not None else None

    # ---- subscriptions (appendix A) ----

    def subscription(self, user, type_, contact):
        """The user's client sends a subscription stanza; both sides change."""
        with self.sight(user, contact):
            getattr(self, type_)(self.accounts[user].contact(contact), self.accounts[contact].contact(user))

    @staticmethod
    def subscribe(mine, theirs):
        if not mine.to:
            mine.out = mine.in_roster = True
        if theirs.from_ or theirs.approved:
            theirs.from_ = theirs.in_roster = True
            mine.to, mine.out = True, False
        else:
            theirs.in_ = True

    @staticmethod
    def subscribed(mine, theirs):
        if mine.from_:
            return
        mine.in_roster = True
        if not mine.in_:
            mine.approved = True  # §3.4
            return
        mine.from_, mine.in_ = True, False
        if theirs.out:
            theirs.to, theirs.out, theirs.in_roster = True, False, True

    @staticmethod
    def unsubscribe(mine, theirs):
        mine.to = mine.out = False
        theirs.from_ = theirs.in_ = False

    @staticmethod
    def unsubscribed(mine, theirs):
        had = mine.from_ or mine.in_
        mine.from_ = mine.in_ = mine.approved = False
        if had:
            theirs.to = theirs.out = False

    def remove(self, user, contact):
        mine, theirs = self.accounts[user].contact(contact), self.accounts[contact].contact(user)
        with self.sight(user, contact):
            self.unsubscribe(mine, theirs)
            self.unsubscribed(mine, theirs)
            mine.in_roster, mine.name, mine.groups = False, "", frozenset()

    @contextlib.contextmanager
    def sight(self, *pair):
        """Around a change: who loses the sight of the other loses that of directed presence too; a request that has
        been answered or taken back may be shown anew later."""
        ways = (pair, pair[::-1])
        before = [self.sees(*way) for way in ways]
        yield
        for (watcher, target), had in zip(ways, before):
            if had and not self.sees(watcher, target):
                self.end_directed(target, watcher)
        for account in self.accounts.values():
            for s in account.sessions.values():
                s.requests = {jid for jid in s.requests if account.contact(jid).in_}

    # ---- presence ----

    def end_directed(self, user, contact):
        """The contact has been told that the user is not there."""
        for s in self.accounts[user].sessions.values():
            s.directed = {full: p for full, p in s.directed.items() if full.partition("/")[0] != contact}

    def sees(self, watcher, target):
        if watcher == target:
            return True
        return self.accounts[target].contact(watcher).from_ and self.accounts[watcher].contact(target).to

    def truth(self, session):
        """What an available session has to see: full JID -> presence."""
        seen = {}
        for other in self.sessions():
            if other.presence is not None and self.sees(session.account.jid, other.account.jid):
                seen[other.full] = other.presence
            elif session.full in other.directed:
                seen[other.full] = other.directed[session.full]
        return seen

    def requests(self, session):
        return {jid for jid, c in session.account.contacts.items() if c.in_}

    @staticmethod
    def may_ask(asker, s, answer, refused):
        """The right answers to a request to a session (§8.5.3.1): its own, when who asks may see its presence."""
        jid = asker.account.jid
        if jid == s.account.jid or s.account.contact(jid).from_:
            return (answer,)
        return (answer, refused) if jid in s.told else (refused,)

    # ---- messages (§8.5) ----

    def route(self, type_, to):
        """("one", sessions), ("each", sessions), ("error", condition), ("stored", account) or ("none", None)."""
        jid, _, resource = to.partition("/")
        account = self.accounts.get(jid)
        if account is None:
            return ("none", None) if type_ in ("headline", "error") else ("error", "service-unavailable")
        if resource in account.sessions:
            return "one", [account.sessions[resource]]
        if type_ == "error" or (type_ == "headline" and resource):
            return "none", None
        if type_ == "groupchat" or (type_ == "normal" and resource):
            return "error", "service-unavailable"
        if type_ == "headline":
            takers = account.mail_sessions()
            return ("each", takers) if takers else ("none", None)
        takers = account.most_available()
        return ("each", takers) if takers else ("stored", account)

    @staticmethod
    def also(best, away):
        """Sessions of lower priority that may get a message as well, because one with a higher one may have no stream at
        that moment: whose stream is there comes first, and what the others should have had waits for them."""
        account, here = best[0].account, [s for s in best[0].account.mail_sessions() if s not in away]
        least = max((s.presence[2] for s in here), default=-1)
        return [s for s in account.mail_sessions() if s not in best and s.presence[2] >= least]
