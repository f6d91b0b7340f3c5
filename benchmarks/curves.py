"""Draw accuracy against operations per pixel, and against training time.

    pip install matplotlib
    python benchmarks/curves.py

Reads `benchmarks/experiments.jsonl`. The left panel holds the runs whose names begin
with ``c-`` (the same steps, networks of several sizes), the right one those of ``m-``
and ``c-32-32-64`` (the same network, several lengths). Writes
`docs/pictures/curves.png`, and prints both as tables.
"""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "pictures" / "curves.png"
PLAIN = "c-32-32-64"


def table(rows: list[dict], key: str, title: str) -> None:
    print(f"| run | {title} | steps | mean AP | F1 at .50 | F1 at .90 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        s = row["cross_fitted"]
        print(
            f"| `{row['name']}` | {row[key]:g} | {row['steps']:,} | {s['mean_ap']:.3f} "
            f"| {s['f1_50']:.3f} | {s['f1_90']:.3f} |"
        )


def main() -> None:
    lines = (HERE / "experiments.jsonl").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    for row in results:
        row["kflop"] = round(row["flop_per_px"] / 1e3, 1)
    sizes = sorted(
        (r for r in results if r["name"].startswith("c-")), key=lambda r: r["kflop"]
    )
    lengths = sorted(
        (r for r in results if r["name"].startswith("m-") or r["name"] == PLAIN),
        key=lambda r: r["steps"],
    )
    table(sizes, "kflop", "kFLOP per pixel")
    table(lengths, "minutes", "minutes")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    for axis, rows, key, title in (
        (axes[0], sizes, "kflop", "kFLOP per pixel, 2,400 steps"),
        (axes[1], lengths, "steps", "steps of 8 crops, 28 kFLOP per pixel"),
    ):
        values = [r["cross_fitted"]["mean_ap"] for r in rows]
        axis.plot([r[key] for r in rows], values, "o-", color="#0072b2")
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[1].set_xscale("log")
    axes[0].set_ylabel("mean AP, BBBC039 validation")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
