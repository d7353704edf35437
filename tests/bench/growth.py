"""A plot of seconds against domains, both logarithmic: a straight line at 45 degrees is linear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN = 640, 400, 60
COLOURS = ("#1f77b4", "#d95f02", "#2e8b57", "#7b3294")
FONT = 'font-family="sans-serif" font-size="12"'
DASHES = ("none", "6 3", "2 3", "8 3 2 3")

Line = Sequence[tuple[int, float]]


def draw(lines: Mapping[str, Line]) -> str:
    """Return an SVG picture with a line for each title; values are (domains, seconds)."""
    counts = sorted({count for line in lines.values() for count, _ in line})
    seconds = [value for line in lines.values() for _, value in line]
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    first, last = math.log10(counts[0]), math.log10(counts[-1])

    def x(count: float) -> float:
        share = (math.log10(count) - first) / (last - first)
        return MARGIN + share * (WIDTH - 2 * MARGIN)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for count in counts:
        parts.append(_rule(x(count), y(10.0**low), x(count), y(10.0**high)))
        parts.append(_text(x(count), HEIGHT - MARGIN + 18, f"{count:,}", "middle"))
    for power in range(low, high + 1):
        parts.append(_rule(x(counts[0]), y(10.0**power), x(counts[-1]), y(10.0**power)))
        parts.append(_text(MARGIN - 8, y(10.0**power) + 4, f"{10.0**power:g} s", "end"))
    parts.append(_text(WIDTH / 2, HEIGHT - 12, "managed domains", "middle"))
    for number, (title, line) in enumerate(lines.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in line)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        height = MARGIN + 16 * number
        parts.append(
            f'<line x1="{MARGIN + 12}" y1="{height}" x2="{MARGIN + 44}" y2="{height}" '
            f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        parts.append(_text(MARGIN + 52, height + 4, title, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT}>{escape(text)}</text>'
