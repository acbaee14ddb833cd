#!/usr/bin/python3
"""What was sent to somebody offline arrives at the next login: in order, once, with its time; also when the whole
cluster was restarted in between. By slixmpp, aioxmpp and @xmpp/client in turns.

Usage: test_offline.py [TEST]..."""
import asyncio
import unittest

from harness import InteropCase
from people import Aio, Node, Slix, befriend, find_homes

NAMES = "juliet romeo mercutio benvolio tybalt rosaline paris nurse".split()
MESSAGES = 20
QUIET_S = 1.0  # a second copy would come right behind the first


class Offline(InteropCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        homes = cls.loop.run_until_complete(find_homes(cls.cluster, NAMES))
        cls.by_home = {}
        for jid, home in homes.items():
            cls.by_home.setdefault(home, []).append(jid)
        if len(cls.by_home) != 2:
            cls.cluster.remove()
            raise AssertionError(f"one router owns all of {homes}")

    def pair(self):
        return tuple(jids.pop() for jids in self.by_home.values())

    async def up(self, person):
        self.cleanups.append(person.stop)
        return await person.start()

    async def arrived(self, person, senders_and_bodies):
        """Exactly these, in this order, and no second copy."""
        await person.until(lambda: len(person.messages()) >= len(senders_and_bodies), f"{len(senders_and_bodies)} messages")
        await asyncio.sleep(QUIET_S)
        self.assertEqual([(e[1], e[2]) for e in person.messages()], senders_and_bodies)

    async def write(self, sender, jid, what):
        bodies = [f"{what} {i}" for i in range(MESSAGES)]
        for body in bodies:
            await sender.send(jid, body)
        return [(sender.full, body) for body in bodies]

    def test_next_login(self):
        """A conversation of two devices' making to somebody away; then nothing at the login after."""

        async def run():
            one, other = self.pair()
            writer = await self.up(Aio(self.cluster, one, 1))
            expected = await self.write(writer, other, "first")
            second = await self.up(Slix(self.cluster, one, 2, "tablet"))
            expected += await self.write(second, other, "then")
            await second.x["xep_0199"].ping(one.partition("@")[2])  # behind it, all of them have been taken
            reader = await self.up(Node(self.cluster, other, 2))
            await self.arrived(reader, expected)
            await reader.stop()
            again = await self.up(Slix(self.cluster, other, 1))
            await self.arrived(again, [])

        self.run_async(run())

    def test_restart_in_between(self):
        one, other = self.pair()
        expected = []

        async def before():
            writer = await self.up(Aio(self.cluster, one, 1))
            reader = await self.up(Slix(self.cluster, other, 2))
            await befriend(writer, reader)
            await reader.stop()
            await writer.expect("presence", reader.full, "unavailable")
            expected.extend(await self.write(writer, other, "before"))
            await writer.stop()

        async def after():
            writer = await self.up(Slix(self.cluster, one, 2))
            expected.extend(await self.write(writer, other, "after"))
            await writer.x["xep_0199"].ping(one.partition("@")[2])
            reader = await self.up(Aio(self.cluster, other, 1))
            await self.arrived(reader, expected)
            # The friendship has been kept too, and works at once.
            await reader.expect("presence", writer.full, "available")
            self.assertEqual((await reader.roster())[one], "both")

        async def at_last():
            reader = await self.up(Slix(self.cluster, other, 2))
            await self.arrived(reader, [])

        self.run_async(before())
        self.cluster.stop()
        self.cluster.start()
        self.run_async(after())
        self.cluster.stop()
        self.cluster.start()
        self.run_async(at_last())

    def test_cut_off(self):
        """A client that vanishes without a word loses nothing: what it has not acknowledged comes again, what it has does not."""

        async def run():
            one, other = self.pair()
            writer = await self.up(Aio(self.cluster, one, 1))
            reader = await self.up(Slix(self.cluster, other, 2))
            await writer.send(other, "while here")
            await reader.expect("message", writer.full, "while here")
            await reader.x["xep_0199"].ping(one.partition("@")[2])
            await asyncio.sleep(QUIET_S)  # its acknowledgement is on the way
            reader.cut()
            expected = await self.write(writer, other, "while cut")
            later = await self.up(Node(self.cluster, other, 1, reader.resource))
            await self.arrived(later, expected)

        self.run_async(run())


if __name__ == "__main__":
    unittest.main(verbosity=2)
