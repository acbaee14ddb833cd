#!/usr/bin/python3
"""Real clients chat, each on a different c2s, their homes on different routers: TLS, roster and presence both ways.

Usage: test_chat.py ROUTERS [TEST]..."""
import sys
import unittest

from harness import DOMAIN, PASSWORD, CLIENTS, InteropCase
from people import Aio, Node, Slix, befriend, expect_roster, find_homes
from screen import Profanity

NAMES = [f"{name}.{house}" for name in "juliet romeo nurse paris tybalt peter john lawrence".split() for house in "abc"]
MESSAGES = 5
TEXT = 'Ol\u00e9 \u2014 <but soft> & "what" \U0001f339 \'light\' ]]>'


class Chat(InteropCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            homes = cls.loop.run_until_complete(find_homes(cls.cluster, NAMES))
            cls.by_home = {}
            for jid, home in homes.items():
                cls.by_home.setdefault(home, []).append(jid)
            # So many names over at most four routers: none is left out but by a one-sided hash.
            assert len(cls.by_home) == cls.routers, cls.by_home
        except BaseException:
            cls.cluster.show_logs()
            cls.cluster.remove()
            raise

    def pair(self):
        """Two accounts that no test has used, at home on different routers where there are two."""
        homes = sorted(self.by_home, key=lambda home: -len(self.by_home[home]))
        first, second = homes[0], homes[min(1, len(homes) - 1)]
        return self.by_home[first].pop(), self.by_home[second].pop()

    async def up(self, person):
        self.cleanups.append(person.stop)
        await person.start()
        self.assertEqual(self.cluster.sessions(person.jid)[person.resource], f"c2s-{person.c2s}")
        return person

    async def talk(self, a, b):
        """Messages cross in order and whole; presence changes and leaving are seen."""
        for one, other in ((a, b), (b, a)):
            bodies = [f"{i}: {TEXT}" for i in range(MESSAGES)]
            for body in bodies:
                await one.send(other.full, body)
            await other.expect("message", one.full, bodies[-1])
            # The last has come: those before it must be there, in order.
            self.assertEqual([e[2] for e in other.messages()], bodies[:-1])
            for body in bodies[:-1]:
                await other.expect("message", one.full, body)
            await one.show("away")
            await other.expect("presence", one.full, "away")
        await a.send(b.jid, "to whom it may concern")
        await b.expect("message", a.full, "to whom it may concern")
        await a.stop()
        await b.expect("presence", a.full, "unavailable")
        await b.stop()
        self.assertEqual([e for e in a.events + b.events if e[0] == "message"], [])

    def whole_talk(self, make_a, make_b):
        async def run():
            one, other = self.pair()
            a = await self.up(make_a(self.cluster, one, 1))
            b = await self.up(make_b(self.cluster, other, 2))
            await befriend(a, b)
            await self.talk(a, b)

        self.run_async(run())

    def test_slixmpp_and_aioxmpp(self):
        self.whole_talk(Slix, Aio)

    def test_aioxmpp_and_node(self):
        self.whole_talk(Aio, Node)

    def test_node_and_slixmpp(self):
        self.whole_talk(Node, Slix)

    async def acquainted(self):
        """A pair whose first account is known to the second: made friends by other clients of theirs."""
        one, other = self.pair()
        helper = await self.up(Slix(self.cluster, one, 1, "helper"))
        peer = await self.up(Slix(self.cluster, other, 2))
        await befriend(helper, peer)
        await helper.stop()
        await peer.expect("presence", helper.full, "unavailable")
        return one, peer

    def test_go_sendxmpp(self):
        async def run():
            me, peer = await self.acquainted()
            argv = ("go-sendxmpp", "-u", me, "-p", PASSWORD, "-j", f"{DOMAIN}:{self.cluster.port(1)}")
            listener = await self.program(*argv, "-l")
            seen = await peer.expect_available(me)
            await peer.send(me, TEXT)
            await listener.expect("(?m)" + r"what.*\U0001f339.*$")
            sender = await self.program(*argv, peer.jid)
            sender.write(TEXT)
            sender.process.stdin.close()
            await sender.ended()
            await peer.until(peer.messages, "go-sendxmpp's message")
            [message] = peer.messages()
            self.assertEqual((message[1].split("/")[0], message[2]), (me, TEXT))
            await listener.stop()
            await peer.expect("presence", seen, "unavailable")

        self.run_async(run())

    def test_libstrophe(self):
        async def run():
            me, peer = await self.acquainted()
            at = {"XMPP_HOST": "127.0.0.1", "XMPP_PORT": str(self.cluster.port(1))}
            roster = await self.program(CLIENTS / "strophe/roster", me, PASSWORD, **at)
            await roster.expect(f"{peer.jid} sub=both\nEND OF LIST")
            await roster.ended()
            bot = await self.program(CLIENTS / "strophe/bot", "--jid", me, "--pass", PASSWORD, "--mandatory-tls", **at)
            full = await peer.expect_available(me)
            await bot.expect(f"<presence[^>]*{peer.full}")
            self.assertEqual(set(self.cluster.sessions(me).values()), {"c2s-1"})
            version = await peer.x["xep_0092"].get_version(full)
            self.assertEqual(version["software_version"]["name"], "libstrophe example bot")
            for i in range(MESSAGES):
                await peer.send(full, f"{i}: {TEXT}")
                await peer.expect("message", full, f"{i}: {TEXT} to you too!")
            await peer.send(full, "quit")
            await peer.expect("message", full, "bye!")
            await bot.ended()
            await peer.expect("presence", full, "unavailable")

        self.run_async(run())

    def test_profanity(self):
        async def run():
            one, other = self.pair()
            peer = await self.up(Slix(self.cluster, other, 2))
            me = Profanity(self.cluster, one, 1)
            self.cleanups.append(me.stop)
            await me.start()
            await me.type(f"/sub request {peer.jid}")
            await peer.expect("subscribe", one)
            await peer.approve(one)
            await peer.subscribe(one)
            await me.expect(f"Received subscription request from {peer.jid}|subscription request")
            await me.type(f"/sub allow {peer.jid}")
            full = await peer.expect_available(one)
            await expect_roster(peer, one, "both")
            await me.type("/roster")
            await me.expect(rf"{peer.jid}.*\n?.*Subscription : both|{peer.jid}.*both")
            await me.type(f"/msg {peer.jid} {TEXT}")
            await peer.expect("message", full, TEXT)
            await peer.send(full, "It is the east")
            await me.expect("It is the east")
            await peer.show("away")
            await me.expect(f"{peer.jid}.*is away|away")
            await me.type('/status set away "gone to the friar"')
            await peer.expect("presence", full, "away")
            await me.type("/quit")
            await peer.expect("presence", full, "unavailable")

        self.run_async(run())


if __name__ == "__main__":
    Chat.routers = int(sys.argv.pop(1))
    unittest.main(verbosity=2)
