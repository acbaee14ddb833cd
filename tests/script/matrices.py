"""Dialogues made from tables: delivery (RFC 6121 §8.5) and the subscription states (RFC 6121 appendix A).

The tables are the RFC's, written down anew here; they share nothing with the server's."""
import itertools

import dialogue

# J. Delivery. Situations of the recipient: who is connected with which priority (None: without presence).
SITUATIONS = {
    "no-account": None,
    "offline": {},
    "connected-only": {"garden": None},
    "negative": {"garden": -1},
    "one": {"garden": 0},
    "several": {"garden": 0, "street": 5, "cellar": -1},
}

# For each type and situation: to the bare JID, to a full JID that matches, to one that does not. silent, error,
# offline, or who gets it. Where the RFC leaves a choice this is ours: an error rather than silence for normal
# messages, offline storage for normal and chat, all resources of the highest priority.
DELIVERY = {
    "normal": {
        "no-account": ("error", None, "error"),
        "offline": ("offline", None, "error"),
        "connected-only": ("offline", "garden", "error"),
        "negative": ("offline", "garden", "error"),
        "one": ("garden", "garden", "error"),
        "several": ("street", "garden", "error"),
    },
    "chat": {
        "no-account": ("error", None, "error"),
        "offline": ("offline", None, "offline"),
        "connected-only": ("offline", "garden", "offline"),
        "negative": ("offline", "garden", "offline"),
        "one": ("garden", "garden", "garden"),
        "several": ("street", "garden", "street"),
    },
    "groupchat": {
        "no-account": ("error", None, "error"),
        "offline": ("error", None, "error"),
        "connected-only": ("error", "garden", "error"),
        "negative": ("error", "garden", "error"),
        "one": ("error", "garden", "error"),
        "several": ("error", "garden", "error"),
    },
    "headline": {
        "no-account": ("silent", None, "silent"),
        "offline": ("silent", None, "silent"),
        "connected-only": ("silent", "garden", "silent"),
        "negative": ("silent", "garden", "silent"),
        "one": ("garden", "garden", "silent"),
        "several": ("garden street", "garden", "silent"),
    },
    "error": {
        "no-account": ("silent", None, "silent"),
        "offline": ("silent", None, "silent"),
        "connected-only": ("silent", "garden", "silent"),
        "negative": ("silent", "garden", "silent"),
        "one": ("silent", "garden", "silent"),
        "several": ("silent", "garden", "silent"),
    },
}

NO_ONE = "nobody-of-this-name@{host}"


def enter(lines, situation):
    """Romeo's resources arrive, and every one has seen the others."""
    resources = SITUATIONS[situation] or {}
    present = []
    for resource, priority in resources.items():
        if priority is None:
            lines.append(f"romeo/{resource} logs in")
            continue
        lines.append(f"romeo/{resource} comes online with priority {priority}")
        lines += [f"romeo/{other} skips until: <presence from='{{romeo/{resource}}}'/>" for other in present]
        # The newcomer hears of each of the others, in any order.
        lines += [f"romeo/{resource} skips until: <presence from='{{re:.*/({'|'.join(present)})}}'/>" for _ in present]
        present.append(resource)


def delivery_dialogue(kind, situation, target, want, far):
    name = f"J-{kind}-{situation}-{target}" + ("-far" if far else "")
    romeo = NO_ONE if situation == "no-account" else "{romeo}"
    to = romeo if target == "bare" else f"{romeo}/garden".replace("}/garden", "/garden}") if target == "match" else romeo.replace("}", "/nowhere}") if romeo == "{romeo}" else romeo + "/nowhere"
    lines = [f"== {name}", f"= A {kind} message, {situation}, to {target}: {want} (6121 8.5)"]
    if far:
        lines.append("far: romeo")
    enter(lines, situation)
    body = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>" if kind == "error" else "<body>a</body>"
    attr = "" if kind == "normal" else f" type='{kind}'"
    lines.append("juliet/balcony comes online" + (" on c2s-2" if far else ""))
    lines.append(f"juliet/balcony sends: <message to='{to}' id='m'{attr}>{body}</message>")
    getters = want.split() if want not in ("silent", "error", "offline") else []
    for g in getters:
        type_pattern = "type='{not:error}'" if kind == "normal" else f"type='{kind}'"
        lines.append(f"romeo/{g} expects: <message from='{{juliet/balcony}}' to='{to}' id='m' {type_pattern}/>")
    if want == "error":
        condition = "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        lines.append(f"juliet/balcony expects: <message from='{to}' id='m' type='error'><error type='cancel'>{condition}</error></message>")
    lines.append("juliet/balcony expects nothing")
    for resource in SITUATIONS[situation] or {}:
        if resource not in getters:
            lines.append(f"romeo/{resource} expects nothing after juliet/balcony")
    if situation != "no-account" and not getters:
        seen = ["<presence from='{romeo/later}'/>"]
        seen += [f"<presence from='{{romeo/{r}}}'/>" for r, priority in SITUATIONS[situation].items() if priority is not None]
        if want == "offline":
            seen.append(f"<message from='{{juliet/balcony}}' to='{to}' id='m'><body>a</body><delay xmlns='urn:xmpp:delay'/></message>")
        lines.append("romeo/later logs in")
        lines.append("romeo/later sends: <presence><priority>9</priority></presence>")
        lines.append("romeo/later skips until all: " + " ".join(seen))
        lines.append("romeo/later expects nothing")
    return lines


def delivery():
    lines = []
    for kind, rows in DELIVERY.items():
        for situation, wants in rows.items():
            for target, want in zip(("bare", "match", "no-match"), wants):
                if want is None:
                    continue
                for far in (False, True):
                    if far and situation == "no-account":
                        continue
                    lines += delivery_dialogue(kind, situation, target, want, far)
    return lines


# M. Subscriptions. A state is (to, pending out, from, pending in).
STATES = {
    "N": (0, 0, 0, 0),
    "NO": (0, 1, 0, 0),
    "NI": (0, 0, 0, 1),
    "NOI": (0, 1, 0, 1),
    "T": (1, 0, 0, 0),
    "TI": (1, 0, 0, 1),
    "F": (0, 0, 1, 0),
    "FO": (0, 1, 1, 0),
    "B": (1, 0, 1, 0),
}
NAMES = {v: k for k, v in STATES.items()}
MIRROR = {"N": "N", "NO": "NI", "NI": "NO", "NOI": "NOI", "T": "F", "F": "T", "TI": "FO", "FO": "TI", "B": "B"}
TYPES = ("subscribe", "unsubscribe", "subscribed", "unsubscribed")

# Appendix A, rows as in the checklist: route (r) or not (n), then the new state; = is none.
OUT = {
    "subscribe": "rNO r= rNOI r= r= r= rFO r= r=",
    "unsubscribe": "r= rN r= rNI rN rNI r= rF rF",
    "subscribed": "n= n= rF rFO n= rB n= n= n=",
    "unsubscribed": "n= n= rN rNO n= rT rN rNO rT",
}
IN = {
    "subscribe": "rNI rNOI n= n= rTI n= n= n= n=",
    "unsubscribe": "n= n= rN rNO n= rT rN rNO rT",
    "subscribed": "n= rT n= rTI n= n= n= rB n=",
    "unsubscribed": "n= rN n= rNI rN rNI n= rF rF",
}


def cell(table, kind, state):
    """(goes on, new state)"""
    text = table[kind].split()[list(STATES).index(state)]
    return text[0] == "r", state if text[1:] == "=" else text[1:]


# How juliet gets into each state with romeo, and romeo into its mirror: who says what.
STEPS = {
    "N": [],
    "NO": ["j subscribe"],
    "NI": ["r subscribe"],
    "NOI": ["j subscribe", "r subscribe"],
    "T": ["j subscribe", "r subscribed"],
    "TI": ["j subscribe", "r subscribed", "r subscribe"],
    "F": ["r subscribe", "j subscribed"],
    "FO": ["r subscribe", "j subscribed", "j subscribe"],
    "B": ["j subscribe", "r subscribed", "r subscribe", "j subscribed"],
}
OTHER = {"juliet": "romeo", "romeo": "juliet"}
SESSION = {"juliet": "juliet/balcony", "romeo": "romeo/garden"}


def visible(state):
    to, out, from_, _ = STATES[state]
    return {(0, 0): "none", (1, 0): "to", (0, 1): "from", (1, 1): "both"}[(to, from_)], bool(out)


def item(owner, state):
    subscription, ask = visible(state)
    return f"<item jid='{{{OTHER[owner]}}}' subscription='{subscription}' ask='{'subscribe' if ask else '{none}'}'/>"


def push(owner, state):
    return f"<iq type='set'><query xmlns='jabber:iq:roster'>{item(owner, state)}<only/></query></iq>"


class Pair:
    """Juliet and Romeo by appendix A: what each step makes both of them see."""

    def __init__(self, approved=False):
        self.state = {"juliet": "N", "romeo": "N"}
        self.seen = {"juliet": [], "romeo": []}
        self.roster = {"juliet": False, "romeo": False}
        self.approved = {"juliet": False, "romeo": False}

    def change(self, who, new):
        if visible(new) != visible(self.state[who]):
            self.seen[who].append(push(who, new))
            self.roster[who] = True
        self.state[who] = new

    def presence(self, sender, kind):
        """What the sender's available resource makes the other see, once it may or may no more."""
        self.seen[OTHER[sender]].append(
            f"<presence from='{{{SESSION[sender]}}}' type='{'unavailable' if kind else '{none}'}'/>"
        )

    def say(self, who, kind):
        other = OTHER[who]
        goes, new = cell(OUT, kind, self.state[who])
        before = self.state[who]
        if not goes and kind == "subscribed" and not STATES[before][2]:
            # A pre-approval (§3.4) shows in the roster.
            self.approved[who] = self.roster[who] = True
            self.seen[who].append(
                f"<iq type='set'><query xmlns='jabber:iq:roster'><item jid='{{{other}}}' subscription='{visible(before)[0]}' approved='true'/></query></iq>"
            )
        had, has = STATES[before][2], STATES[new][2]
        if had and not has:
            self.presence(who, True)  # while the other still wants it
        self.change(who, new)
        if goes:
            self.hear(other, kind)
        if has and not had:
            self.presence(who, False)

    def hear(self, who, kind):
        other = OTHER[who]
        before = self.state[who]
        goes, new = cell(IN, kind, before)
        if goes:
            self.seen[who].append(f"<presence from='{{{other}}}' to='{{re:.*}}' type='{kind}'/>")
        elif kind == "subscribe" and STATES[before][2]:
            # ³ the automatic `subscribed`, with the presence again
            self.hear(other, "subscribed")
            self.presence(who, False)
        self.change(who, new)
        if kind == "unsubscribe" and goes:
            if STATES[before][2] and not STATES[new][2]:
                self.presence(who, True)
            # ⁴ the automatic `unsubscribed`: the other is not subscribed any more, so it changes nothing there
            self.hear(other, "unsubscribed")


def expect(lines, session, seen, verb="expects in any order"):
    if seen:
        lines.append(f"{session} {verb}: " + " ".join(seen))


def cell_dialogue(direction, kind, state, far, states_only=False, killed=None):
    """states_only: what others may do besides (push again, say unavailable) does not matter, only where it leads.
    killed: whose router dies right after the stanza was sent."""
    special = f"killed-{killed}-" if killed else "state-" if states_only else ""
    name = f"M-{special}{direction}-{kind}-{state}" + ("-far" if far and not killed else "")
    pair = Pair()
    lines = [f"== {name}", f"= Appendix A: {'outbound' if direction == 'out' else 'inbound'} {kind} in state {state}"]
    if far:
        lines.append("far: romeo")
    if killed:
        lines += ["cluster: fragile", "serial: yes", "long: yes"]
    lines += ["juliet/balcony comes online on c2s-1", "romeo/garden comes online on c2s-2"]

    def act(who, what, verb):
        pair.seen = {"juliet": [], "romeo": []}
        pair.say(who, what)
        lines.append(f"{SESSION[who]} sends: <presence to='{{{OTHER[who]}}}' type='{what}'/>")
        expect(lines, SESSION["juliet"], pair.seen["juliet"], verb)
        expect(lines, SESSION["romeo"], pair.seen["romeo"], verb)

    # On the way to the state only what has to come matters; in it, whatever comes.
    for step in STEPS[state]:
        act("juliet" if step[0] == "j" else "romeo", step[2:], "skips until all")
    lines.extend(["juliet/balcony settles", "romeo/garden settles"] if STEPS[state] else [])
    assert pair.state == {"juliet": state, "romeo": MIRROR[state]}, (name, pair.state)
    if states_only:
        pair.say("juliet" if direction == "out" else "romeo", kind)
        lines.append(f"juliet/balcony sends: <presence to='{{romeo}}' type='{kind}'/>")
        if killed:
            lines.append(f"kill the router of {killed}")
        # To the other and back: the answers of the servers, too, have come when this has.
        lines += ["romeo/garden expects a word of juliet/balcony", "juliet/balcony expects a word of romeo/garden"] * 2
    else:
        act("juliet" if direction == "out" else "romeo", kind, "expects in any order")
        lines += ["juliet/balcony expects nothing after romeo/garden", "romeo/garden expects nothing after juliet/balcony"]
    # What is stored: the roster, and whether a request is kept.
    for who in ("juliet", "romeo"):
        lines.append(f"{who}/after logs in")
        lines.append(f"{who}/after sends: <iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
        inside = item(who, pair.state[who]) if pair.roster[who] else ""
        lines.append(f"{who}/after {'skips until' if killed else 'expects'}: <iq type='result' id='g'><query xmlns='jabber:iq:roster'>{inside}<only/></query></iq>")
        # With another priority, so that the marks below reach this session in any case.
        lines.append(f"{who}/after sends: <presence/>")
        seen = [f"<presence from='{{{who}/after}}'/>", f"<presence from='{{{SESSION[who]}}}'/>"]
        if STATES[pair.state[who]][3]:
            seen.append(f"<presence from='{{{OTHER[who]}}}' type='subscribe'/>")
        if STATES[pair.state[who]][0]:
            seen.append(f"<presence from='{{{SESSION[OTHER[who]]}}}'/>")
        if who == "romeo" and STATES[pair.state["romeo"]][0]:
            seen.append("<presence from='{juliet/after}'/>")
        expect(lines, f"{who}/after", seen, "skips until all" if states_only else "expects in any order")
        if not states_only:
            lines.append(f"{who}/after expects nothing")
    return lines


def subscriptions():
    lines = []
    for direction, kind, state, far in itertools.product(("out", "in"), TYPES, STATES, (False, True)):
        lines += cell_dialogue(direction, kind, state, far)
    for kind, state in itertools.product(TYPES, STATES):
        lines += cell_dialogue("out", kind, state, False, states_only=True)
        for killed in ("juliet", "romeo"):
            lines += cell_dialogue("out", kind, state, True, states_only=True, killed=killed)
    return lines


# I89. What a stranger is told, whatever there is behind the address: an iq as (type, payload, what an answer for the
# account says). A full JID says service-unavailable to all of them.
UNAVAILABLE = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><only/></error>"
FORBIDDEN = "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><only/></error>"
QUESTIONS = [
    ("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", UNAVAILABLE),
    ("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", UNAVAILABLE),
    ("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", "<query xmlns='http://jabber.org/protocol/disco#items'><only/></query>"),
    ("get", "<query xmlns='http://jabber.org/protocol/disco#items' node='x'/>", UNAVAILABLE),
    ("get", "<query xmlns='jabber:iq:last'/>", FORBIDDEN),
    ("set", "<query xmlns='jabber:iq:last'/>", UNAVAILABLE),
    ("get", "<vCard xmlns='vcard-temp'/>", UNAVAILABLE),
    ("set", "<vCard xmlns='vcard-temp'><FN>x</FN></vCard>", FORBIDDEN),
    ("get", "<query xmlns='jabber:iq:roster'/>", UNAVAILABLE),
    ("set", "<query xmlns='jabber:iq:roster'><item jid='a@example.org'/></query>", FORBIDDEN),
    ("get", "<query xmlns='jabber:iq:register'/>", UNAVAILABLE),
    ("set", "<query xmlns='jabber:iq:register'><remove/></query>", UNAVAILABLE),
    ("get", "<query xmlns='jabber:iq:version'/>", UNAVAILABLE),
    ("get", "<time xmlns='urn:xmpp:time'/>", UNAVAILABLE),
    ("get", "<ping xmlns='urn:xmpp:ping'/>", UNAVAILABLE),
    ("set", "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>", UNAVAILABLE),
    ("get", "<x xmlns='urn:example:x'/>", UNAVAILABLE),
    ("set", "<x xmlns='urn:example:x'/>", UNAVAILABLE),
]
THERE = {
    "no-account": [],
    "never-online": [],
    "offline": ["romeo/garden comes online", "romeo/garden leaves"],
    "connected": ["romeo/garden logs in"],
    "online": ["romeo/garden comes online"],
    "lost": ["romeo/garden comes online", "romeo/garden sends: <enable xmlns='urn:xmpp:sm:3' resume='true'/>",
             "romeo/garden expects: <enabled xmlns='urn:xmpp:sm:3'/>", "romeo/garden drops"],
}


def stranger_dialogue(situation, near):
    bare = NO_ONE if situation == "no-account" else "{romeo}"
    full = NO_ONE + "/garden" if situation == "no-account" else "{romeo/garden}"
    lines = [f"== I89-stranger-{situation}{'' if near else '-far'}", "= A stranger is told the same of every account and of none (10.2, 13.11; XEP-0030 8)"]
    if situation != "no-account":
        lines.append("near: romeo" if near else "far: romeo")
    lines += THERE[situation]
    lines.append("juliet/balcony comes online" + ("" if near else " on c2s-2"))
    for address in (bare, full):
        lines.append(f"juliet/balcony sends: <presence id='p' type='probe' to='{address}'/>")
    lines.append(f"juliet/balcony sends: <presence type='unsubscribe' to='{bare}'/>")
    for kind, payload, answer in QUESTIONS:
        for address, want in ((bare, answer), (full, UNAVAILABLE)):
            result = "result" if want.startswith("<query") else "error"
            lines.append(f"juliet/balcony sends: <iq id='q' type='{kind}' to='{address}'>{payload}</iq>")
            lines.append(f"juliet/balcony expects: <iq id='q' type='{result}' from='{address}' to='{{juliet/balcony}}'>{want}</iq>")
    lines.append("juliet/balcony sends: <presence type='subscribe' to='" + bare + "'><status>{repeat:17000:x}</status></presence>")
    error = "<error type='modify'><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    push = "<iq type='set'><query xmlns='jabber:iq:roster'/></iq>"  # her own side of it
    lines.append(f"juliet/balcony expects in any order: {push} <presence type='error' from='{bare}'>{error}</presence>")
    lines.append(f"juliet/balcony sends: <message id='g' type='groupchat' to='{bare}'><body>a</body></message>")
    lines.append(f"juliet/balcony expects: <message id='g' type='error' from='{bare}'>{UNAVAILABLE}</message>")
    lines.append(f"juliet/balcony sends: <message type='error' to='{bare}'><body>a</body></message>")
    lines.append("juliet/balcony expects nothing")
    return lines


def strangers():
    lines = []
    for situation, near in itertools.product(THERE, (True, False)):
        lines += stranger_dialogue(situation, near)
    return lines


class Source:
    """The made texts, as if they were files."""

    def __init__(self, name, lines):
        self.name, self.lines = name, lines

    def read_text(self):
        return "\n".join(self.lines)


def dialogues():
    return dialogue.read(Source("matrix-J", delivery())) + dialogue.read(Source("matrix-M", subscriptions())) + dialogue.read(Source("matrix-I", strangers()))


if __name__ == "__main__":  # shows them
    print("\n".join(delivery() + subscriptions() + strangers()))
