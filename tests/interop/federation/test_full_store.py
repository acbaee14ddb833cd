#!/usr/bin/python3
"""A component numbers its stanzas over all users; while the store refuses some of them for a moment, again and again,
each comes once and in order, and what was acknowledged is there."""
import random
import threading
import time
import unittest

from lab import CLIENT, SM, Case, Jackdaw, free_port, until
from test_component import Component

MESSAGES = 40000
USERS = [f"u{i}" for i in range(8)]


class FullStore(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", routers=1, s2s__components="raw.jackdaw.lab=rawsecret", log__level="info")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.start_dns()
        for user in USERS:
            cls.jackdaw.add(user)

    def room(self, has):
        self.assertIn(b"+OK", self.jackdaw.redis("CONFIG", "SET", "maxmemory", "0" if has else "1"))

    def toggle(self, over):
        while not over.is_set():
            self.room(False)
            time.sleep(random.choice((0, 0.0005, 0.002)))
            self.room(True)
            time.sleep(0.003)

    def listen(self, over, people):
        while not over.is_set():
            for juliet, heard in people:
                juliet.pump(0.01)
                heard += [int(e.findtext(f"{{{CLIENT}}}body")) for e in juliet.elements if e.tag.endswith("}message")]
                juliet.elements.clear()

    def acknowledged(self, c, errors):
        c.send(f"<r xmlns='{SM}'/>")
        h = int(c.expect(f"{{{SM}}}a").get("h"))
        errors += [e.get("id") for e in c.elements if e.get("type") == "error"]
        c.elements.clear()
        return h

    def test_each_once_and_in_order(self):
        people = [(self.jackdaw.client(user), []) for user in USERS]
        c = Component(self.jackdaw.component_port, "raw.jackdaw.lab", "rawsecret").ready()
        for p in (c, *(juliet for juliet, _ in people)):
            self.addCleanup(p.close)
        c.send(f"<enable xmlns='{SM}'/>")
        c.expect(f"{{{SM}}}enabled")
        over, errors = threading.Event(), []
        self.addCleanup(over.set)
        threads = [threading.Thread(target=self.toggle, args=(over,), daemon=True), threading.Thread(target=self.listen, args=(over, people), daemon=True)]
        for t in threads:
            t.start()
        c.sock.settimeout(60)
        for i in range(0, MESSAGES, 20):
            c.send("".join(f"<message from='bot@raw.jackdaw.lab/1' to='{USERS[k % len(USERS)]}@jackdaw.lab' type='chat' id='{k}'><body>{k}</body></message>"
                           for k in range(i, i + 20)))
        until(lambda: self.acknowledged(c, errors) == MESSAGES, lambda: f"acknowledged {self.acknowledged(c, errors)} of {MESSAGES}", 60)
        until(lambda: sum(len(heard) for _, heard in people) >= MESSAGES, "some are missing", 3)
        over.set()
        for t in threads:
            t.join()
        self.room(True)
        log = "".join(p.read_text(errors="replace") for p in self.jackdaw.dir.glob("log/router-*.log"))
        self.assertGreater(log.count("Redis has no room"), 3, "the store has refused nothing: this test shows nothing")
        self.assertEqual(errors, [], "the store was never full for long")
        for at, (_, heard) in enumerate(people):
            self.assertEqual(heard, list(range(at, MESSAGES, len(USERS))), f"{USERS[at]}: lost, doubled or out of order")


if __name__ == "__main__":
    unittest.main()
