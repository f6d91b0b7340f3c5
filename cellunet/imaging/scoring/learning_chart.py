"""Scores and loss against the number of annotated images, as one SVG picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.imaging.scoring.learning import Point

WIDTH, HEIGHT = 340, 230
LEFT, TOP, BELOW, GAP = 60, 40, 60, 30
COLOUR = "#0072b2"
"""Blue of Okabe and Ito."""
ZERO = 0.5
"""Where no image stands on the logarithmic axis: half way below one."""


def learning_chart(points: Sequence[Point]) -> str:
    """Return an SVG: mean AP with intervals, and loss, against numbers of images.

    Parameters
    ----------
    points
        One or more, fewest images first.
    """
    scores = [
        (p.images, p.mean_ap.value, p.mean_ap.low, p.mean_ap.high) for p in points
    ]
    losses = [(p.images, p.loss, p.loss, p.loss) for p in points]
    step = LEFT + WIDTH + GAP
    panels = (
        ("mean AP on images not trained on", scores),
        ("loss on images not trained on", losses),
    )
    drawn = [
        f'<g transform="translate({i * step + LEFT},{TOP})">{_panel(*panel)}</g>'
        for i, panel in enumerate(panels)
    ]
    width, height = 2 * step, TOP + HEIGHT + BELOW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
        "<title>Learning curve</title>\n"
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _panel(title: str, rows: Sequence[tuple[int, float, float, float]]) -> str:
    low = math.floor(20 * min(row[2] for row in rows)) / 20
    high = math.ceil(20 * max(row[3] for row in rows)) / 20
    high = max(high, low + 0.05)
    first, last = math.log(ZERO), math.log(max(rows[-1][0], 2))

    def x(images: int) -> float:
        return WIDTH * (math.log(max(images, ZERO)) - first) / (last - first)

    def y(value: float) -> float:
        return HEIGHT * (high - value) / (high - low)

    parts = [
        f'<text x="0" y="-12" font-weight="bold">{title}</text>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT + 38}" text-anchor="middle">annotated '
        "images (logarithmic; 0: the start)</text>",
    ]
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(
            f'<line x2="{WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#e5e5e5"/><text x="-6" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    line = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v, *_ in rows)
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{COLOUR}" stroke-width="2"/>'
    )
    for images, value, bottom, top in rows:
        at = f"{x(images):.1f}"
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{y(bottom):.1f}" y2="{y(top):.1f}" '
            f'stroke="{COLOUR}"/><circle cx="{at}" cy="{y(value):.1f}" r="3.5" '
            f'fill="{COLOUR}"/><text x="{at}" y="{HEIGHT + 18}" '
            f'text-anchor="middle">{images}</text>'
        )
    return "".join(parts)
