"""Learning curves and histograms as SVG.

File names may hold anything: markup, quotes, line separators, marks that turn the
direction of reading, halves of surrogate pairs that stand for undecodable bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellunet.metrics.fit import Point
    from cellunet.outputs.report import Histogram

HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Categories of characters that are not seen, or change how others are seen."""


def visible(text: str) -> str:
    r"""Return `text` with every character that is not seen spelled out.

    Examples
    --------
    >>> visible("gpj\u202efit.exe")
    'gpj\\u202efit.exe'
    """
    return "".join(
        c if unicodedata.category(c) not in HIDDEN else _spelled(c) for c in text
    )


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def text(value: object) -> str:
    """Return a value as HTML text that may also stand in a quoted attribute.

    Examples
    --------
    >>> text('<b title="x">&')
    '&lt;b title=&quot;x&quot;&gt;&amp;'
    """
    return html.escape(visible(str(value)), quote=True)


def link(path: str) -> str:
    """Return a relative path, its parts divided by "/", as an address.

    It cannot be anything else than a path below the page.

    Examples
    --------
    >>> link('javascript:alert(1)')
    './javascript%3Aalert%281%29'
    """
    return "./" + quote(os.fsencode(path), safe="/")


def source_hash(content: str) -> str:
    """Return the name of an inline script or style in a Content-Security-Policy."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


WIDTH, HEIGHT = 320, 130

LEFT, TOP, BELOW = 40, 10, 36

MOST_BARS = 40

TOP_SHARE = 0.995
"""The axis ends at this quantile; what lies beyond counts to the last bar."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What a histogram is called and how its axis runs."""

    title: str
    what: str
    """What is counted, in the plural."""
    axis: str
    """Name of the axis, with its unit."""
    low: float = 0.0
    high: float | None = None
    """End of the axis; None: where the data end."""
    whole: bool = False
    """Whether values are whole numbers."""


@dataclass(frozen=True, kw_only=True)
class _Bars:
    low: float
    width: float
    counts: tuple[int, ...]
    cut: bool
    """Whether the last bar holds values beyond the axis."""

    @property
    def high(self) -> float:
        return self.low + self.width * len(self.counts)


def chart(about: Chart, data: Histogram) -> str:
    """Return a figure in HTML: an SVG, its caption, and the figures as a table."""
    if not data.total:
        return (
            f"<figure><figcaption>{text(about.title)}</figcaption>"
            '<p class="quiet">Nothing to show.</p></figure>'
        )
    bars = _bars(about, data)
    return (
        f"<figure><figcaption>{text(about.title)}</figcaption>"
        f"{_svg(about, data, bars)}{_table(about, bars)}</figure>"
    )


def _bars(about: Chart, data: Histogram) -> _Bars:
    """Put the fine bins of the data together to at most `MOST_BARS` bars."""
    wanted = about.high if about.high is not None else data.quantile(TOP_SHARE) or 0.0
    span = max(wanted - about.low, data.step)
    steps = max(1, math.ceil(_round_up(span / MOST_BARS) / data.step))
    width = steps * data.step
    count = max(1, math.ceil(round(span / width, 6)))
    first = round(about.low / data.step)
    counts = [0] * count
    cut = False
    for place, number in data.counts.items():
        bar = (place - first) // steps
        cut = cut or bar >= count
        counts[min(max(bar, 0), count - 1)] += number
    return _Bars(low=about.low, width=width, counts=tuple(counts), cut=cut)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * 0.999)


def _svg(about: Chart, data: Histogram, bars: _Bars) -> str:
    top = max(bars.counts)
    middle = data.quantile(0.5)
    said = (
        f"{about.title}: {data.total:,} {about.what}, median {_number(middle)}, "
        f"range of the axis {_number(bars.low)} to {_number(bars.high)}."
    )
    full_w, full_h = LEFT + WIDTH + 10, TOP + HEIGHT + BELOW
    parts = [
        f'<svg viewBox="0 0 {full_w} {full_h}" role="img" aria-label="{text(said)}">',
        f'<path class="axis" d="M{LEFT} {TOP + HEIGHT}h{WIDTH}"/>',
        _grid(top),
        f'<path class="bars" d="{_bar_path(bars, top)}"/>',
        _ticks(bars),
    ]
    if middle is not None and bars.low <= middle <= bars.high:
        x = LEFT + WIDTH * (middle - bars.low) / (bars.high - bars.low)
        # On the side where there is more room.
        right = x < LEFT + WIDTH / 2
        parts.append(
            f'<path class="middle" d="M{x:.1f} {TOP}v{HEIGHT}"/>'
            f'<text class="mid" x="{x + (5 if right else -5):.1f}" y="{TOP + 9}" '
            f'text-anchor="{"start" if right else "end"}">'
            f"median {_number(middle)}</text>"
        )
    parts.append(
        f'<text x="{LEFT + WIDTH / 2}" y="{full_h - 4}" text-anchor="middle">'
        f"{text(about.axis)}</text></svg>"
    )
    return "".join(parts)


def _bar_path(bars: _Bars, top: int) -> str:
    step = WIDTH / len(bars.counts)
    gap = min(1.0, step / 6)
    path = []
    for i, count in enumerate(bars.counts):
        height = HEIGHT * count / top
        if count:
            path.append(
                f"M{LEFT + i * step + gap / 2:.1f} {TOP + HEIGHT}"
                f"v{-max(height, 1):.1f}h{step - gap:.1f}V{TOP + HEIGHT}z"
            )
    return "".join(path)


def _grid(top: int) -> str:
    parts = []
    for count in sorted({0, top // 2, top}):
        y = TOP + HEIGHT * (1 - count / top)
        parts.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}h{WIDTH}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_short(count)}</text>"
        )
    return "".join(parts)


def _ticks(bars: _Bars) -> str:
    step = _round_up((bars.high - bars.low) / 6)
    first = math.ceil(bars.low / step)
    parts = []
    while first * step <= bars.high + 1e-9:
        value = first * step
        x = LEFT + WIDTH * (value - bars.low) / (bars.high - bars.low)
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">'
            f"{_number(value)}</text>"
        )
        first += 1
    return "".join(parts)


def _table(about: Chart, bars: _Bars) -> str:
    rows = []
    for i, count in enumerate(bars.counts):
        low = bars.low + i * bars.width
        last = i == len(bars.counts) - 1
        if about.whole and bars.width == 1:
            named = _number(low)
        else:
            named = f"{_number(low)} to {_number(low + bars.width)}"
        if last and bars.cut:
            named = f"{_number(low)} and more"
        if count:
            rows.append(f"<tr><td>{named}</td><td>{count:,}</td></tr>")
    return (
        "<details><summary>Figures</summary><table><thead><tr>"
        f'<th scope="col">{text(about.axis)}</th>'
        f'<th scope="col">{text(about.what)}</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


def _number(value: float | None) -> str:
    """Return a number in three digits, without zeros that say nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _short(count: int) -> str:
    """Return a count in at most four characters or so.

    Examples
    --------
    >>> _short(950), _short(12_340), _short(2_500_000)
    ('950', '12k', '2.5M')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            scaled = count / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(count)


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
    return _curves_round_up(max(highest, other))


def _curves_round_up(value: float) -> float:
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


LEARNING_WIDTH, LEARNING_HEIGHT = 340, 230

LEARNING_LEFT, LEARNING_TOP, LEARNING_BELOW, LEARNING_GAP = 60, 40, 60, 30

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
    step = LEARNING_LEFT + LEARNING_WIDTH + LEARNING_GAP
    panels = (
        ("mean AP on images not trained on", scores),
        ("loss on images not trained on", losses),
    )
    drawn = [
        f'<g transform="translate({i * step + LEARNING_LEFT},{LEARNING_TOP})">'
        f"{_learning_chart_panel(*panel)}</g>"
        for i, panel in enumerate(panels)
    ]
    width, height = 2 * step, LEARNING_TOP + LEARNING_HEIGHT + LEARNING_BELOW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
        "<title>Learning curve</title>\n"
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _learning_chart_panel(
    title: str, rows: Sequence[tuple[int, float, float, float]]
) -> str:
    low = math.floor(20 * min(row[2] for row in rows)) / 20
    high = math.ceil(20 * max(row[3] for row in rows)) / 20
    high = max(high, low + 0.05)
    first, last = math.log(ZERO), math.log(max(rows[-1][0], 2))

    def x(images: int) -> float:
        return LEARNING_WIDTH * (math.log(max(images, ZERO)) - first) / (last - first)

    def y(value: float) -> float:
        return LEARNING_HEIGHT * (high - value) / (high - low)

    parts = [
        f'<text x="0" y="-12" font-weight="bold">{title}</text>',
        f'<rect width="{LEARNING_WIDTH}" height="{LEARNING_HEIGHT}" fill="none" '
        'stroke="#999"/>',
        f'<text x="{LEARNING_WIDTH / 2}" y="{LEARNING_HEIGHT + 38}" '
        'text-anchor="middle">annotated '
        "images (logarithmic; 0: the start)</text>",
    ]
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(
            f'<line x2="{LEARNING_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
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
            f'fill="{COLOUR}"/><text x="{at}" y="{LEARNING_HEIGHT + 18}" '
            f'text-anchor="middle">{images}</text>'
        )
    return "".join(parts)
