"""Count how many images that fail are warned of, and how many that succeed.

    python benchmarks/warned.py MODEL DATA... [--json FILE]

Every image of the annotated DATA folders that MODEL was not trained on is segmented by
`cellunet predict` without an option, and scored against its annotation. An image fails
if its F1 at IoU .50 is below .6 and succeeds from .85 on; others count as neither.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cellunet import store
from cellunet.annotations.pairs import find_pairs, fingerprint
from cellunet.tasks.train.data import ChannelChoice, read_sample

FAILS, SUCCEEDS = 0.6, 0.85


def cellunet(*arguments: str | Path) -> str:
    """Return what a command printed."""
    call = [sys.executable, "-m", "cellunet", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return done.stdout


def judged(model: store.Model, data: Path, out: Path) -> list[dict[str, object]]:
    """Return each unseen image of a folder: its F1 at IoU .50 and its warnings."""
    trained = set(model.card.training.values())
    unseen = out.parent / f"{out.name}-unseen"
    for pair in find_pairs(data).pairs:
        if fingerprint(read_sample(pair, ChannelChoice()).image) not in trained:
            for kind, file in (("images", pair.image), ("labels", pair.annotation)):
                (unseen / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, unseen / kind / file.name)
    options = ("--out", out, "--model", model.name, "--json")
    said = cellunet("predict", unseen / "images", *options)
    warnings = {
        Path(image["input"]).stem: image["warnings"]
        for image in json.loads(said)["result"]["images"]
    }
    scores = out.parent / f"{out.name}.csv"
    cellunet("evaluate", unseen, "--pred", out, "--out", scores)
    with scores.open(newline="") as lines:
        return [
            {
                "data": data.name,
                "image": row["name"],
                "f1": round(float(row["f1_0.50"]), 3),
                "warnings": [line.split(":")[0] for line in warnings[row["name"]]],
            }
            for row in csv.DictReader(lines)
            if row["form"] == "all" and row["name"] in warnings
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = store.find_model(options.model)
    rows: list[dict[str, object]] = []
    print("| images | of | F1 below .6 | warned of | F1 from .85 on | warned of |")
    print("| --- | --- | --- | --- | --- | --- |")

    def row(name: str, found: list[dict[str, object]]) -> None:
        cells = [len(found)]
        for low, high in ((0.0, FAILS), (SUCCEEDS, 1.01)):
            kind = [r for r in found if low <= float(str(r["f1"])) < high]
            cells += [len(kind), sum(bool(r["warnings"]) for r in kind)]
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for data in options.data:
            found = judged(model, data, Path(folder) / data.name)
            row(data.name, found)
            rows += found
    row("all", rows)
    if options.json:
        about = {"model": model.name, "sha256": model.sha256, "images": rows}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
