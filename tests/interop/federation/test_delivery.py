#!/usr/bin/python3
"""The delivery table (RFC 6121 §8.5, as tests/script has it) for messages that come from another server: a user of
Prosody writes to accounts of Jackdaw in every situation, all rows at once."""
import pathlib
import sys
import unittest

from lab import CLIENT, ROOT, Case, Jackdaw, Prosody, free_port, until

sys.path.insert(0, str(pathlib.Path(ROOT) / "tests/script"))
from matrices import DELIVERY, SITUATIONS  # noqa: E402

ERROR = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"


class Row:
    def __init__(self, kind, situation, target, want):
        self.kind, self.situation, self.target, self.want = kind, situation, target, want
        self.id = f"{kind}-{situation}-{target}"
        self.user = self.id
        self.clients = {}

    def address(self):
        bare = f"{self.user}@jackdaw.lab"
        return {"bare": bare, "match": bare + "/garden", "other": bare + "/nowhere"}[self.target]

    def message(self):
        kind = "" if self.kind == "normal" else f" type='{self.kind}'"
        return f"<message to='{self.address()}' id='{self.id}'{kind}>{ERROR if self.kind == 'error' else '<body>a</body>'}</message>"


def mine(client, row):
    return [e for e in client.elements if e.tag == f"{{{CLIENT}}}message" and e.get("id") == row.id]


class Delivery(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.prosody = Prosody(lab, "prosody.lab")
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", limits__enabled="false")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.serve("prosody.lab", cls.prosody.port)
        lab.start_dns()
        cls.prosody.add("romeo")
        cls.rows = [Row(kind, situation, target, want) for kind, table in DELIVERY.items() for situation, wants in table.items()
                    for target, want in zip(("bare", "match", "other"), wants) if want is not None]
        for row in cls.rows:
            if row.situation != "no-account":
                cls.jackdaw.add(row.user)

    def enter(self, row):
        for resource, priority in (SITUATIONS[row.situation] or {}).items():
            presence = "" if priority is None else f"<presence><priority>{priority}</priority></presence>"
            row.clients[resource] = self.jackdaw.client(row.user, resource, presence=presence)
            self.addCleanup(row.clients[resource].close)

    def check(self, row, romeo):
        getters = row.want.split() if row.want not in ("silent", "error", "offline") else []
        for resource, client in row.clients.items():
            client.quiet(0.02)
            self.assertEqual(len(mine(client, row)), 1 if resource in getters else 0, f"at {resource}")
        answers = mine(romeo, row)
        if row.want == "error":
            self.assertEqual([(e.get("type"), e.get("from")) for e in answers], [("error", row.address())])
            self.assertIsNotNone(answers[0].find(f"{{{CLIENT}}}error/{{urn:ietf:params:xml:ns:xmpp-stanzas}}service-unavailable"))
        else:
            self.assertEqual(answers, [])
        if row.situation != "no-account" and not getters:
            later = self.jackdaw.client(row.user, "later", presence="<presence><priority>9</priority></presence>")
            self.addCleanup(later.close)
            later.quiet(0.2)
            self.assertEqual(len(mine(later, row)), 1 if row.want == "offline" else 0, "afterwards")

    def test_table(self):
        romeo = self.prosody.client("romeo")
        self.addCleanup(romeo.close)
        for row in self.rows:
            self.enter(row)
        for row in self.rows:
            romeo.send(row.message())
        errors = {row.id for row in self.rows if row.want == "error"}

        def answered():
            romeo.pump(0.05)
            return errors <= {e.get("id") for e in romeo.elements if e.get("type") == "error"}
        until(answered, lambda: f"no error for {sorted(errors - {e.get('id') for e in romeo.elements})}")
        romeo.quiet(1)
        for row in self.rows:
            with self.subTest(row.id, want=row.want):
                self.check(row, romeo)
        print(f"\n{len(self.rows)} rows of the delivery table", flush=True)


if __name__ == "__main__":
    unittest.main()
