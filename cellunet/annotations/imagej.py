"""Read regions of interest of ImageJ and Fiji: ``.roi``, a zip, a TIFF's overlay.

Area selections of ImageJ count from the corner of the first pixel, which covers 0 to 1
(ImageJ documentation, "Integer and subpixel coordinates"). Of a pixel whose center lies
exactly on an outline, ImageJ 1.53t takes those on the right and lower side; rectangles
and ovals at fractions of a pixel it fills on whole ones. Both are done here as there,
since people see ImageJ's mask when they draw. Nothing is ever unpacked to disk.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from cellunet.annotations.shapes import (
    DrawnShape,
    Oval,
    Polygons,
    Strokes,
    role_of,
    stroke_role,
)
from cellunet.bugs import bug, is_bug
from cellunet.errors import AnnotationError, CellunetError
from cellunet.io.source import reading
from cellunet.io.tiff_checks import scan_directories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.shapes import Fillable, Ring

STEPS = 64
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


MAX_ROI_BYTES = 1 << 24
"""Of one ROI: an outline of two million points."""

MAX_SET_BYTES = 1 << 29
"""Of all ROIs of a set together."""

SPLINE_FIT = 1
"""Bit of the options of a ROI."""

STROKES = ("point", "line", "polyline", "freeline")
"""Kinds of ROIs that can be scribbles."""

BARS = tuple(name.encode("utf-16-be") for name in ("|SB|", "|CB|"))
"""Names of the scale bars and calibration bars that ImageJ draws into overlays."""

_AGAIN = "Save the set again: ROI Manager, More, Save."

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,  # an encrypted file
)

_NOT_A_ROI = (
    ValueError,
    TypeError,
    IndexError,
    struct.error,
    RuntimeError,
    NotImplementedError,
    OverflowError,
)


def roi_drawings(
    path: Path, *, channels: int = 1, packed: bytes | None = None
) -> list[DrawnShape]:
    """Return the ROIs of a file, in their order.

    Polygon, freehand, traced, oval, rectangle (rounded, rotated) and composite
    selections, and ellipses. ROIs named ``ignore`` and ``region`` say what does not
    count. Points and lines named ``interior`` or ``background`` are scribbles.

    Parameters
    ----------
    path
        A ROI, a zip of them, or a TIFF with an overlay.
    channels
        Channels of the image. ImageJ numbers the slices of a stack, channels first, so
        that ROIs of one plane may differ in their position.
    packed
        The content of the file, if it was read before.

    Raises
    ------
    AnnotationError
        If the file is damaged, or holds ROIs of several planes of a stack.
    """
    found, planes = [], set()
    for entry, content in _contents(path, packed):
        roi = _decoded(entry, content, path)
        name = roi.name or entry
        kind = _other_kind(roi)
        role = role_of(name) if kind is None else stroke_role(name)
        if role is None or kind not in (None, *STROKES):
            found.append(DrawnShape(f"{name} ({kind})", Polygons(())))
            continue
        place = -(-roi.position // channels), roi.z_position, roi.t_position
        plane = place if any(place) else ()
        planes.add(plane)
        # Damaged coordinates may be NaN that numpy warns of; they are refused.
        with np.errstate(invalid="ignore"):
            figure = _figure(roi, name, path)
        found.append(DrawnShape(name, figure, role, plane))
    planes.discard(())
    if len(planes) > 1:
        raise AnnotationError(
            f"The ROIs of {path} lie on {len(planes)} planes of a stack.",
            hint="Save the ROIs of each plane as a set of their own.",
        )
    return found


def overlay(path: Path) -> list[bytes]:
    """Return the ROIs of the overlay that ImageJ keeps in a TIFF, bars left out.

    None where there is no overlay. What is wrong with a file is for its reader to say.
    """
    if not path.name.lower().endswith((".tif", ".tiff")):
        return []
    try:
        with reading(path):
            scan_directories(path, path.stat().st_size)
        with reading(path), tifffile.TiffFile(path, _multifile=False) as tiff:
            found = (tiff.imagej_metadata or {}).get("Overlays", [])
    except CellunetError:
        return []
    rois = [found] if isinstance(found, bytes) else found
    return [roi for roi in rois if not any(name in roi for name in BARS)]


def _contents(path: Path, packed: bytes | None) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each ROI."""
    inside = overlay(path)
    for number, content in enumerate(inside, 1):
        yield f"{path.stem} {number}", _limited(content, f"ROI {number}", path)
    if inside:
        return
    try:
        with path.open("rb") if packed is None else io.BytesIO(packed) as file:
            if file.read(4) == b"Iout":
                file.seek(0)
                yield path.stem, _limited(file.read(MAX_ROI_BYTES + 1), path.name, path)
                return
            rois = zipfile.ZipFile(file)
            for entry in _entries(rois, path):
                with rois.open(entry) as one:
                    content = one.read(MAX_ROI_BYTES + 1)
                yield (
                    PurePosixPath(entry.filename).stem,
                    _limited(content, entry.filename, path),
                )
    except OSError as error:
        reason = error.strerror or str(error)
        raise AnnotationError(f"{path} cannot be read: {reason}.") from error
    except _DAMAGED as error:
        raise AnnotationError(
            f"{path} is no ROI and no complete zip of ROIs: {error}.", hint=_AGAIN
        ) from error


def _entries(packed: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the entries to read; refuse what no ROI Manager writes."""
    entries = [e for e in packed.infolist() if not _litter(e)]
    total = sum(e.file_size for e in entries)
    if total > MAX_SET_BYTES:
        raise AnnotationError(
            f"{path} claims to hold {total:,} bytes in a file of "
            f"{path.stat().st_size:,}; sets of up to {MAX_SET_BYTES:,} are read.",
            hint=_AGAIN,
        )
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
            raise AnnotationError(
                f"{path} holds {name!r}, a name that leaves its folder.", hint=_AGAIN
            )
        if not name.lower().endswith(".roi"):
            raise AnnotationError(
                f"{path} holds {name!r}, which is no ROI.",
                hint="A set of ROIs is what the ROI Manager saves.",
            )
    if not entries:
        raise AnnotationError(f"{path} holds no ROI.", hint=_AGAIN)
    return entries


def _litter(entry: zipfile.ZipInfo) -> bool:
    """Return whether an entry is a folder or what macOS adds to a zip."""
    # Not `is_dir`, which takes a name of no letters for a bug.
    return entry.filename.endswith("/") or entry.filename.startswith("__MACOSX/")


def _limited(content: bytes, name: str, path: Path) -> bytes:
    if len(content) > MAX_ROI_BYTES:
        raise AnnotationError(
            f"{path}: {name} is larger than {MAX_ROI_BYTES:,} bytes, too large for "
            "a ROI.",
            hint=_AGAIN,
        )
    return content


def _decoded(name: str, content: bytes, path: Path) -> Any:  # noqa: ANN401
    # Here, because most calls read none.
    import roifile

    try:
        return roifile.ImagejRoi.frombytes(content)
    except _NOT_A_ROI as error:
        if is_bug(error):
            raise bug(error, path) from error
        raise AnnotationError(
            f"{path}: {name} is damaged or no ROI: {error}.", hint=_AGAIN
        ) from error


def _other_kind(roi: Any) -> str | None:  # noqa: ANN401
    """Return the name of a kind that encloses nothing; None if it is an area."""
    if roi.subtype.name in ("TEXT", "IMAGE", "ARROW"):
        return str(roi.subtype.name).lower()
    if roi.roitype.name in ("POLYGON", "FREEHAND", "TRACED", "RECT", "OVAL"):
        return None
    return str(roi.roitype.name).lower()


def _figure(roi: Any, name: str, path: Path) -> Fillable:  # noqa: ANN401
    if roi.options & SPLINE_FIT:
        raise AnnotationError(
            f"{path}: {name} is a spline, of which the file holds the knots alone.",
            hint="Make it a polygon: Edit, Selection, Interpolate. Then update the "
            "set.",
        )
    try:
        return _area(roi)
    except _NOT_A_ROI as error:
        if is_bug(error):
            raise bug(error, path) from error
        raise AnnotationError(f"{path}: {name}: {error}.", hint=_AGAIN) from error


def _area(roi: Any) -> Fillable:  # noqa: ANN401
    if roi.composite:
        rings = tuple(path_rings(roi.multi_coordinates))
        return Polygons((rings,), lower_right=True)
    x0, y0, x1, y1 = map(float, (roi.left, roi.top, roi.right, roi.bottom))
    if roi.subpixelrect:
        x0, y0 = math.trunc(roi.xd), math.trunc(roi.yd)
        x1, y1 = x0 + math.ceil(roi.widthd), y0 + math.ceil(roi.heightd)
    if roi.roitype.name == "OVAL":
        return Oval(x0, y0, x1, y1)
    if roi.roitype.name == "RECT":
        arc = float(roi.rounded_rect_arc_size)
        corners = rounded_rectangle(x0, y0, x1, y1, arc)
        return Polygons(((corners,),), lower_right=True)
    points = np.asarray(roi.coordinates(), np.float64)
    kind = _other_kind(roi)
    if kind is not None:
        # Unlike areas, points and lines of ImageJ count from the center of the first
        # pixel.
        points = points + 0.5
        lines = np.split(points, len(points)) if kind == "point" else [points]
        return Strokes(tuple(lines))
    return Polygons(((points,),), lower_right=True)
