#!/usr/bin/python3
"""A component made with slixmpp: answers each message with its own name and the text.

Usage: echo.py DOMAIN SECRET PORT NAME"""
import sys

import slixmpp


class Echo(slixmpp.ComponentXMPP):
    def __init__(self, domain, secret, port, name):
        super().__init__(domain, secret, "127.0.0.1", port)
        self.name = name
        self.register_plugin("xep_0030")
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("session_start", lambda _: print("connected", flush=True))

    def on_message(self, m):
        if m["type"] in ("chat", "normal"):
            m.reply(f"{self.name}: {m['body']}").send()


if __name__ == "__main__":
    domain, secret, port, name = sys.argv[1:]
    echo = Echo(domain, secret, int(port), name)
    echo.connect()
    echo.process(forever=True)
