"""The record of one image that a report is made from, as JSON.

It lies in the folder of results, so that a run that finds an image finished can still
show it, and so that no report holds more than one picture in memory.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cellunet.report.summary import Histogram, ImageSummary

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1


def to_json(image: ImageSummary, of: str) -> str:
    """Return a record in ASCII.

    Parameters
    ----------
    image
        A finished image.
    of
        What the labels are known by, so that the record of other labels is noticed.
    """
    values = {
        "format": FORMAT,
        "of": of,
        "objects": image.objects,
        "diameters": _pairs(image.diameters),
        "confidences": _pairs(image.confidences) if image.confidences else None,
        "shape": list(image.shape),
        "pixel_size_um": image.pixel_size_um and list(image.pixel_size_um),
        "pixel_size_from": image.pixel_size_from,
        "notes": list(image.notes),
        "seconds": image.seconds,
        "warnings": list(image.warnings),
        "plane": image.plane,
        "thumbnail_size": list(image.thumbnail_size),
        "thumbnail": base64.b64encode(image.thumbnail).decode("ascii"),
    }
    return json.dumps(values, allow_nan=False)


def from_json(content: str | bytes, name: str) -> tuple[ImageSummary, str]:
    """Return an image, under the name given, and what its labels are known by.

    Raises
    ------
    ValueError
        If it is not a record that this version wrote.
    """
    try:
        values = json.loads(content)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        return _image(values, name), str(values["of"])
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no record of an image ({error})") from error


def _image(values: Mapping[str, Any], name: str) -> ImageSummary:
    size = values["pixel_size_um"]
    width, height = values["thumbnail_size"]
    confidences = values["confidences"]
    return ImageSummary(
        name=name,
        status="done",
        thumbnail=base64.b64decode(values["thumbnail"], validate=True),
        thumbnail_size=(int(width), int(height)),
        plane=str(values["plane"]),
        objects=int(values["objects"]),
        diameters=_histogram(values["diameters"]),
        confidences=_histogram(confidences) if confidences else None,
        shape=tuple(int(n) for n in values["shape"]),
        pixel_size_um=(float(size[0]), float(size[1])) if size else None,
        # Records of before this was known do not have them.
        pixel_size_from=str(values.get("pixel_size_from", "")),
        notes=tuple(str(n) for n in values.get("notes", ())),
        seconds=float(values["seconds"]),
        warnings=tuple(str(w) for w in values["warnings"]),
    )


def _pairs(histogram: Histogram) -> list[Any]:
    return [histogram.step, *([p, n] for p, n in histogram.counts.items())]


def _histogram(pairs: list[Any]) -> Histogram:
    step, *rest = pairs
    counts = {int(place): int(number) for place, number in rest}
    return Histogram(step=float(step), counts=counts)
