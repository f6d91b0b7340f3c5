"""Draw which part of `predict` takes how long, of this build and of an earlier one.

    py-spy record -r 100 --nonblocking -f raw -t -o now.raw -- COMMAND
    python benchmarks/parts.py before.raw now.raw

py-spy 0.4.3 looks at every Python thread 100 times a second. Each look counts for the
innermost function of cellunet at work, and not at all where it only waits. Threads of a
library (those of onnxruntime) are not seen: the network counts from call to answer.
Parts run beside each other, so they add up to more than the command took. Prints a
table and writes `docs/pictures/parts.svg`.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from cellunet.outputs import charts

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "parts.svg"
LOOKS_A_SECOND = 100
PARTS = {
    "network": r"engine/(ort|runtimes)",
    "waiting": r"tasks/scheduling|run/ahead|decoder_child",
    "read, decompress": r"io/(decod|tiff|source|images)|imaging/(native|tiff|read)",
    "write labels": r"io/label_|imaging/(sink|atomic)|io/files",
    "keep what waits": r"scratch|imaging/pieces",
    "intensities, empty parts": r"normalize|order_stat|intensities|empty|resamp",
    "confidence and quality": r"measure|objects/|appearance|quality",
    "seeds, growth, holes": r"imaging/(decod|comp|growth|unionf|targ|encod|blocks)",
    "start and the rest": r"",
}
"""Parts by paths within the package, the first that fits: both builds have others."""
OWN = re.compile(r"\([^()]*\bcellunet/([^:()]+\.py):\d+\)")


def seconds(path: Path) -> Counter[str]:
    """Return the seconds of each part."""
    found: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, looks = line.rpartition(" ")
        own = OWN.findall(stack)
        if own:
            part = next(
                p for p, pattern in PARTS.items() if re.search(pattern, own[-1])
            )
            found[part] += int(looks) / LOOKS_A_SECOND
    return found


def main() -> None:
    sides = {Path(name).stem: seconds(Path(name)) for name in sys.argv[1:]}
    shown = [part for part in PARTS if part != "waiting"]
    print("| part |", " | ".join(f"{side}, s" for side in sides), "|")
    print("| --- |" + " --- |" * len(sides))
    for part in shown:
        print(f"| {part} |", " | ".join(f"{s[part]:.2f}" for s in sides.values()), "|")
    with mpl.rc_context(charts.SETTINGS):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        high = 0.8 / len(sides)
        for number, (side, found) in enumerate(sides.items()):
            places = [place + number * high for place in range(len(shown))]
            axes.barh(places, [found[part] for part in shown], high, label=side)
        middle = high * (len(sides) - 1) / 2
        axes.set_yticks([place + middle for place in range(len(shown))], shown)
        axes.invert_yaxis()
        axes.set_xlabel("seconds at work")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
    PICTURE.write_text(charts.svg(figure, "Parts of predict"), encoding="utf-8")


if __name__ == "__main__":
    main()
