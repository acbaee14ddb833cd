"""A process with some of the clients. Takes commands from a pipe, one answer for each:

    ("go",)        the clients connect
    ("rate", N)    N messages a second from now on          ("chaos", share, roam)  that share of the clients is away at
                                                             any time; roam of them leave the old connection open
    ("probe", S)   each sends every S seconds, to itself and to its neighbour in turn; 0 = no more
    ("subscribe",) everybody asks for the contacts' presence ("announce",)     everybody changes its presence
    ("vanish", [(index, politely)...])                       ("state",)        numbers that tell how far things are
    ("results",)   everything that was counted               ("end",)
"""
import asyncio
import gc
import random
import signal
import time
import traceback

from client import Client

BURST = 4
TICK_S = 0.02
AWAY_S = (0.5, 1.5)
ROAM_S = (0.0, 0.3)  # between the last read of the old connection and the new one
OPEN_S = (0.5, 8.0)  # how long the old one stays open then


class Worker:
    def __init__(self, pipe, indices, total, domain, nodes, seed, plain):
        self.pipe, self.total = pipe, total
        self.rng = random.Random(seed)
        self.plain = plain  # indices of clients without stream management: they get presence only
        self.recipients = [i for i in range(total) if i not in plain]
        self.clients = [
            Client(i, domain, nodes, random.Random(seed * 1000003 + i), self.contacts_of(i), i not in plain) for i in indices
        ]
        self.rate = 0.0
        self.probe_s = 0.0
        self.away_share = 0.0
        self.roam_share = 0.0
        self.churn = 0.0
        self.skipped = 0
        self.tasks = []

    def contacts_of(self, i):
        return sorted({(i + d) % self.total for d in (-3, -1, 1, 3)} - {i})

    def pick(self, n):
        return [self.rng.choice(self.recipients) for _ in range(n)]

    async def drive(self):
        """The load and the cuts, a little every tick."""
        senders = [c for c in self.clients if c.sm]
        at, due, cuts, changes = 0, 0.0, 0.0, 0.0
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            passed, last = min(now - last, 0.2), now
            due += self.rate * passed / BURST
            # What nobody could send now (all away, or too much unacknowledged) is owed: the rate is one of the whole run.
            refused = 0
            while due >= 1 and refused < len(senders):
                at = (at + 1) % len(senders)
                if senders[at].vanished:
                    refused += 1
                elif senders[at].burst(self.pick(BURST)):
                    due -= 1
                    refused = 0
                else:
                    refused += 1
                    self.skipped += BURST
            if self.away_share > 0:
                cuts += len(self.clients) * self.away_share / sum(AWAY_S) * 2 * passed
                changes += len(self.clients) / 10 * passed  # each changes its presence every ten seconds
                while cuts >= 1:
                    cuts -= 1
                    c = self.rng.choice(self.clients)
                    if self.rng.random() < self.roam_share:
                        c.roam(self.pick(BURST), self.rng.uniform(*ROAM_S), self.rng.uniform(*OPEN_S))
                    else:
                        c.cut(self.pick(BURST), self.rng.uniform(*AWAY_S))
                while changes >= 1:
                    changes -= 1
                    c = self.rng.choice(self.clients)
                    if c.connected:
                        c.announce()

    async def probe(self):
        """One message each, evenly spread over the interval."""
        senders = [c for c in self.clients if c.sm]
        due = time.monotonic()
        at = 0
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            if self.probe_s <= 0 or due < now - 1:
                due = now
            while self.probe_s > 0 and due <= now:
                due += self.probe_s / len(senders)
                at += 1
                c = senders[at % len(senders)]
                if not c.burst([c.index if at // len(senders) % 2 else (c.index + 1) % self.total]):
                    self.skipped += 1

    def state(self):
        """Also asks for acknowledgements, so that the numbers move."""
        live = [c for c in self.clients if not c.vanished]
        for c in live:
            c.ask()
            c.acknowledge()
        return {
            "connected": sum(c.connected for c in live),
            "clients": len(live),
            "unacked": sum(len(c.out) for c in live),
            "sent": sum(c.messages for c in self.clients),
            "got": sum(len(c.got) for c in self.clients) - sum(c.sessions for c in self.clients),
            "presence": {c.index: dict(c.presence) for c in live},
            "status": {c.index: (None if c.vanished else c.status) for c in self.clients},
        }

    def results(self):
        return [
            {
                "index": c.index,
                "sm": c.sm,
                "vanished": c.vanished,
                "messages": c.messages,
                "to": c.to,
                "acked": c.acked,
                "repeated": c.repeated,
                "got": c.got,
                "errors": c.errors,
                "resumes": c.resumes,
                "failed_resumes": c.failed_resumes,
                "sessions": c.sessions,
                "roams": c.roams,
                "trouble": dict(c.trouble),
                "unacked": len(c.out),
                "skipped": self.skipped if c is self.clients[0] else 0,
            }
            for c in self.clients
        ]

    def go(self):
        def over(task):
            if not task.cancelled() and task.exception() is not None:
                traceback.print_exception(task.exception())

        self.tasks = [asyncio.create_task(c.run()) for c in self.clients] + [asyncio.create_task(self.drive()), asyncio.create_task(self.probe())]
        for t in self.tasks:
            t.add_done_callback(over)

    def command(self, name, *args):
        if name == "go":
            self.go()
        elif name == "rate":
            self.rate = args[0]
        elif name == "probe":
            self.probe_s = args[0]
        elif name == "chaos":
            self.away_share, self.roam_share = args
        elif name == "subscribe":
            for c in self.clients:
                c.subscribe()
        elif name == "announce":
            for c in self.clients:
                if not c.vanished:
                    c.announce()
        elif name == "vanish":
            who = dict(args[0])
            for c in self.clients:
                if c.index in who:
                    c.vanish(who[c.index])
        elif name == "state":
            return self.state()
        elif name == "results":
            return self.results()
        return None

    async def main(self):
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def readable():
            try:
                command = self.pipe.recv()
            except EOFError:
                command = ("end",)
            if command[0] == "end":
                loop.remove_reader(self.pipe.fileno())
                if not ended.done():
                    ended.set_result(None)
                return
            self.pipe.send(self.command(*command))

        loop.add_reader(self.pipe.fileno(), readable)
        await ended
        for t in self.tasks:
            t.cancel()


def work(*args):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()
    gc.disable()  # millions of small tuples, no cycles that matter in minutes
    asyncio.run(Worker(*args).main())
