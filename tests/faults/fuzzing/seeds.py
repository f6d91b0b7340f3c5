"""Small valid files of every format, made the same way each time."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from typing import Any

import numpy as np
import tifffile

SIDE = 24


def _pixels() -> np.ndarray[Any, np.dtype[np.uint16]]:
    yx = np.mgrid[:SIDE, :SIDE]
    disc = np.hypot(yx[0] - 10, yx[1] - 13) < 6
    return (200 + 900 * disc + (yx[0] * 7 + yx[1] * 13) % 50).astype(np.uint16)


def _tiff(pixels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"metadata": None, **options})
    return file.getvalue()


@cache
def tiffs() -> tuple[bytes, ...]:
    """Classic and BigTIFF, both byte orders, striped, tiled, compressed, stacks."""
    gray = _pixels()
    stack = np.stack([gray, gray[::-1], gray.T])
    color = np.stack([gray >> 3, gray >> 4, gray >> 5], axis=-1).astype(np.uint8)
    tiled = {"tile": (16, 16), "photometric": "minisblack"}
    return (
        _tiff(gray, rowsperstrip=8),
        _tiff(gray, rowsperstrip=8, byteorder=">", compression="zlib"),
        _tiff(gray, bigtiff=True, compression="lzw", **tiled),
        _tiff(gray, bigtiff=True, byteorder=">", **tiled),
        _tiff(gray, compression="packbits", rowsperstrip=24),
        _tiff(gray, compression="zstd", predictor=True, **tiled),
        _tiff(gray.astype(np.float32), compression="zlib", predictor=True, **tiled),
        _tiff(gray, compression="lzma", rowsperstrip=6),
        _tiff((gray >> 3).astype(np.uint8), compression="jpeg", **tiled),
        _tiff(color, photometric="rgb", compression="zlib"),
        _tiff(stack, photometric="minisblack", rowsperstrip=8),
        _tiff(stack, imagej=True, metadata={"axes": "ZYX"}),
        _tiff(gray > 500, photometric="minisblack"),
    )


@cache
def codecs() -> tuple[bytes, ...]:
    """A tiled TIFF of every compression whose decoder runs in a process of its own."""
    gray = (_pixels() >> 3).astype(np.uint8)
    color = np.stack([gray] * 3, -1)
    tiled = {"tile": (16, 16), "photometric": "minisblack"}
    names = ("zlib", "lzw", "packbits", "zstd", "lzma", "lerc", "png", "jpeg")
    names = (*names, "jpeg2000", "jpegxr", "jpegxl")
    webp = _tiff(color, compression="webp", tile=(16, 16), photometric="rgb")
    return (*(_tiff(gray, compression=name, **tiled) for name in names), webp)


@cache
def pngs() -> tuple[bytes, ...]:
    """Gray of 8 and 16 bits, with alpha, color, and a palette."""
    import imagecodecs

    gray = _pixels()
    small = (gray >> 3).astype(np.uint8)
    color = np.stack([small, small // 2, small // 3], -1)
    shapes = (gray, small, np.stack([small] * 2, -1), color)
    return tuple(imagecodecs.png_encode(np.ascontiguousarray(p)) for p in shapes)


OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME '
    'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:00000000-0000-0000-0000-000000000000">'
    '<Image ID="Image:0" Name="a"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
    'Type="uint16" SizeX="24" SizeY="24" SizeC="1" SizeZ="3" SizeT="1" '
    'PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.5" '
    'PhysicalSizeYUnit="µm" BigEndian="false" Interleaved="false">'
    '<Channel ID="Channel:0:0" Name="DAPI" SamplesPerPixel="1"/>'
    '<TiffData IFD="0" FirstZ="0" PlaneCount="3"/></Pixels></Image></OME>'
)


def ome_tiff(xml: str) -> bytes:
    """Return a TIFF of three planes with this text as its OME-XML."""
    stack = np.stack([_pixels()] * 3)
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=False) as tiff:
        for number, plane in enumerate(stack):
            text = None if number else xml.encode("utf-8", "replace")
            tiff.write(plane, description=text, metadata=None, contiguous=False)
    return file.getvalue()


def rois() -> list[tuple[str, bytes]]:
    """Return entries of a ROI set: a polygon, a rectangle, an oval and a freehand."""
    import roifile

    ring = np.array([[1, 1], [8, 2], [8, 8], [2, 7]], np.float32)
    entries = []
    for number, kind in enumerate(("POLYGON", "RECT", "OVAL", "FREEHAND")):
        place = np.array([number % 2, number // 2], np.float32)
        # Without a name roifile would take one by chance.
        roi = roifile.ImagejRoi.frompoints(ring + 11 * place, name=f"r{number}")
        roi.roitype = roifile.ROI_TYPE[kind]
        roi.xd, roi.yd, roi.widthd, roi.heightd = roi.left, roi.top, 7, 7
        entries.append((f"{number}.roi", roi.tobytes()))
    return entries


def zipped(entries: list[tuple[str, bytes]]) -> bytes:
    """Return a zip of entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries:
            packed.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def packed_runs(runs: list[int]) -> str:
    """Return runs as COCO packs them: of every other the difference, five bits each."""
    text = ""
    for k, run in enumerate(runs):
        value = run - runs[k - 2] if k > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


_RING = [[2, 2], [14, 3], [12, 13], [4, 11], [2, 2]]
_HOLE = [[5, 5], [7, 5], [7, 7], [5, 5]]


def documents(kind: str) -> dict[str, Any]:
    """Return a document of ``geojson``, ``coco`` or ``labelme``."""
    flat = [v for xy in _RING[:-1] for v in xy]
    if kind == "geojson":
        shapes = [
            {"type": "Polygon", "coordinates": [_RING, _HOLE]},
            {"type": "MultiPolygon", "coordinates": [[_RING], [_HOLE]]},
        ]
        features = [
            {
                "type": "Feature",
                "id": f"f{k}",
                "geometry": shape,
                "properties": {"classification": {"name": "nucleus"}},
            }
            for k, shape in enumerate(shapes)
        ]
        return {"type": "FeatureCollection", "features": features}
    if kind == "coco":
        runs = [50, 6, 18, 6, SIDE * SIDE - 80]
        rle = {"size": [SIDE, SIDE], "counts": runs}
        # The same runs in COCO's packed form.
        packed = {"size": [SIDE, SIDE], "counts": packed_runs(runs)}
        forms: list[Any] = [[flat], rle, packed]
        return {
            "images": [{"id": 1, "file_name": "a.tif", "width": 24, "height": 24}],
            "categories": [{"id": 1, "name": "nucleus"}],
            "annotations": [
                {"id": k, "image_id": 1, "category_id": 1, "segmentation": form}
                for k, form in enumerate(forms)
            ],
        }
    shapes = [
        {"label": "n", "shape_type": "polygon", "points": _RING[:-1]},
        {"label": "n", "shape_type": "rectangle", "points": [[15, 15], [20, 21]]},
        {"label": "n", "shape_type": "circle", "points": [[18, 5], [18, 8]]},
    ]
    return {"version": "5", "imageHeight": 24, "imageWidth": 24, "shapes": shapes}


def encoded(document: object) -> bytes:
    """Return JSON, as Python writes it: NaN and lone surrogates too."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


@cache
def weights() -> bytes:
    """Return a model of two levels with its card."""
    import pytest

    pytest.importorskip("torch")
    from cellunet.config import TrainConfig, UNetConfig
    from cellunet.core.checkpoint import weights_of
    from cellunet.core.unet import UNet, initialize
    from cellunet.engine.int8 import measure_ranges
    from cellunet.store import ModelCard, encode

    config = UNetConfig(channels=(4, 8))
    network = UNet(config)
    initialize(network, 0)
    found = weights_of(network)
    window = np.random.default_rng(0).random((2, 16, 16), np.float32)
    ranges = measure_ranges(found, config, [window], 1)
    whole = TrainConfig(network=config)
    card = ModelCard(name="seed", config=whole, int8_ranges=ranges).to_dict()
    return encode(found, card)
