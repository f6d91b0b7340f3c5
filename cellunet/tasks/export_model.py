"""Write a model for other programs: an ONNX file, or a package of bioimage.io."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from cellunet import __version__, store
from cellunet.command_config import PredictConfig
from cellunet.engine.export import OPSET_VERSION, build_for_others
from cellunet.engine.onnx import INPUT, OUTPUT, read_weights
from cellunet.engine.runtimes import open_session
from cellunet.errors import CheckpointError, OutputError, choose
from cellunet.imaging.normalize import percentile_span
from cellunet.io.files import write_atomically
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource
from cellunet.tasks.predict.plane import plane_statistics, segment_plane
from cellunet.tasks.predict.settings import settings_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.store import Model, ModelCard

KINDS = {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}
"""Form of an export to the end of its file's name."""

FORMAT_VERSION = "0.5.12"
"""Of bioimage.io's description of models that `describe` follows."""

SUMS = "SHA256SUMS"
"""In a package: the SHA-256 of each other file, as ``sha256sum`` writes it."""

ATTACHED = (store.WEIGHTS_FILE, "README.md", "cover.png")

TEST_PX = 256

LEAST_PX = 16.0
"""Diameter of the smallest disks that are drawn: under 12 px so little of each is as
bright as its middle that the range of intensities is limited by the foreground."""

SAME = 1e-4
"""Probabilities of the exported graph and of cellunet differ by less."""

EPSILON = 1e-9

U_NET = (
    "Ronneberger, Fischer and Brox: U-Net, MICCAI 2015",
    "10.1007/978-3-319-24574-4_28",
)


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """What was written."""

    name: str
    """Of the model."""
    to: str
    """In which form."""
    path: Path
    bytes: int
    sha256: str
    """Of the model's own weights, by which results name it."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dict(vars(self)) | {"path": str(self.path)}


def export_model(
    name: str,
    to: str,
    *,
    out: Path | None = None,
    authors: tuple[str, ...] = (),
    license_id: str | None = None,
    overwrite: bool = False,
) -> ExportedModel:
    """Write a model for other programs.

    Parameters
    ----------
    name
        Name or path of the model.
    to
        A name in `KINDS`.
    out
        File to write; None: the model's name in the working folder.
    authors, license_id
        Who made it, and its license as SPDX names it, for ``bioimageio``.
    overwrite
        Replace a file that is there.

    Raises
    ------
    CellunetError
        If the model cannot be used, or the file is there or cannot be written.
    """
    choose(KINDS, to, "form")
    model = store.find_model(name)
    path = out or Path(f"{model.name}{KINDS[to]}")
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} exists already.",
            hint="Choose another --out, or replace it with --overwrite.",
        )
    graph = _graph(model)
    content = graph
    if to == "bioimageio":
        content = zipped(package(model, graph, authors, license_id))
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)
    return ExportedModel(
        name=model.name, to=to, path=path, bytes=len(content), sha256=model.sha256
    )


def _graph(model: Model) -> bytes:
    config = model.card.config
    weights = read_weights(model.weights, config.network)
    return build_for_others(weights, config, _about(model))


def _about(model: Model) -> dict[str, Any]:
    """Return what a program needs to know to use the graph as cellunet does."""
    config = model.card.config
    return {
        "model": model.name,
        "sha256": model.sha256,
        "cellunet": __version__,
        "normalization": config.normalization.to_dict(),
        "magnification": config.scale,
        "median_diameter_px": model.card.diameter_px[1],
        "classes": list(config.encoding.classes),
        "decode": config.decode.to_dict(),
    }


def package(
    model: Model, graph: bytes, authors: tuple[str, ...], license_id: str | None
) -> dict[str, bytes]:
    """Return the files of a bioimage.io package by name.

    The model itself, ``model.safetensors``, is among them, so that cellunet can add it
    with all that it knows; other programs use the graph.

    Raises
    ------
    CheckpointError
        If the graph does not compute what cellunet computes.
    """
    image = drawn_image(model.card)
    probabilities = own_probabilities(model, image)
    _check_same(graph, model.card.config, image, probabilities)
    files = {
        "model.onnx": graph,
        store.WEIGHTS_FILE: model.weights.read_bytes(),
        "test-input.npy": _npy(image[np.newaxis]),
        "test-output.npy": _npy(probabilities[np.newaxis]),
        "cover.png": _cover(image, probabilities),
        "README.md": _readme(model).encode(),
    }
    described = describe(model, files)
    # DeepImageJ wants a list, be it empty.
    described["authors"] = [{"name": author} for author in authors]
    if license_id or model.shipped:
        described["license"] = license_id or "BSD-3-Clause"
    files["rdf.yaml"] = (as_yaml(described) + "\n").encode()
    sums = [
        f"{sha256_of(content)}  {name}\n" for name, content in sorted(files.items())
    ]
    return files | {SUMS: "".join(sums).encode()}


def drawn_image(card: ModelCard) -> npt.NDArray[np.float32]:
    """Return a drawn image, CYX, for which two percentiles alone say how it is scaled.

    Disks of the diameter that the network knows, or nearly so, on a noisy background.
    The darkest and the brightest pixels are equal, so that every definition of a
    percentile agrees.
    """
    config, rng = card.config, np.random.default_rng(0)
    radius = min(max(card.diameter_px[1], LEAST_PX), TEST_PX / 2) / 2
    y, x = np.mgrid[:TEST_PX, :TEST_PX]
    step = max(round(3 * radius), 12)
    planes = []
    for _ in range(config.image_channels):
        plane = rng.normal(100.0, 2.0, (TEST_PX, TEST_PX))
        for top in range(step // 2, TEST_PX, step):
            for left in range(step // 2, TEST_PX, step):
                down, right = rng.uniform(-radius / 2, radius / 2, 2)
                far = np.hypot(y - top - down, x - left - right) - radius
                plane += rng.uniform(300, 500) / (1 + np.exp(np.clip(far, -30, 30)))
        low, high = np.percentile(plane, (3, 99))
        plane = np.rint(np.clip(plane, low, high))
        planes.append(1000 - plane if config.normalization.invert else plane)
    return np.stack(planes).astype(np.float32)


def own_probabilities(
    model: Model, image: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return what cellunet itself computes of an image, KYX, at the network's scale.

    Raises
    ------
    CheckpointError
        If more than two percentiles say how the image is scaled.
    """
    config = model.card.config
    recipe = settings_for(model, PredictConfig(), "onnxruntime", "cpu", 0)
    recipe = replace(recipe, scale=1.0, added=None)
    source = ArraySource(
        image if len(image) > 1 else image[0], channels=config.image_channels
    )
    norm = config.normalization
    if norm.kind == "percentile":
        for seen in plane_statistics(source, 0, TEST_PX, norm):
            if percentile_span(seen, norm) != seen.high - seen.low:
                raise CheckpointError(
                    f"The test image of {model.name} would be scaled by more than its "
                    "percentiles.",
                    hint="Write the network alone: --to onnx.",
                )
    bands: list[npt.NDArray[np.float32]] = []
    with Scratch() as scratch:
        segment_plane(
            source, 0, recipe, scratch, lambda y0, band: bands.append(band.copy())
        )
    return np.concatenate(bands, axis=1)


def _check_same(
    graph: bytes,
    config: TrainConfig,
    image: npt.NDArray[np.float32],
    expected: npt.NDArray[np.float32],
) -> None:
    """Refuse a graph that computes something else than cellunet."""
    norm = config.normalization
    if norm.kind == "percentile":
        low, high = np.percentile(image, _percentiles(config), axis=(1, 2))
    else:
        low, high = image.mean((1, 2)), image.mean((1, 2)) + image.std((1, 2))
    low, high = low[:, None, None], high[:, None, None]
    scaled = ((image - low) / (high - low + EPSILON)).astype(np.float32)
    (found,) = open_session(graph, 0).run([OUTPUT], {INPUT: scaled[np.newaxis]})
    most = float(np.abs(found[0] - expected).max())
    if not most < SAME:
        raise CheckpointError(
            f"The exported graph computes probabilities that differ by {most:.2g} from "
            "cellunet's own, so nothing was written.",
            hint="Please report it, with what cellunet doctor prints.",
        )


def _percentiles(config: TrainConfig) -> tuple[float, float]:
    norm = config.normalization
    if norm.invert:
        return 100 - norm.high_percentile, 100 - norm.low_percentile
    return norm.low_percentile, norm.high_percentile


def describe(model: Model, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the description of a package, as bioimage.io wants it."""
    card, config = model.card, model.card.config
    count = config.image_channels
    names = list(card.channels) or ["channel0"]
    what = ", ".join(config.encoding.classes)
    named = re.sub(r"[^A-Za-z0-9_+() -]", "-", model.name)
    cite, doi = U_NET
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": f"{named} (cellunet)",
        "description": f"U-Net for objects in fluorescence images: {what}.",
        "cite": [{"text": cite, "doi": doi}],
        "tags": ["cellunet", "unet", "nuclei", "fluorescence-light-microscopy", "2d"],
        # Not as documentation and covers: the format wants mappings there, and
        # DeepImageJ's reader (JDLL) plain names.
        "attachments": [_file(name, files) for name in ATTACHED],
        "inputs": [
            {
                "id": INPUT,
                "description": "Fluorescence image, as the microscope gives it",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": names[:count]},
                    *(_input_axis(axis, config) for axis in "yx"),
                ],
                "data": {"type": "float32"},
                "preprocessing": [_preprocessing(config)],
                "test_tensor": _file("test-input.npy", files),
            }
        ],
        "outputs": [
            {
                "id": OUTPUT,
                "description": f"Probabilities of {what}",
                "axes": [
                    {"type": "batch"},
                    {
                        "type": "channel",
                        "channel_names": list(config.encoding.classes),
                    },
                    *(_output_axis(axis, config) for axis in "yx"),
                ],
                "data": {"type": "float32", "range": [0.0, 1.0]},
                "test_tensor": _file("test-output.npy", files),
            }
        ],
        "weights": {
            "onnx": _file("model.onnx", files) | {"opset_version": OPSET_VERSION}
        },
        # DeepImageJ wants some name by which it can tell models apart.
        "config": {
            "bioimageio": {"nickname": f"cellunet-{named}"},
            "cellunet": _about(model),
        },
    }


def _input_axis(axis: str, config: TrainConfig) -> dict[str, Any]:
    network = config.network
    # More than the halos on both sides, so that something is left between them.
    least = 2 * network.halo_px + network.stride_px
    size = {"min": least, "step": network.stride_px}
    return {"type": "space", "id": axis, "size": size, "concatenable": True}


def _output_axis(axis: str, config: TrainConfig) -> dict[str, Any]:
    size = {"tensor_id": INPUT, "axis_id": axis}
    return {"type": "space", "id": axis, "size": size, "halo": config.network.halo_px}


def _preprocessing(config: TrainConfig) -> dict[str, Any]:
    axes: dict[str, Any] = {"axes": ["y", "x"], "eps": EPSILON}
    if config.normalization.kind == "standard":
        return {"id": "zero_mean_unit_variance", "kwargs": axes}
    low, high = _percentiles(config)
    ends = {"min_percentile": low, "max_percentile": high}
    return {"id": "scale_range", "kwargs": axes | ends}


def _file(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {"source": name, "sha256": sha256_of(files[name])}


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _cover(
    image: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32]
) -> bytes:
    """Return a picture of the test image beside the probability of an inside."""
    low, high = float(image[0].min()), float(image[0].max())
    inside = probabilities[1] if len(probabilities) > 2 else 1 - probabilities[-1]
    both = np.hstack(((image[0] - low) / (high - low), inside))
    return bytes(imagecodecs.png_encode(np.rint(255 * both).astype(np.uint8)))


def _readme(model: Model) -> str:
    """Return the text that goes with a package."""
    card, config = model.card, model.card.config
    score = card.scores.get("f1_50")
    known = f"F1 at IoU .50 on images kept out: {score:.3f}. " if score else ""
    size = f"about {card.diameter_px[1]:.0f} pixels" if card.diameter_px[1] else "any"
    scale = (
        ""
        if config.scale == 1
        else (f"Magnify images by {config.scale:g} first: the model was trained so.\n")
    )
    standard = config.normalization.kind == "standard"
    by = "to mean 0 and standard deviation 1" if standard else "by two percentiles"
    return f"""# {model.name}

A U-Net that cellunet trained. It takes a fluorescence image, whose intensities are
scaled {by}, and gives for each pixel the probabilities of
{", ".join(config.encoding.classes)}. {scale}
Objects are best {size} wide; resize the image otherwise.

Cellunet itself makes labels of the probabilities, finds the size of the objects, and is
more robust where images are empty or hold bright dirt. To use this package there:

    cellunet models add FILE

## Validation

{known}Compare with a few images that you annotated by hand:

    cellunet evaluate FOLDER --model {model.name}
"""


def as_yaml(value: Any, indent: str = "") -> str:  # noqa: ANN401
    """Return plain values as YAML; scalars are written as JSON, which YAML includes.

    Examples
    --------
    >>> print(as_yaml({"a": [1, {"b": "c"}], "d": [], "e": 1e-9}))
    a:
      - 1
      -
        b: "c"
    d: []
    e: 1.0e-09
    """
    if isinstance(value, dict) and value:
        rows = [(f"{key}:", inner) for key, inner in value.items()]
    elif isinstance(value, (list, tuple)) and value:
        rows = [("-", inner) for inner in value]
    else:
        # Without a point YAML 1.1 takes 1e-09 for a word.
        return re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value))
    lines = []
    for head, inner in rows:
        nested = isinstance(inner, (dict, list, tuple)) and bool(inner)
        text = as_yaml(inner, f"{indent}  ")
        lines.append(f"{indent}{head}" + (f"\n{text}" if nested else f" {text}"))
    return "\n".join(lines)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files; the same files give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(
                zipfile.ZipInfo(name),
                content,
                compress_type=zipfile.ZIP_DEFLATED,
            )
    return stream.getvalue()
