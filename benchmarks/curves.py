"""Draw accuracy against operations per pixel, and against the length of training.

    python benchmarks/curves.py docs/pictures/curves.png

Of the results in `benchmarks/experiments.jsonl`, those trained on BBBC039 alone from
random weights with the three-class target. Needs matplotlib.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

RESULTS = Path(__file__).with_name("experiments.jsonl")
AGAINST_OPERATIONS = ("c-16-32-64", "c-32-32-64", "c-32-64-128", "c-48-80-128")
WITH_FULL_RESOLUTION = ("f-8-32-32-64", "f-16-32-32-64")
"""The same with a finest level of 8 and of 16 features at full resolution."""
AGAINST_STEPS = ("m-600", "c-32-32-64", "m-6000")
SCORES = {"mean_ap": "mean AP", "f1_50": "F1 at IoU .50", "f1_90": "F1 at IoU .90"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("picture", type=Path)
    picture = parser.parse_args().picture
    lines = map(json.loads, RESULTS.read_text().splitlines())
    results = {result["name"]: result for result in lines}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    draw(left, present(results, AGAINST_OPERATIONS), "flop_per_px", 1e3)
    draw(left, present(results, WITH_FULL_RESOLUTION), "flop_per_px", 1e3, fine=True)
    left.set(xlabel="kFLOP per pixel", title="2,400 steps of 8 crops", xlim=(0, 100))
    draw(right, present(results, AGAINST_STEPS), "steps", 1)
    right.set(xlabel="steps of 8 crops", title="28 kFLOP per pixel", xlim=(0, 6500))
    left.set(ylabel="50 BBBC039 validation images, cross-fitted")
    left.legend(frameon=False, loc="center right")
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


def present(results: dict[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [results[name] for name in names if name in results]


def draw(
    axes: Any,  # noqa: ANN401
    rows: list[dict[str, Any]],
    key: str,
    unit: float,
    *,
    fine: bool = False,
) -> None:
    axes.set_prop_cycle(None)
    style: dict[str, Any] = {"linestyle": ":", "fillstyle": "none"} if fine else {}
    for (score, label), marker in zip(SCORES.items(), "osd", strict=True):
        values = [row["cross_fitted"][score] for row in rows]
        label = "_" if fine else label
        places = [row[key] / unit for row in rows]
        axes.plot(places, values, marker=marker, label=label, **style)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    main()
