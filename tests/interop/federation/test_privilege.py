#!/usr/bin/python3
"""Privileged components (XEP-0356): one that may everything, one that may little, a server beside them."""
import pathlib
import time
import unittest

from lab import CLIENT, Case, Jackdaw, Prosody, free_port
from test_component import COMPONENT, Component

NS, FORWARD, ROSTER, DISCO = "urn:xmpp:privilege:2", "urn:xmpp:forward:0", "jabber:iq:roster", "http://jabber.org/protocol/disco#info"


class Privilege(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab")
        cls.jackdaw = Jackdaw(
            lab, "jackdaw.lab", s2s__components="all.jackdaw.lab=one,little.jackdaw.lab=two,none.jackdaw.lab=three",
            s2s__privileges=f"all.jackdaw.lab=roster:both message:outgoing presence:roster iq:{DISCO}:get,little.jackdaw.lab=roster:get push:false presence:managed_entity")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        for name in ("all", "little", "none"):
            lab.serve(f"{name}.jackdaw.lab", cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.start_dns()
        for user in ("juliet", "nurse", "tybalt"):
            cls.jackdaw.add(user)
        cls.prosody.add("romeo")

    def component(self, name="all", secret="one", settle=True):
        c = Component(self.jackdaw.component_port, f"{name}.jackdaw.lab", secret).ready()
        self.addCleanup(c.close)
        c.domain = f"{name}.jackdaw.lab"
        if name != "none":
            c.permissions = c.expect(lambda e: e.find(f"{{{NS}}}privilege") is not None, "advertisement")
        if settle:
            time.sleep(0.3)
            c.quiet(0.3)
            c.elements.clear()
        return c

    def client(self, user="juliet", **more):
        c = self.jackdaw.client(user, **more)
        self.addCleanup(c.close)
        return c

    def iq(self, c, type, to, payload, id="q"):
        c.send(f"<iq type='{type}' from='{c.domain}' to='{to}' id='{id}'>{payload}</iq>")
        return c.expect(lambda e: e.tag == f"{{{COMPONENT}}}iq" and e.get("id") == id)

    def forbidden(self, e, condition="forbidden"):
        self.assertEqual(e.get("type"), "error")
        self.assertEqual(e.find(f"{{{COMPONENT}}}error")[0].tag.partition("}")[2], condition)

    def test_advertisement(self):
        m = self.component().permissions
        self.assertEqual((m.get("from"), m.get("to")), ("jackdaw.lab", "all.jackdaw.lab"))
        perms = {p.get("access"): p for p in m.iter(f"{{{NS}}}perm")}
        self.assertEqual((perms["roster"].get("type"), perms["roster"].get("push")), ("both", "true"))
        self.assertEqual(perms["message"].get("type"), "outgoing")
        self.assertEqual(perms["presence"].get("type"), "roster")
        self.assertEqual((perms["iq"][0].get("ns"), perms["iq"][0].get("type")), (DISCO, "get"))
        little = self.component("little", "two").permissions
        self.assertEqual({p.get("access"): (p.get("type"), p.get("push")) for p in little.iter(f"{{{NS}}}perm")},
                         {"roster": ("get", "false"), "presence": ("managed_entity", None)})

    def test_component_made_with_slixmpp(self):
        j = self.client()
        p = self.lab.process(["/usr/bin/python3", pathlib.Path(__file__).with_name("privileged.py"), "all.jackdaw.lab", "one", "jackdaw.lab",
                              self.jackdaw.component_port, "tybalt@jackdaw.lab", "mab@all.jackdaw.lab", j.full], "slixmpp")
        self.addCleanup(self.lab.stop_process, p)
        j.got("from slixmpp", "tybalt@jackdaw.lab")
        said = (self.lab.dir / "slixmpp.out").read_text()
        self.assertIn("('message', 'outgoing')", said)
        self.assertIn("roster [('mab@all.jackdaw.lab', 'By slixmpp')]", said)

    # The roster

    def test_roster_get_set_and_push(self):
        c, little = self.component(), self.component("little", "two")
        j = self.client("nurse")
        j.send(f"<iq type='get' id='r'><query xmlns='{ROSTER}'/></iq>")
        j.expect(lambda e: e.get("id") == "r")
        e = self.iq(c, "set", "nurse@jackdaw.lab", f"<query xmlns='{ROSTER}'><item jid='peter@prosody.lab' name='Peter'/></query>")
        self.assertEqual((e.get("type"), e.get("from")), ("result", "nurse@jackdaw.lab"))
        item = j.expect(lambda e: e.find(f"{{{ROSTER}}}query/{{{ROSTER}}}item") is not None)[0][0]
        self.assertEqual(item.get("jid"), "peter@prosody.lab")
        push = c.expect(lambda e: e.get("type") == "set" and e.find(f"{{{ROSTER}}}query") is not None, "push")
        self.assertEqual((push.get("from"), push[0][0].get("name")), ("nurse@jackdaw.lab", "Peter"))
        j.send(f"<iq type='set' id='s'><query xmlns='{ROSTER}'><item jid='samson@prosody.lab'/></query></iq>")
        push = c.expect(lambda e: e.get("type") == "set" and e.find(f"{{{ROSTER}}}query") is not None, "push")
        self.assertEqual(push[0][0].get("jid"), "samson@prosody.lab")
        for component in (c, little):
            e = self.iq(component, "get", "nurse@jackdaw.lab", f"<query xmlns='{ROSTER}'/>", "g")
            self.assertEqual({i.get("jid") for i in e[0]}, {"peter@prosody.lab", "samson@prosody.lab"})
        little.quiet(1)
        self.assertEqual([e for e in little.elements if e.get("type") == "set"], [], "push:false")

    def test_roster_without_permission(self):
        little, none = self.component("little", "two"), self.component("none", "three")
        item = f"<query xmlns='{ROSTER}'><item jid='evil@prosody.lab'/></query>"
        self.forbidden(self.iq(little, "set", "juliet@jackdaw.lab", item))
        self.forbidden(self.iq(none, "set", "juliet@jackdaw.lab", item))
        self.forbidden(self.iq(none, "get", "juliet@jackdaw.lab", f"<query xmlns='{ROSTER}'/>"), "service-unavailable")

    # Messages

    def forwarded(self, sender, to, body, id="f", xmlns=f" xmlns='{CLIENT}'"):
        return (f"<message from='all.jackdaw.lab' to='jackdaw.lab' id='{id}'><privilege xmlns='{NS}'><forwarded xmlns='{FORWARD}'>"
                f"<message{xmlns} from='{sender}' to='{to}' type='chat'><body>{body}</body><x xmlns='urn:example'>kept</x></message></forwarded></privilege></message>")

    def test_message_in_a_users_name(self):
        c, j = self.component(), self.client()
        r = self.prosody.client("romeo")
        self.addCleanup(r.close)
        c.send(self.forwarded("nurse@jackdaw.lab", "juliet@jackdaw.lab", "from nurse"))
        e = j.got("from nurse", "nurse@jackdaw.lab")
        self.assertEqual(e.findtext("{urn:example}x"), "kept")
        c.send(self.forwarded("nurse@jackdaw.lab", "romeo@prosody.lab", "over the border"))
        r.got("over the border", "nurse@jackdaw.lab")
        c.send(self.forwarded("jackdaw.lab", "juliet@jackdaw.lab", "from the server"))
        j.got("from the server", "jackdaw.lab")

    def test_message_that_is_forbidden(self):
        c, little = self.component(), self.component("little", "two")
        for i, sender in enumerate(("nurse@jackdaw.lab/phone", "romeo@prosody.lab", "x@little.jackdaw.lab")):
            c.send(self.forwarded(sender, "juliet@jackdaw.lab", "no", f"f{i}"))
            self.forbidden(c.expect(lambda e: e.get("id") == f"f{i}"))
        c.send(self.forwarded("nurse@jackdaw.lab", "juliet@jackdaw.lab", "no", "ns", ""))
        self.forbidden(c.expect(lambda e: e.get("id") == "ns"), "bad-request")
        little.send(self.forwarded("nurse@jackdaw.lab", "juliet@jackdaw.lab", "no", "l").replace("'all.", "'little."))
        self.forbidden(little.expect(lambda e: e.get("id") == "l"))
        self.assertGreaterEqual(self.jackdaw.stats('jackdaw_s2s_refused_total{reason="privilege"}'), 5)

    # iq

    def request(self, c, user, inner, id, type="get"):
        return self.iq(c, type, user, f"<privileged_iq xmlns='{NS}'>{inner}</privileged_iq>", id)

    def test_iq_in_a_users_name(self):
        c = self.component()
        for i, to in enumerate(("prosody.lab", "jackdaw.lab", "nobody@prosody.lab")):
            e = self.request(c, "juliet@jackdaw.lab", f"<iq xmlns='{CLIENT}' type='get' to='{to}' id='inner{i}'><query xmlns='{DISCO}'/></iq>", f"o{i}")
            self.assertEqual((e.get("type"), e.get("from")), ("result", "juliet@jackdaw.lab"))
            answer = e.find(f"{{{NS}}}privilege/{{{FORWARD}}}forwarded/{{{CLIENT}}}iq")
            self.assertEqual((answer.get("from"), answer.get("to"), answer.get("id")), (to, "juliet@jackdaw.lab", f"inner{i}"))
            self.assertEqual(answer.get("type"), "error" if "nobody" in to else "result")

    def test_iq_that_is_forbidden(self):
        c, little = self.component(), self.component("little", "two")
        disco = f"<query xmlns='{DISCO}'/>"
        wrong = {
            "type": f"<iq xmlns='{CLIENT}' type='set' to='prosody.lab' id='i'>{disco}</iq>",
            "namespace": f"<iq xmlns='{CLIENT}' type='get' to='prosody.lab' id='i'><query xmlns='jabber:iq:version'/></iq>",
            "from": f"<iq xmlns='{CLIENT}' type='get' from='nurse@jackdaw.lab' to='prosody.lab' id='i'>{disco}</iq>",
            "stanza": f"<iq type='get' to='prosody.lab' id='i'>{disco}</iq>",
        }
        for name, inner in wrong.items():
            with self.subTest(name):
                self.forbidden(self.request(c, "juliet@jackdaw.lab", inner, name))
        self.forbidden(self.request(c, "juliet@jackdaw.lab", wrong["type"], "both", "set"))
        self.forbidden(self.request(little, "juliet@jackdaw.lab", f"<iq xmlns='{CLIENT}' type='get' to='prosody.lab' id='i'>{disco}</iq>", "l"))

    # Presence

    def presences(self, c):
        return [(e.get("from"), e.get("type")) for e in c.elements if e.tag == f"{{{COMPONENT}}}presence"]

    def test_presence_of_users(self):
        c = self.component("little", "two")
        j = self.client("tybalt", resource="a")
        e = c.expect(lambda e: e.get("from") == "tybalt@jackdaw.lab/a")
        self.assertEqual((e.get("to"), e.get("type")), ("little.jackdaw.lab", None))
        j.send("<presence><show>away</show></presence>")
        c.quiet(1)
        self.assertEqual(self.presences(c), [], "only the initial one")
        c.close()
        c = self.component("little", "two", settle=False)
        e = c.expect(lambda e: e.get("from") == "tybalt@jackdaw.lab/a")
        self.assertEqual(e.findtext(f"{{{COMPONENT}}}show"), "away", "replayed to one that comes later")
        j.close()
        self.assertEqual(c.expect(lambda e: e.get("from") == "tybalt@jackdaw.lab/a").get("type"), "unavailable")

    def test_presence_of_contacts(self):
        c = self.component()
        users = [self.client("juliet"), self.client("tybalt")]
        r = self.prosody.client("romeo")
        self.addCleanup(r.close)
        for u in users:
            u.send("<presence to='romeo@prosody.lab' type='subscribe'/>")
            r.expect(lambda e: e.get("type") == "subscribe" and e.get("from") == u.jid)
            r.send(f"<presence to='{u.jid}' type='subscribed'/>")
            u.expect(lambda e: e.get("from") == r.full)
        c.quiet(1)
        c.elements.clear()
        r.send("<presence><show>dnd</show></presence>")
        e = c.expect(lambda e: e.get("from") == r.full)
        self.assertEqual((e.get("to"), e.findtext(f"{{{COMPONENT}}}show")), ("all.jackdaw.lab", "dnd"))
        c.quiet(1)
        self.assertEqual(self.presences(c), [], "once, whoever of our users has that contact")
        for u in users:
            u.close()
        time.sleep(0.5)
        c.elements.clear()
        r.send("<presence><show>xa</show></presence>")
        self.assertEqual(c.expect(lambda e: e.get("from") == r.full, "although the users are offline").findtext(f"{{{COMPONENT}}}show"), "xa")
        r.close()
        self.assertEqual(c.expect(lambda e: e.get("from") == r.full).get("type"), "unavailable")


if __name__ == "__main__":
    unittest.main()
