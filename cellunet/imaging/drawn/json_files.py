"""JSON that others wrote: read within limits, and checked as it is walked through."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.rasterize import MAX_COORDINATE

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.imaging.drawn.rasterize import Ring

MAX_BYTES = 1 << 29
"""Of the text: 512 MiB become several GiB of objects."""
_AGAIN = "Export it again."


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return the document in a JSON file, also a gzipped one.

    Raises
    ------
    AnnotationError
        If the file is missing, too large, cut off, nested too deeply or no JSON.
    """
    try:
        text = _read(path)
        return json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AnnotationError(
            f"{path} cannot be read: {reason}.", hint="Copy or export it again."
        ) from error
    except (EOFError, zlib.error) as error:
        raise AnnotationError(f"{path} is cut off: {error}.", hint=_AGAIN) from error
    except RecursionError as error:
        raise AnnotationError(
            f"{path} is nested too deeply to be an annotation.", hint=_AGAIN
        ) from error
    except ValueError as error:
        raise AnnotationError(f"{path} is no JSON: {error}.", hint=_AGAIN) from error


def _read(path: Path) -> bytes:
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        # At most what is allowed, whatever a gzip header claims.
        file = gzip.GzipFile(fileobj=plain) if packed else plain
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise AnnotationError(
            f"{path} holds more than {MAX_BYTES >> 20} MiB of JSON.",
            hint="Export fewer images or objects a file.",
        )
    return bytes(text).removeprefix(b"\xef\xbb\xbf")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds the number {name}")


def kind_of(document: object) -> str | None:
    """Return the kind of annotation that a JSON document holds; None if it is none.

    Examples
    --------
    >>> kind_of({"shapes": [], "imagePath": "a.png"}), kind_of([]), kind_of({})
    ('labelme', 'geojson', None)
    """
    if isinstance(document, list):
        features = all(isinstance(d, dict) and "type" in d for d in document[:10])
        return "geojson" if features else None
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("shapes"), list):
        return "labelme"
    if isinstance(document.get("images"), list):
        return "coco" if isinstance(document.get("annotations"), list) else None
    return "geojson" if isinstance(document.get("type"), str) else None


def table(value: object, what: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object, or refuse it by `what`."""
    if not isinstance(value, dict):
        raise AnnotationError(f"{what} is {shown(value)}; an object is expected.")
    return value


def rows(value: object, what: str) -> list[Any]:
    """Return `value` if it is a JSON list, or refuse it by `what`."""
    if not isinstance(value, list):
        raise AnnotationError(f"{what} is {shown(value)}; a list is expected.")
    return value


def number(value: object, what: str) -> float:
    """Return `value` if it is a finite number, or refuse it by `what`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        finite = abs(value) < 1e300 if isinstance(value, int) else math.isfinite(value)
        if finite:
            return float(value)
    raise AnnotationError(f"{what} is {shown(value)}; a number is expected.")


def whole(value: object, what: str) -> int:
    """Return `value` if it is a whole number of 0 and above, or refuse it."""
    found = number(value, what)
    if found < 0 or found != int(found):
        raise AnnotationError(f"{what} is {shown(value)}; 0, 1, 2, ... is expected.")
    return int(found)


def ring(points: object, what: str, *, least: int = 3) -> Ring:
    """Return a list of points as (N, 2) float64; dimensions beyond x and y are left.

    Raises
    ------
    AnnotationError
        If a point is none, a coordinate is not a finite number, or there are fewer
        than `least` different points.
    """
    listed = rows(points, what)
    try:
        found = np.array([(p[0], p[1]) for p in listed], np.float64).reshape(-1, 2)
        texts = any(isinstance(v, str | bool) for p in listed for v in p[:2])
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise AnnotationError(f"{what} holds a point that is no pair x, y.") from error
    if texts or not np.isfinite(found).all():
        raise AnnotationError(f"{what} holds a coordinate that is no finite number.")
    if np.abs(found).max(initial=0) > MAX_COORDINATE:
        raise AnnotationError(
            f"{what} holds a coordinate beyond {MAX_COORDINATE:g} pixels."
        )
    different = len(np.unique(found, axis=0))
    if different < least:
        raise AnnotationError(
            f"{what} has {different} different points; {least} or more enclose "
            "something."
        )
    return found


def shown(value: object) -> str:
    """Return a value as messages show it: short, on one line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
