#!/usr/bin/python3
"""Draws a result of jackdaw-bench --json (or of bench/run soak) as an SVG: rate, latency percentiles and memory over time,
and the distribution of the latency as percentiles.

  bench/plot.py RESULT.json >RESULT.svg"""
import json
import math
import sys
from xml.sax.saxutils import escape

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 860, 190, 70, 130, 56, 46
COLOURS = ["#1f5fa8", "#d1602b", "#3a8f4d", "#8a4fa3", "#8c6d31", "#c23b6b", "#4a9aa5", "#666666"]


def nice_steps(top, count=5):
    """Round numbers from 0 to at least top."""
    if top <= 0:
        return [0, 1]
    raw = top / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def number(v):
    if v >= 10000:
        return f"{v / 1000:g}k"
    return f"{v:g}"


class Panel:
    """One diagram: series of (x, y) on common axes. log: powers of ten upwards."""

    def __init__(self, title, unit, log=False):
        self.title, self.unit, self.log, self.series = title, unit, log, []

    def add(self, name, points):
        points = [(x, y) for x, y in points if y is not None and (y > 0 or not self.log)]
        if points:
            self.series.append((name, points))

    def draw(self, top, x_label, x_ticks=None):
        xs = [x for _, ps in self.series for x, _ in ps]
        ys = [y for _, ps in self.series for _, y in ps]
        x0, x1 = min(0, *xs), max(xs)
        if self.log:
            low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
            high = max(high, low + 1)
            ticks = [10.0**k for k in range(low, high + 1)]
            scale = lambda y: (math.log10(y) - low) / (high - low)  # noqa: E731
        else:
            ticks = nice_steps(max(ys))
            scale = lambda y: y / ticks[-1]  # noqa: E731
        w = WIDTH - LEFT - RIGHT
        px = lambda x: LEFT + w * (x - x0) / max(x1 - x0, 1e-9)  # noqa: E731
        py = lambda y: top + PANEL * (1 - scale(y))  # noqa: E731
        out = [f'<text class="t" x="{LEFT}" y="{top - 10}">{escape(self.title)}</text>']
        for y in ticks:
            out.append(f'<path class="g" d="M{LEFT} {py(y):.1f}h{w}"/><text class="y" x="{LEFT - 8}" y="{py(y) + 4:.1f}">{number(y)}</text>')
        for x, label in x_ticks or [(x, number(x)) for x in nice_steps(x1, 8) if x <= x1]:
            out.append(f'<text class="x" x="{px(x):.1f}" y="{top + PANEL + 17}">{label}</text>')
        out.append(f'<text class="x" x="{LEFT + w / 2}" y="{top + PANEL + 32}">{escape(x_label)}</text>')
        out.append(f'<text class="u" x="{LEFT - 8}" y="{top - 10}">{escape(self.unit)}</text>')
        for i, (name, points) in enumerate(self.series):
            colour = COLOURS[i % len(COLOURS)]
            line = "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in points)
            out.append(f'<path class="l" stroke="{colour}" d="M{line}"/>')
            out.append(f'<text x="{LEFT + w + 10}" y="{top + 12 + 17 * i}" style="fill:{colour}">{escape(name)}</text>')
        return out


def panels(result):
    """(panel, label of its x axis, ticks) for all that the result holds."""
    out = []
    seconds = result.get("seconds", [])
    if len(seconds) > 1:
        spans = [s["end_s"] - (seconds[i - 1]["end_s"] if i else 0) for i, s in enumerate(seconds)]
        p = Panel(f"{result['unit']} a second", "")
        p.add("delivered", [(s["end_s"], s["done"] / d) for s, d in zip(seconds, spans)])
        if result.get("rate_offered"):
            p.add("offered", [(0, result["rate_offered"]), (seconds[-1]["end_s"], result["rate_offered"])])
        out.append((p, "seconds", None))
        if any(s["max_us"] for s in seconds):
            p = Panel("latency of each second, from when it was due", "ms", log=True)
            for key, name in (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("max_us", "max")):
                p.add(name, [(s["end_s"], s[key] / 1000) for s in seconds])
            out.append((p, "seconds", None))
        if any(s["cpu_s"] for s in seconds):
            p = Panel("processors used by the server", "CPUs")
            p.add("all processes", [(s["end_s"], s["cpu_s"] / d) for s, d in zip(seconds, spans)])
            out.append((p, "seconds", None))
    quantiles = [(0.5, "p50_us"), (0.9, "p90_us"), (0.99, "p99_us"), (0.999, "p999_us")]
    if result.get("max_us"):
        p = Panel("latency by percentile", "ms")
        p.add("all", [(math.log10(1 / (1 - q)), result[k] / 1000) for q, k in quantiles])
        ticks = [(math.log10(1 / (1 - q)), f"{q * 100:g} %") for q, _ in quantiles]
        out.append((p, "percentile", ticks))
    memory = result.get("memory", [])
    if memory:
        p = Panel("memory (PSS) of each process", "MiB")
        for name in memory[0]["bytes"]:
            p.add(name, [(m["at_s"], m["bytes"].get(name, 0) / 1048576) for m in memory])
        out.append((p, "seconds", None))
    return out


def draw(result):
    drawn = panels(result)
    height = TOP + len(drawn) * (PANEL + GAP + 36)
    title = f"{result['scenario']}: {result['clients']} clients"
    if result.get("rate_offered"):
        title += f", {result['rate_offered']:,.0f} {result['unit']} a second offered"
    wrong = [f"{result[k]} {k}" for k in ("failed", "lost", "duplicated", "reordered")]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
           "<style>text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.y,.u{text-anchor:end;fill:#666}.x{text-anchor:middle;fill:#666}"
           ".g{stroke:#ddd;stroke-width:1}.l{fill:none;stroke-width:1.4}.h{font-size:15px;font-weight:bold}</style>",
           f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
           f'<text class="h" x="{LEFT}" y="22">{escape(title)}</text><text x="{LEFT}" y="38">{escape(", ".join(wrong))}</text>']
    for i, (panel, label, ticks) in enumerate(drawn):
        out += panel.draw(TOP + 24 + i * (PANEL + GAP + 36), label, ticks)
    return "\n".join(out + ["</svg>"]) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    with open(sys.argv[1]) as f:
        sys.stdout.write(draw(json.load(f)))
