"""The lines of the comparison: what is run, and what Jackdaw is to reach against the others."""
import dataclasses
import statistics
import typing

from servers import FRIENDS, FRIENDS_FIRST

# Modes: bare and full as in servers.py; idle is bare with more accounts.
IDLE_CLIENTS = 5000
NO_SCRAM = {"jabberd2"}


@dataclasses.dataclass
class Line:
    """One row. times: of the best other's rate (None key) or of the one named. at_most: KiB, or ms at p50 and p99."""

    name: str
    mode: str
    scenario: str
    options: list
    times: typing.Optional[dict] = None
    at_most: tuple = ()
    kind: str = "rate"  # memory, latency

    def target(self):
        if self.kind == "memory":
            return f"{self.at_most[0]:g} KiB or less"
        if self.kind == "latency":
            return f"{self.at_most[0]:.1f} / {self.at_most[1]:.1f} ms or less"
        text = ", ".join(f"{n:g} × {who or 'the best'}" for who, n in self.times.items())
        return text + (", none refused" if self.scenario == "logins" else "")


LINES = [
    Line("chat, bare, TLS, 200 pairs, window 1", "bare", "chat", ["--pairs", "200"], {None: 5}),
    Line("chat, bare, TLS, 200 pairs, window 8", "bare", "chat", ["--pairs", "200", "--window", "8"], {None: 5}),
    Line("chat, bare, no TLS, 200 pairs, window 8", "bare", "chat", ["--pairs", "200", "--window", "8", "--tls", "none"], {None: 5}),
    Line("presence deliveries, 50 contacts", "bare", "presence", ["--clients", str(FRIENDS), "--first", str(FRIENDS_FIRST)], {None: 4}),
    Line("iq ping to the server", "bare", "ping", ["--clients", "400"], {None: 3.5}),
    Line("logins, STARTTLS, SCRAM", "bare", "logins", ["--clients", "20", "--first", "500"], {None: 4}),
    Line("chat, full and durable, TLS, 200 pairs, window 1", "full", "chat", ["--pairs", "200"], {"jabberd2": 3, "ejabberd": 30}),
    Line("latency p50 / p99 at 200 messages/s, full and durable", "full", "chat", ["--pairs", "200", "--rate", "200"], at_most=(1.0, 1.7), kind="latency"),
    Line("memory of an idle session, TLS", "idle", "idle", ["--clients", str(IDLE_CLIENTS), "--settle", "3"], at_most=(18,), kind="memory"),
    Line("memory of an idle session, no TLS", "idle", "idle", ["--clients", str(IDLE_CLIENTS), "--settle", "3", "--tls", "none"], at_most=(4,), kind="memory"),
]


@dataclasses.dataclass
class Cell:
    """The median of one server's results on one line. values: rate and calibrated rate; KiB; ms at p50 and p99."""

    kind: str
    values: tuple = ()
    wrong: int = 0

    def text(self):
        if not self.values:
            return "failed"
        if self.kind == "memory":
            text = f"{self.values[0]:.1f} KiB"
        elif self.kind == "latency":
            text = f"{self.values[0]:.2f} / {self.values[1]:.1f} ms"
        else:
            text = f"{self.values[0]:,.0f} ({self.values[1]:,.0f})"
        return text + (f", {self.wrong:,} lost or refused" if self.wrong else "")


def cell(line, results):
    good = [r for r in results if r and (r["online"] if line.kind == "memory" else r["measured"]) > 0]
    if not good:
        return Cell(line.kind)
    middle = lambda f: statistics.median(f(r) for r in good)  # noqa: E731
    if line.kind == "memory":
        values = (middle(lambda r: r["bytes_per_session"] / 1024),)
    elif line.kind == "latency":
        values = (middle(lambda r: r["p50_us"] / 1000), middle(lambda r: r["p99_us"] / 1000))
    else:
        values = (middle(lambda r: r["per_cpu_second"]), middle(lambda r: r["per_calibrated_cpu_second"]))
    return Cell(line.kind, values, sum(r["failed"] + r["lost"] + r["duplicated"] + r["reordered"] for r in good))


def ratio(line, cells):
    """Jackdaw over the best other, plain and calibrated."""
    ours, others = cells.get("jackdaw"), [c for name, c in cells.items() if name != "jackdaw" and c.values]
    if not ours or not ours.values or not others:
        return ""
    if line.kind != "rate":
        return ""
    plain, calibrated = (ours.values[k] / max(c.values[k] for c in others) for k in (0, 1))
    return f"{plain:.1f} ({calibrated:.1f})"


def verdict(line, cells):
    ours = cells.get("jackdaw")
    if not ours or not ours.values:
        return ""
    parts = []
    if line.kind == "rate":
        for who, wanted in line.times.items():
            others = [c.values[0] for name, c in cells.items() if c.values and (name == who if who else name != "jackdaw")]
            if others:
                got = ours.values[0] / max(others)
                parts.append("met" if got >= wanted else f"{got:.1f} of {wanted:g}" + (f" × {who}" if len(line.times) > 1 else ""))
    else:
        met = all(v <= limit for v, limit in zip(ours.values, line.at_most))
        digits = (1,) if line.kind == "memory" else (2, 1)
        values = " / ".join(f"{v:.{d}f}" for v, d in zip(ours.values, digits))
        parts.append("met" if met else f"{values} of " + " / ".join(f"{x:g}" for x in line.at_most))
    if ours.wrong:
        parts.append(f"{ours.wrong} lost or refused")
    return ", ".join(dict.fromkeys(parts))


def table(chosen, names, results):
    """Markdown. results: (line's name, server's name) → list of results."""
    out = ["| per CPU second of all the server's processes (calibrated) | to reach | " + " | ".join(names).replace("jackdaw", "Jackdaw") + " | Jackdaw / best other | |",
           "|---" * (len(names) + 4) + "|"]
    for line in chosen:
        cells = {s: cell(line, results.get((line.name, s), [])) for s in names}
        out.append(f"| {line.name} | {line.target()} | " + " | ".join(cells[s].text() for s in names)
                   + f" | {ratio(line, cells)} | {verdict(line, cells)} |")
    return "\n".join(out)
