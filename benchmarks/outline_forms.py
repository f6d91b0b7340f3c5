"""Compare areas, lengths and shapes of the forms of an outline with the truth.

    python benchmarks/outline_forms.py [--json FILE]

Discs and ellipses whose size is known are drawn with their centres and angles at random
and outlined in each form of `cellunet.imaging.outlines.FORMS`. For each group
the mean and the root mean square error is printed: in per cent of the area and of the
length of the outline, and absolute of the eccentricity of the shape that it encloses.
The pixels' own area and the eccentricity of their moments are told beside.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.special import ellipe

from cellunet.imaging.measure import eccentricity, measure_labels
from cellunet.imaging.outlines import FORMS, outlines

GROUPS = {
    "discs, radius 3 to 6": (3, 6, (1.0, 1.0)),
    "discs, radius 6 to 12": (6, 12, (1.0, 1.0)),
    "discs, radius 12 to 30": (12, 30, (1.0, 1.0)),
    "ellipses, half axes 6 to 30, ratio .4 to .9": (6, 30, (0.4, 0.9)),
}
SHAPES = 200
SEED = 0


def draw(a: float, b: float, angle: float, centre: tuple[float, float]) -> np.ndarray:
    """Return the pixels whose centres lie in an ellipse around `centre` (y, x)."""
    side = int(2 * a + 6)
    y, x = np.mgrid[:side, :side] + 0.5
    dy, dx = y - side / 2 - centre[0], x - side / 2 - centre[1]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / a
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / b
    return (u * u + v * v <= 1).astype(np.uint8)


def polygon_moments(rings: list[np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Return area, length and central second moments (xx, yy, xy) of a polygon."""
    total = np.zeros(6)
    length = 0.0
    for ring in rings:
        x0, y0 = ring.T
        x1, y1 = np.roll(ring, -1, axis=0).T
        length += np.hypot(x1 - x0, y1 - y0).sum()
        c = x0 * y1 - x1 * y0
        total += [
            c.sum() / 2,
            (c * (x0 + x1)).sum() / 6,
            (c * (y0 + y1)).sum() / 6,
            (c * (x0 * x0 + x0 * x1 + x1 * x1)).sum() / 12,
            (c * (y0 * y0 + y0 * y1 + y1 * y1)).sum() / 12,
            (c * (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0)).sum() / 24,
        ]
    area, sx, sy, sxx, syy, sxy = total
    central = np.array(
        [sxx / area - (sx / area) ** 2, syy / area - (sy / area) ** 2,
         sxy / area - sx * sy / area**2]
    )  # fmt: skip
    return area, length, central


def errors(group: tuple, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return per form an array of shapes and (area %, length %, eccentricity)."""
    low, high, ratios = group
    found: dict[str, list] = {form: [] for form in (*FORMS, "pixel count, moments")}
    for _ in range(SHAPES):
        a = rng.uniform(low, high)
        b = a * rng.uniform(*ratios)
        mask = draw(a, b, rng.uniform(0, np.pi), tuple(rng.uniform(-0.5, 0.5, 2)))
        area, true = np.pi * a * b, np.sqrt(1 - (b / a) ** 2)
        # The complete elliptic integral of the second kind, of the squared modulus.
        length = 4 * a * ellipe(true**2)
        for form in FORMS:
            (rings,) = outlines(mask, form)[1]
            got_area, got_length, (xx, yy, xy) = polygon_moments(rings)
            shape = float(eccentricity(np.array([[xx, yy, xy]]))[0])
            found[form].append(
                (100 * (got_area / area - 1), 100 * (got_length / length - 1),
                 shape - true)
            )  # fmt: skip
        table = measure_labels(mask)
        found["pixel count, moments"].append(
            (100 * (mask.sum() / area - 1), np.nan, table["eccentricity"][0] - true)
        )
    return {form: np.array(rows) for form, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    for name, group in GROUPS.items():
        results[name] = {}
        for form, rows in errors(group, np.random.default_rng(SEED)).items():
            mean, spread = rows.mean(axis=0), np.sqrt((rows**2).mean(axis=0))
            figures = {
                what: {"mean": float(m), "rms": float(s)}
                for what, m, s in zip(
                    ("area_percent", "length_percent", "eccentricity"),
                    mean,
                    spread,
                    strict=True,
                )
                if np.isfinite(m)
            }
            results[name][form] = figures
            told = "  ".join(
                f"{k} {v['mean']:+.2f} (rms {v['rms']:.2f})" for k, v in figures.items()
            )
            print(f"{name}, {form}: {told}")
    if options.json:
        text = json.dumps({"shapes": SHAPES, "results": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
