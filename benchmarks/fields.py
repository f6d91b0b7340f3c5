"""Draw the fields that a model segments best and worst.

    python benchmarks/fields.py DATA [--model nuclei] [--count 3]

For BBBC039 validation and the kept-out images of the Data Science Bowl: the outlines of
the annotation and of the model, in two colours, white where they coincide. Written to
`docs/pictures/best-PART.png` and `worst-PART.png`; names and scores are printed. Images
without a nucleus are left out of the best.
"""

import argparse
from pathlib import Path

import numpy as np
from accuracy import PARTS, by_model, chosen, pixels

from cellunet import store
from cellunet.io.png import write_png
from cellunet.metrics.matching import score_image
from cellunet.outputs.pictures import contact_sheet, draw
from cellunet.tasks.train.data import read_annotated

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--count", type=int, default=3)
    args = parser.parse_args()
    segment = by_model(args.model, flips=False)
    trained = set(store.find_model(args.model).card.training.values())
    for part, pairs in chosen(args.data, trained).items():
        found = []
        for pair in pairs:
            true, predicted = read_annotated(pair).labels, segment(pair)
            score = next(iter(score_image(true, predicted, name=pair.name).values()))
            found.append((score.mean_ap, pair.name, pair, true, predicted))
        found.sort(key=lambda f: f[:2])
        filled = [f for f in found if f[3].any()]
        for kind, some in (
            ("worst", found[: args.count]),
            ("best", filled[::-1][: args.count]),
        ):
            panels = [draw(pixels(p), t, other=q) for _, _, p, t, q in some]
            sheet = contact_sheet(panels)
            path = PICTURES / f"{kind}-{part.partition('-')[0]}.png"
            write_png(path, np.ascontiguousarray(sheet))
            for score, name, *_ in some:
                print(f"{PARTS[part]}: {kind}: {name} {score:.3f}")


if __name__ == "__main__":
    main()
