"""The outlines of ImageJ's composite and rounded selections."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.imaging.drawn.rasterize import Ring

STEPS = 16
"""Straight pieces that a curve, or the arc of a corner, is replaced by."""
POINTS_OF = {0: 1, 1: 1, 2: 2, 3: 3, 4: 0}
"""Points that follow a command: move, line, quadratic and cubic curve, close
(``java.awt.geom.PathIterator``)."""


def path_rings(path: npt.NDArray[np.floating[Any]]) -> list[Ring]:
    """Return the closed outlines of a path as ImageJ stores composite selections.

    Parameters
    ----------
    path
        Commands, each followed by the coordinates of its points.

    Returns
    -------
    list of ndarray
        Each (N, 2), x and y, filled together by the even-odd rule.

    Raises
    ------
    ValueError
        If a command is unknown or its points are missing.
    """
    rings: list[list[npt.NDArray[np.float64]]] = []
    values = np.asarray(path, np.float64)
    place = 0
    while place < len(values):
        command = values[place]
        if command not in POINTS_OF:
            raise ValueError(f"the path holds the unknown command {command:g}")
        end = place + 1 + 2 * POINTS_OF[int(command)]
        if end > len(values) or (command != 0 and not rings):
            raise ValueError("the path of a composite selection is cut off")
        points = values[place + 1 : end].reshape(-1, 2)
        if command == 0:
            rings.append([points])
        elif command in (1, 2, 3):
            rings[-1].append(_curve(np.vstack((rings[-1][-1][-1:], points))))
        place = end
    return [np.vstack(parts) for parts in rings]


def _curve(control: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return points of a Bezier curve after its first, by de Casteljau's algorithm."""
    if len(control) == 2:
        return control[1:]
    t = (np.arange(1, STEPS + 1) / STEPS)[:, None]
    level = [np.broadcast_to(p, (STEPS, 2)) for p in control]
    while len(level) > 1:
        level = [(1 - t) * a + t * b for a, b in itertools.pairwise(level)]
    return level[0]


def rounded_rectangle(x0: float, y0: float, x1: float, y1: float, arc: float) -> Ring:
    """Return the outline of an upright rectangle; `arc` is its corners' diameter.

    Examples
    --------
    >>> rounded_rectangle(1, 2, 3, 4, 0).tolist()
    [[3.0, 4.0], [1.0, 4.0], [1.0, 2.0], [3.0, 2.0]]
    """
    rx, ry = min(arc, abs(x1 - x0)) / 2, min(arc, abs(y1 - y0)) / 2
    angle = np.linspace(0, np.pi / 2, STEPS + 1) if arc > 0 else np.zeros(1)
    corners = [(x1 - rx, y1 - ry), (x0 + rx, y1 - ry), (x0 + rx, y0 + ry)]
    corners.append((x1 - rx, y0 + ry))
    parts = [
        np.stack(
            (
                cx + rx * np.cos(angle + quarter * np.pi / 2),
                cy + ry * np.sin(angle + quarter * np.pi / 2),
            ),
            axis=1,
        )
        for quarter, (cx, cy) in enumerate(corners)
    ]
    return np.concatenate(parts)
