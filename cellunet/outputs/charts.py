"""Histograms and learning curves, drawn by matplotlib as SVG.

matplotlib is imported where something is drawn, and without pyplot, so that nothing of
it is shared with a program that calls cellunet.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellunet.io.file_names import row_letters

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from cellunet.metrics.fit import LearningCurvePoint
    from cellunet.outputs.report import Histogram

PX = 1 / 72
"""Inches of a pixel of an SVG."""

SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cellunet",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "lines.markersize": 3.5,
}
"""Text stays text, names are no formulas, and the same numbers give the same file."""


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Have `SETTINGS` inside, and no words about letters that a font lacks.

    It is the reader's fonts that count.
    """
    import matplotlib as mpl

    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


@_settings()
def svg(figure: Figure, title: str) -> str:
    """Return a figure as SVG, the same for the same figure."""
    file = io.BytesIO()
    metadata = {"Title": title, "Date": None, "Creator": None}
    figure.savefig(
        file, format="svg", facecolor=figure.get_facecolor(), metadata=metadata
    )
    return file.getvalue().decode("utf-8")


def _figure(
    width_px: float, height_px: float, layout: Literal["constrained"] | None = None
) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_px * PX, height_px * PX), layout=layout)


MOST_BARS = 40

TOP_SHARE = 0.995
"""The axis ends at this quantile; what lies beyond counts to the last bar."""

WIDTH_PX, HEIGHT_PX = 370, 176


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
class Bars:
    """Counts of values in steps of one width, few enough to be drawn."""

    low: float
    width: float
    counts: tuple[int, ...]
    cut: bool
    """Whether the last bar holds values beyond the axis."""

    @property
    def high(self) -> float:
        """Return where the axis ends."""
        return self.low + self.width * len(self.counts)


@dataclass(frozen=True, kw_only=True)
class Colors:
    """Of a histogram on one background."""

    paper: str
    ink: str
    grid: str
    bar: str
    median: str


LIGHT = Colors(
    paper="#ffffff", ink="#56616b", grid="#d5dbe1", bar="#0072b2", median="#b04a00"
)

DARK = Colors(
    paper="#13171a", ink="#a3afb9", grid="#384149", bar="#56b4e9", median="#ffb37d"
)


def bars_of(about: Chart, data: Histogram) -> Bars:
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
    return Bars(low=about.low, width=width, counts=tuple(counts), cut=cut)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * 0.999)


@_settings()
def histogram(
    about: Chart, bars: Bars, median: float | None, colors: Colors = LIGHT
) -> Figure:
    """Draw bars, and the median of the data as a line."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(WIDTH_PX, HEIGHT_PX)
    figure.set_facecolor(colors.paper)
    axes = figure.add_axes((0.11, 0.2, 0.86, 0.74), facecolor=colors.paper)
    edges = bars.low + bars.width * np.arange(len(bars.counts) + 1)
    axes.stairs(bars.counts, edges, fill=True, color=colors.bar, zorder=2)
    top = max(bars.counts)
    axes.set_xlim(bars.low, bars.high)
    axes.set_ylim(0, top)
    counts = sorted({0, top // 2, top})
    axes.set_yticks(counts, [short(n) for n in counts])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=about.whole))
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.tick_params(colors=colors.ink, length=0, labelsize=10)
    axes.set_xlabel(about.axis, color=colors.ink, fontsize=10)
    axes.grid(axis="y", color=colors.grid, linestyle=(0, (2, 3)))
    axes.spines[:].set_visible(False)
    axes.spines.bottom.set_visible(True)
    axes.spines.bottom.set_color(colors.ink)
    if median is not None and bars.low <= median <= bars.high:
        axes.axvline(median, color=colors.median, linestyle=(0, (5, 3)), zorder=3)
        # On the side where there is more room.
        right = median < (bars.low + bars.high) / 2
        axes.annotate(
            f"median {number(median)}",
            (median, top),
            (5 if right else -5, -2),
            textcoords="offset points",
            ha="left" if right else "right",
            va="top",
            color=colors.median,
            fontsize=10,
            fontweight="bold",
            bbox={"facecolor": colors.paper, "edgecolor": "none", "pad": 1},
        )
    return figure


def table_rows(about: Chart, bars: Bars) -> list[tuple[str, int]]:
    """Return the bars that are not empty: their range in words, and their count."""
    rows = []
    for i, count in enumerate(bars.counts):
        low = bars.low + i * bars.width
        name = f"{number(low)} to {number(low + bars.width)}"
        if about.whole and bars.width == 1:
            name = number(low)
        if bars.cut and i == len(bars.counts) - 1:
            name = f"{number(low)} and more"
        if count:
            rows.append((name, count))
    return rows


def number(value: float) -> str:
    """Return a number in three digits, without zeros that say nothing."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def short(count: int) -> str:
    """Return a count in at most four characters or so.

    Examples
    --------
    >>> short(950), short(12_340), short(2_500_000)
    ('950', '12k', '2.5M')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            scaled = count / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(count)


@dataclass(frozen=True, kw_only=True)
class PlateMap:
    """One value of each well of a plate."""

    title: str
    rows: int
    columns: int
    values: Mapping[tuple[int, int], float]
    """By row and column, from 0; NaN where it is not known."""
    failed: Collection[tuple[int, int]] = ()
    """Wells of which every image failed."""
    whole: bool = False
    """Whether the values are counts, whose colors begin at 0."""


CELL_PX = {12: 27, 24: 17, 48: 10}
"""Side of a well, by the columns of a plate."""

LEFT_PX, TOP_PX, RIGHT_PX, BOTTOM_PX = 28, 18, 64, 8


@_settings()
def plate_map(about: PlateMap, colors: Colors = LIGHT) -> Figure:
    """Draw the wells of a plate, each in the color of its value.

    A well without an image is an empty square, and has no color of any value.
    """
    from matplotlib.colors import Normalize

    cell = CELL_PX[about.columns]
    width, height = cell * about.columns, cell * about.rows
    whole = (LEFT_PX + width + RIGHT_PX, TOP_PX + height + BOTTOM_PX)
    figure = _figure(*whole)
    figure.set_facecolor(colors.paper)
    axes = figure.add_axes(
        (LEFT_PX / whole[0], BOTTOM_PX / whole[1], width / whole[0], height / whole[1]),
        facecolor=colors.paper,
    )
    known = {at: v for at, v in about.values.items() if math.isfinite(v)}
    low = 0.0 if about.whole else min(known.values(), default=0.0)
    high = max(known.values(), default=1.0)
    _draw_grid(axes, about, colors, cell)
    # Squares of one shape: a plate of 1,536 paths would be a large file.
    wells = axes.scatter(
        [column + 0.5 for _, column in known],
        [row + 0.5 for row, _ in known],
        s=(cell - 1) ** 2,
        c=list(known.values()),
        marker="s",
        cmap="viridis",
        norm=Normalize(low, high if high > low else low + 1),
        linewidths=0,
        zorder=2,
    )
    written: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": _letter_px(cell),
    }
    if about.columns == LARGEST_WITH_NUMBERS:
        for (row, column), value in known.items():
            ink = "#000000" if value > low + 0.6 * (high - low) else "#ffffff"
            axes.text(column + 0.5, row + 0.5, _brief(value), color=ink, **written)
    for row, column in about.failed:
        axes.text(column + 0.5, row + 0.5, "x", color=colors.median, **written)
    _draw_scale(figure, wells, colors, whole, height)
    return figure


def _letter_px(cell: int) -> int:
    return 8 if cell > 12 else 6


def _brief(value: float) -> str:
    return short(round(value)) if value >= 100 else f"{value:.3g}"


def _draw_grid(axes: Axes, about: PlateMap, colors: Colors, cell: int) -> None:
    """Draw the empty wells, and the names of rows and columns."""
    axes.set_xlim(0, about.columns)
    axes.set_ylim(about.rows, 0)
    axes.spines[:].set_visible(False)
    style: dict[str, Any] = {
        "color": colors.grid,
        "linewidth": 0.7,
        "clip_on": False,
        "zorder": 1,
    }
    axes.hlines(range(about.rows + 1), 0, about.columns, **style)
    axes.vlines(range(about.columns + 1), 0, about.rows, **style)
    step = 1 if cell > 12 else 4
    across, down = (range(0, n, step) for n in (about.columns, about.rows))
    axes.set_xticks([n + 0.5 for n in across], [str(n + 1) for n in across])
    axes.set_yticks([n + 0.5 for n in down], [row_letters(n) for n in down])
    axes.tick_params(colors=colors.ink, length=0, labelsize=_letter_px(cell))
    axes.tick_params(top=True, labeltop=True, labelbottom=False)


LARGEST_WITH_NUMBERS = 12
"""Columns of the largest plate whose wells have room for a number."""


def _draw_scale(
    figure: Figure,
    colored: ScalarMappable,
    colors: Colors,
    whole: tuple[int, int],
    height: int,
) -> None:
    """Draw which color is which value."""
    left, width = (whole[0] - RIGHT_PX + 12) / whole[0], 10 / whole[0]
    box = (left, BOTTOM_PX / whole[1], width, height / whole[1])
    bar = figure.colorbar(colored, cax=figure.add_axes(box))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=colors.ink, length=0, labelsize=9)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")


BLUE, VERMILION = "#0072b2", "#d55e00"
"""Of Okabe and Ito, told apart by color-blind readers."""

SIDES = {"train": BLUE, "validation": VERMILION}

MOST_ABOVE = 1.5
"""The axis of losses ends at so many times the highest of training at the latest."""


@_settings()
def learning_curves(
    history: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> Figure:
    """Draw losses, and precision and recall per class, against epochs.

    Parameters
    ----------
    history
        One row per epoch, as the trainer makes them; at least one.
    classes
        Names of the classes.
    """
    figure = _figure(380 * len(classes), 860, layout="constrained")
    grid = figure.subplots(3, len(classes), squeeze=False)
    _draw_sides(grid[0, 0], "loss", history)
    grid[0, 0].set_title("loss")
    grid[0, 0].legend(frameon=False)
    for unused in grid[0, 1:]:
        unused.remove()
    for axes_row, measure in zip(grid[1:], ("precision", "recall"), strict=True):
        for axes, name in zip(axes_row, classes, strict=True):
            _draw_sides(axes, f"{measure}_{name}", history)
            axes.set_title(f"{measure}, {name}")
            axes.set_ylim(0, 1)
    return figure


def _draw_sides(axes: Axes, key: str, history: Sequence[Mapping[str, float]]) -> None:
    """Draw a quantity of training and validation, what is not finite left out."""
    from matplotlib.ticker import MaxNLocator

    lines = {
        side: np.array([row.get(f"{side}_{key}", math.nan) for row in history])
        for side in SIDES
    }
    top = _top(*lines.values())
    for side, values in lines.items():
        drawn = np.flatnonzero(np.isfinite(values))
        axes.plot(
            drawn + 1,
            np.clip(values[drawn], 0, top),
            "o-",
            color=SIDES[side],
            label=side,
            clip_on=False,
        )
    axes.set_ylim(0, top)
    axes.set_xlim(1, max(len(history), 2))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    axes.grid(color="#e5e5e5")


def _top(
    training: npt.NDArray[np.float64], validation: npt.NDArray[np.float64]
) -> float:
    """Return where the axis of losses ends; what is higher lies on its edge.

    At a high learning rate an epoch's validation loss may be hundreds of times the
    others, which nobody could read beside it.
    """
    highest, other = (
        max(values[np.isfinite(values)], default=0.0)
        for values in (training, validation)
    )
    if highest > 0:
        other = min(other, MOST_ABOVE * highest)
    return float(max(highest, other)) or 1.0


ZERO = 0.5
"""Where no image stands on the logarithmic axis: half way below one."""


@_settings()
def learning_chart(points: Sequence[LearningCurvePoint]) -> Figure:
    """Draw mean AP with intervals, and loss, against numbers of images.

    Parameters
    ----------
    points
        One or more, fewest images first.
    """
    figure = _figure(860, 330, layout="constrained")
    left, right = figure.subplots(1, 2)
    places = [max(p.images, ZERO) for p in points]
    scores = [p.mean_ap for p in points]
    around = [[s.value - s.low for s in scores], [s.high - s.value for s in scores]]
    values = [s.value for s in scores]
    left.errorbar(places, values, yerr=np.maximum(around, 0), fmt="o-", color=BLUE)
    left.set_title("mean AP on images not trained on")
    right.plot(places, [p.loss for p in points], "o-", color=BLUE)
    right.set_title("loss on images not trained on")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(places, [str(p.images) for p in points])
        axes.minorticks_off()
        axes.set_xlabel("annotated images (logarithmic; 0: the start)")
        axes.grid(axis="y", color="#e5e5e5")
    return figure
