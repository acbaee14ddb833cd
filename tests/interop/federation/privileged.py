#!/usr/bin/python3
"""A privileged component made with slixmpp: when it has been told its permissions it puts a contact into a user's roster,
reads the roster, and writes to somebody in the user's name. Says what it has done.

Usage: privileged.py DOMAIN SECRET SERVER PORT USER CONTACT TO"""
import sys

import slixmpp


class Privileged(slixmpp.ComponentXMPP):
    def __init__(self, domain, secret, server, port, user, contact, to):
        super().__init__(domain, secret, server, port)
        self.user, self.contact, self.to = user, contact, to
        self.register_plugin("xep_0356")
        self.add_event_handler("privileges_advertised", self.on_privileges)

    async def on_privileges(self, _):
        p = self["xep_0356"]
        print("granted", sorted((k, v) for k, v in p.granted_privileges.items() if v), flush=True)
        await p.set_roster(self.user, {self.contact: {"name": "By slixmpp", "subscription": "none", "groups": ["made"]}})
        roster = await p.get_roster(self.user)
        print("roster", sorted((str(jid), item["name"]) for jid, item in roster["roster"]["items"].items()), flush=True)
        p.send_privileged_message(self.make_message(mto=self.to, mfrom=self.user, mbody="from slixmpp", mtype="chat"))


if __name__ == "__main__":
    domain, secret, server, port, *rest = sys.argv[1:]
    c = Privileged(domain, secret, server, int(port), *rest)
    c.connect("127.0.0.1", int(port))
    c.process(forever=True)
