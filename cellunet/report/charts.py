"""Histograms as SVG, each with its figures as a table for those who do not see it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.report.escape import text

if TYPE_CHECKING:
    from cellunet.report.summary import Histogram

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
