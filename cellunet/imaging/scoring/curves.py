"""Learning curves as one SVG picture, drawn without a plotting library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PANEL_WIDTH, PANEL_HEIGHT = 300, 200
MARGIN_LEFT, MARGIN_TOP, MARGIN_BELOW, GAP = 56, 44, 44, 24
COLOURS = {"train": "#0072b2", "validation": "#d55e00"}
"""Blue and vermilion of Okabe and Ito, told apart by colour-blind readers."""
MOST_ABOVE = 1.5
"""The axis of losses ends at so many times the highest of training at the latest."""


@dataclass(frozen=True, kw_only=True)
class _Panel:
    title: str
    key: str
    top: float | None


def learning_curves(
    history: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> str:
    """Return an SVG of losses, and precision and recall per class, against epochs.

    Parameters
    ----------
    history
        One row per epoch, as the trainer makes them; at least one.
    classes
        Names of the classes.
    """
    panels = [_Panel(title="loss", key="loss", top=None)]
    for measure in ("precision", "recall"):
        panels += [
            _Panel(title=f"{measure}, {name}", key=f"{measure}_{name}", top=1.0)
            for name in classes
        ]
    columns = len(classes)
    places = [(0, 0), *((i // columns + 1, i % columns) for i in range(2 * columns))]
    step_x = MARGIN_LEFT + PANEL_WIDTH + GAP
    step_y = MARGIN_TOP + PANEL_HEIGHT + MARGIN_BELOW
    width, height = columns * step_x, 3 * step_y
    drawn = [
        f'<g transform="translate({column * step_x + MARGIN_LEFT},'
        f'{row * step_y + MARGIN_TOP})">{_panel(panel, history)}</g>'
        for panel, (row, column) in zip(panels, places, strict=True)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
        "<title>Learning curves</title>\n"
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(drawn)
        + f"\n{_legend(step_x + MARGIN_LEFT, MARGIN_TOP)}\n</svg>\n"
    )


def _panel(panel: _Panel, history: Sequence[Mapping[str, float]]) -> str:
    lines = {
        side: [row.get(f"{side}_{panel.key}", math.nan) for row in history]
        for side in COLOURS
    }
    top = panel.top or _top(*lines.values())
    parts = [
        f'<text x="0" y="-10" font-weight="bold">{escape(panel.title)}</text>',
        f'<rect width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="none" '
        'stroke="#999"/>',
    ]
    for i in range(5):
        y = PANEL_HEIGHT * (1 - i / 4)
        parts.append(
            f'<line x2="{PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>'
            f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{top * i / 4:.3g}</text>'
        )
    last = max(len(history), 2)
    for epoch in sorted({1, (1 + last) // 2, last}):
        x = PANEL_WIDTH * (epoch - 1) / (last - 1)
        parts.append(
            f'<text x="{x:.1f}" y="{PANEL_HEIGHT + 16}" text-anchor="middle">'
            f"{epoch}</text>"
        )
    parts.append(
        f'<text x="{PANEL_WIDTH / 2}" y="{PANEL_HEIGHT + 32}" '
        'text-anchor="middle">epoch</text>'
    )
    for side, values in lines.items():
        parts.append(_line(values, top, last, COLOURS[side]))
    return "".join(parts)


def _line(values: Sequence[float], top: float, last: int, colour: str) -> str:
    points = [
        (PANEL_WIDTH * i / (last - 1), PANEL_HEIGHT * (1 - min(max(v / top, 0.0), 1.0)))
        for i, v in enumerate(values)
        if math.isfinite(v)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points
    )
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return line + dots


def _top(training: Sequence[float], validation: Sequence[float]) -> float:
    """Return where the axis of losses ends; what is higher lies on its edge.

    At a high learning rate an epoch's validation loss may be hundreds of times the
    others, which nobody could read beside it.
    """
    highest, other = (
        max(filter(math.isfinite, values), default=0.0)
        for values in (training, validation)
    )
    if highest > 0:
        other = min(other, MOST_ABOVE * highest)
    return _round_up(max(highest, other))


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 and 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * 0.999)


def _legend(x: float, y: float) -> str:
    rows = [
        f'<line x1="{x}" x2="{x + 24}" y1="{y + 20 * i}" y2="{y + 20 * i}" '
        f'stroke="{colour}" stroke-width="2"/>'
        f'<text x="{x + 32}" y="{y + 20 * i + 4}">{side}</text>'
        for i, (side, colour) in enumerate(COLOURS.items())
    ]
    return "".join(rows)
