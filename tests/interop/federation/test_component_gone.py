#!/usr/bin/python3
"""What users see of components that come and go: items lists, and one unavailable presence for each contact (RFC 2779, 3.2.5)."""
import os
import signal
import time
import unittest

from lab import Case, Jackdaw, free_port, until
from test_component import Component


class ComponentGone(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s=2, s2s__components="raw.jackdaw.lab=rawsecret,never.jackdaw.lab=x")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.start_dns()
        cls.jackdaw.add("juliet")

    def client(self, user):
        c = self.jackdaw.client(user)
        self.addCleanup(c.close)
        return c

    def raw(self):
        c = Component(self.jackdaw.component_port, "raw.jackdaw.lab", "rawsecret")
        self.addCleanup(c.close)
        return c

    def items(self, client, id):
        client.send(f"<iq type='get' to='jackdaw.lab' id='{id}'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
        e = client.expect(lambda e: e.get("id") == id)
        return {i.get("jid") for i in e[0]}

    def test_1_items_list_who_is_connected(self):
        j = self.client("juliet")
        c = self.raw().ready()
        until(lambda: self.items(j, "i1") == {"raw.jackdaw.lab"}, "not listed")
        c.close()
        until(lambda: self.items(j, "i2") == set(), "still listed")

    def test_2_death_makes_each_contact_unavailable_once(self):
        """Not once for each connection, nor for each s2s process; not while one connection is left (RFC 2779, 3.2.5)."""
        j = self.client("juliet")
        conns = [self.raw().ready() for _ in range(3)]
        time.sleep(0.7)
        for contact in ("bot", "cat"):
            j.send(f"<presence to='{contact}@raw.jackdaw.lab' type='subscribe'/>")
            for c in conns:
                c.quiet(0.3)
            c = next(c for c in conns if any(e.get("type") == "subscribe" for e in c.elements))
            c.elements.clear()
            c.send(f"<presence from='{contact}@raw.jackdaw.lab' to='juliet@jackdaw.lab' type='subscribed'/>")
            for resource in ("1", "2"):
                c.send(f"<presence from='{contact}@raw.jackdaw.lab/{resource}' to='juliet@jackdaw.lab'/>")
                j.expect(lambda e: e.get("from") == f"{contact}@raw.jackdaw.lab/{resource}")
        j.send("<presence to='room@raw.jackdaw.lab/nick'/>")
        time.sleep(0.3)
        conns[0].close()
        conns[1].close()
        j.quiet(8)
        unavailable = lambda: sorted(e.get("from") for e in j.elements if e.tag.endswith("}presence") and e.get("type") == "unavailable")
        self.assertEqual(unavailable(), [])
        conns[2].close()
        until(lambda: j.quiet(0.2) or len(unavailable()) >= 3, unavailable, 15)
        j.quiet(4)
        self.assertEqual(unavailable(), ["bot@raw.jackdaw.lab", "cat@raw.jackdaw.lab", "room@raw.jackdaw.lab/nick"])

    def test_3_restart_is_not_noticed(self):
        j = self.client("juliet")
        c = self.raw().ready()
        time.sleep(0.7)
        c.close()
        time.sleep(0.5)
        self.raw().ready()
        j.quiet(7)
        self.assertEqual([e for e in j.elements if e.get("type") == "unavailable"], [])

    def test_4_death_with_the_processes_that_held_it(self):
        """kill -9 of all s2s processes, and the component does not come back: the routers notice by themselves."""
        j = self.client("juliet")
        c = self.raw().ready()
        time.sleep(0.7)
        j.send("<presence to='last@raw.jackdaw.lab' type='subscribe'/>")
        c.expect(lambda e: e.get("type") == "subscribe")
        c.send("<presence from='last@raw.jackdaw.lab' to='juliet@jackdaw.lab' type='subscribed'/>")
        c.send("<presence from='last@raw.jackdaw.lab/1' to='juliet@jackdaw.lab'/>")
        j.expect(lambda e: e.get("from") == "last@raw.jackdaw.lab/1")
        for pid in self.jackdaw.pids().values():
            os.kill(pid, signal.SIGKILL)
        c.close()
        gone = lambda e: e.get("from") == "last@raw.jackdaw.lab" and e.get("type") == "unavailable"
        j.expect(gone, "unavailable", 25)
        j.quiet(3)
        self.assertEqual([e for e in j.elements if gone(e)], [])
        until(lambda: self.raw().ready(), "no component can connect again")


if __name__ == "__main__":
    unittest.main()
