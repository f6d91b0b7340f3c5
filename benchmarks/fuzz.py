"""Read thousands of mutated files, and say what became of each.

    python -m benchmarks.fuzz --count 1200 --out benchmarks/results-fuzz.json

Every case ends in success or in one line of a CellunetError; a traceback, a crash of
the process, or more than ten seconds is a defect, and makes the exit code 1. A native
decoder that is lost in a process of its own is told apart and is none. With
`--max-memory` images are counted against that bound before they are read. The same
seed gives the same cases (`tests/faults/fuzzing`), each named by format and number.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from tests.faults.fuzzing.mutate import FORMATS
from tests.faults.fuzzing.runner import fuzz


def main() -> int:
    """Fuzz, print a line per format, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--count", type=int, default=1200, help="cases of each format")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=[*FORMATS])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--max-memory", type=int, default=0, metavar="MB")
    asked = parser.parse_args()
    figures, bad = {}, 0
    for name in asked.formats:
        tally = fuzz([name], asked.seed, asked.count, asked.max_memory)[name]
        figures[name] = tally.to_dict()
        print(name, figures[name], flush=True)
        for case in tally.bad:
            bad += 1
            print(f"{name} {case['index']}: {case['outcome']}\n{case['where']}")
    if asked.out:
        about = {
            "command": "python -m benchmarks.fuzz " + " ".join(sys.argv[1:]),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "cases": sum(figure["cases"] for figure in figures.values()),
            "defects": bad,
            "formats": figures,
        }
        text = json.dumps(about, indent=2) + "\n"
        asked.out.write_text(text, encoding="utf-8")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
