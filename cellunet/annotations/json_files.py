"""Read JSON of annotations, and refuse what is not as it should be by name."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.shapes import MAX_COORDINATE
from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.annotations.shapes import Ring

MAX_BYTES = 1 << 29
"""Of the text: 512 MiB become several GiB of objects."""

_AGAIN = "Export it again."


def read_json(path: Path, content: bytes | None = None) -> Any:  # noqa: ANN401
    """Return the document in a JSON file, also a gzipped one.

    Parameters
    ----------
    path
        The file.
    content
        What `read_bytes` returned of it, if it was read before.

    Raises
    ------
    AnnotationError
        If the file is missing, too large, cut off, nested too deeply or no JSON.
    """
    try:
        # QuPath up to 0.4 writes measurements that are NaN bare. Numbers that are read
        # are checked where they are read.
        return json.loads(read_bytes(path) if content is None else content)
    except RecursionError as error:
        raise AnnotationError(
            f"{path} is nested too deeply to be an annotation.", hint=_AGAIN
        ) from error
    except ValueError as error:
        raise AnnotationError(f"{path} is no JSON: {error}.", hint=_AGAIN) from error


def read_bytes(path: Path) -> bytes:
    """Return the text of a file of shapes, also of a gzipped one.

    Raises
    ------
    AnnotationError
        If the file is missing, too large or cut off.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            # At most what is allowed, whatever a gzip header claims.
            file = gzip.GzipFile(fileobj=plain) if packed else plain
            text = file.read(MAX_BYTES + 1)
    except (EOFError, zlib.error) as error:
        raise AnnotationError(f"{path} is cut off: {error}.", hint=_AGAIN) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise AnnotationError(
            f"{path} cannot be read: {reason}.", hint="Copy or export it again."
        ) from error
    if len(text) > MAX_BYTES:
        raise AnnotationError(
            f"{path} holds more than {MAX_BYTES >> 20} MiB of text.",
            hint="Export fewer images or objects a file.",
        )
    return bytes(text).removeprefix(b"\xef\xbb\xbf")


VIA_METADATA = "_via_img_metadata"
"""Where a project of VGG Image Annotator keeps its regions."""


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
    first = next(iter(document.values()), None)
    is_via_image = isinstance(first, dict) and {"filename", "regions"} <= first.keys()
    if VIA_METADATA in document or is_via_image:
        return "via"
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


def ring(points: object, what: str, *, least: int = 0) -> Ring:
    """Return a list of points as (N, 2) float64; dimensions beyond x and y are left.

    Raises
    ------
    AnnotationError
        If a point is none, a coordinate is not a finite number, or there are fewer
        than `least` points.
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
    if len(found) < least:
        raise AnnotationError(f"{what} has {len(found)} points; {least} are needed.")
    return found


def shown(value: object) -> str:
    """Return a value as messages show it: short, on one line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
