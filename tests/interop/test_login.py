#!/usr/bin/python3
"""How real clients log in: the TLS version and the mechanism that each settles for, wrong passwords, direct TLS.

Usage: test_login.py [TEST]..."""
import unittest

import aiosasl

from harness import CLIENTS, DOMAIN, PASSWORD, InteropCase
from people import Aio, Node, Slix
from screen import Profanity

NAMES = ("juliet", "romeo", "mercutio", "benvolio", "tybalt", "rosaline")


class Base(InteropCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in NAMES:
            cls.cluster.ctl("adduser", f"{name}@{DOMAIN}", "--password", PASSWORD)

    async def comes_and_goes(self, person):
        self.cleanups.append(person.stop)
        await person.start()
        await person.stop()
        return self.cluster.logins(person.jid)[-1]


class Login(Base):
    def test_slixmpp(self):
        """Before 1.8.5 it binds to tls-unique, which TLS 1.3 has not, then claims that we offer no binding: PLAIN is left."""

        async def run():
            [plain] = {await self.comes_and_goes(Slix(self.cluster, f"juliet@{DOMAIN}", c2s)) for c2s in (1, 2)}
            self.assertEqual(plain[0], "TLSv1.3")
            direct = await self.comes_and_goes(Slix(self.cluster, f"juliet@{DOMAIN}", 1, direct_tls=True))
            self.assertEqual(direct, plain)

        self.run_async(run())

    def test_aioxmpp(self):
        async def run():
            tls, mechanism = await self.comes_and_goes(Aio(self.cluster, f"romeo@{DOMAIN}", 1))
            self.assertRegex(f"{tls} {mechanism}", "^TLSv1.[23] SCRAM-SHA-")

        self.run_async(run())

    def test_node(self):
        async def run():
            self.assertEqual(await self.comes_and_goes(Node(self.cluster, f"mercutio@{DOMAIN}", 1)), ("TLSv1.3", "SCRAM-SHA-1"))

        self.run_async(run())

    def test_profanity(self):
        """Which is libstrophe too."""

        async def run():
            login = await self.comes_and_goes(Profanity(self.cluster, f"benvolio@{DOMAIN}", 2))
            self.assertEqual(login, ("TLSv1.3", "SCRAM-SHA-512"))

        self.run_async(run())

    def test_wrong_password(self):
        async def run():
            for make, error in ((Slix, PermissionError), (Aio, aiosasl.AuthenticationFailure)):
                person = type("Mistaken", (make,), {"password": "balcony"})(self.cluster, f"tybalt@{DOMAIN}", 1)
                self.cleanups.append(person.stop)
                with self.assertRaises(error):
                    await person.start()
            at = {"XMPP_HOST": "127.0.0.1", "XMPP_PORT": str(self.cluster.port(1))}
            bot = await self.program(CLIENTS / "strophe/bot", "--jid", f"tybalt@{DOMAIN}", "--pass", "balcony", **at)
            await bot.expect("not-authorized")
            self.assertEqual(self.cluster.logins(f"tybalt@{DOMAIN}"), [])

        self.run_async(run())


class Unbound(Base):
    """Where channel binding is switched off slixmpp need not lie."""

    settings = ("c2s.channel_binding=false",)

    def test_slixmpp(self):
        async def run():
            login = await self.comes_and_goes(Slix(self.cluster, f"rosaline@{DOMAIN}", 1))
            self.assertEqual(login, ("TLSv1.3", "SCRAM-SHA-512"))

        self.run_async(run())


if __name__ == "__main__":
    unittest.main(verbosity=2)
