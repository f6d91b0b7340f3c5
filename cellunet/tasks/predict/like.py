"""Repeat a run: settings from the provenance of a label image."""

from __future__ import annotations

import contextlib
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet import __version__
from cellunet.command_config import MEASURED, PredictConfig
from cellunet.errors import (
    CellunetError,
    ConfigError,
    InputError,
    ModelNotFoundError,
)
from cellunet.io.file_names import WHERE
from cellunet.io.images import FOLDERS, suffix_of
from cellunet.io.label_tiff import read_provenance
from cellunet.settings import unit_of
from cellunet.store import find_model
from cellunet.tasks.predict.outputs import columns_beside
from cellunet.tasks.predict.settings import CONSTANTS, SCALES, decode_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cellunet.store import Model, ModelCard

SIZES = ("scale", "diameter_px", "pixel_size_um")
"""Settings of which one can be given, as the scale follows from each."""

DIGITS = 12
"""Of a SHA-256, as messages show it."""


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """How a label image was made."""

    label: Path
    model: str
    """Name or path of the model."""
    engine: str
    """In words, version and device included."""
    version: str
    """Of cellunet."""
    settings: Mapping[str, Any]
    """By the fields of `PredictConfig`, those that were as trained left out."""
    regions: Mapping[str, str] | None = None
    """Name and SHA-256 of the file of regions, if there was one."""
    notes: tuple[str, ...] = ()
    """What cannot be repeated, in sentences."""

    @property
    def computing(self) -> dict[str, str]:
        """What computed, by the fields of `ComputeConfig`."""
        kind, _, device, *more = self.engine.partition(",")[0].split()
        precision = "".join(f"-{p}" for p in more if p in ("int8", "bfloat16"))
        return {"engine": kind + precision, "device": device}

    def config(self, given: Mapping[str, Any]) -> PredictConfig:
        """Return the settings, with those that are `given` in place of its own.

        Raises
        ------
        ConfigError
            If they do not go together, or the regions are others now.
        InputError, AnnotationError
            If the regions are not there, or cannot be used.
        """
        sized = any(name in given for name in SIZES)
        left = {*SIZES} if sized else set()
        if "save" in given:
            # What is said of tables goes with none where other kinds are saved.
            left |= set() if MEASURED & {*given["save"]} else {"measure"}
            left |= set() if "table" in given["save"] else {"table_format"}
        own = {k: v for k, v in self.settings.items() if k not in left}
        with self._named():
            if "within" not in given:
                self._check_regions()
            return PredictConfig.from_dict({**own, **given})

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Say in errors whose settings they are."""
        try:
            yield
        except CellunetError as error:
            raise type(error)(
                f"With the settings of {self.label}: {error.message}", hint=error.hint
            ) from error

    def _check_regions(self) -> None:
        if self.regions is None:
            return
        # Here, because few predictions have regions.
        from cellunet.annotations.regions import RegionFiles

        named = Path(self.settings["within"])
        files = RegionFiles(str(named))
        path = named / self.regions["file"] if named.is_dir() else named
        # In a folder there need be no regions but those of the images of this run.
        if not path.is_file():
            return
        now, was = files.read(path).sha256, self.regions["sha256"]
        if now != was:
            raise ConfigError(
                f"{path} holds other regions now (SHA-256 {now[:DIGITS]}..., then "
                f"{was[:DIGITS]}...).",
                hint="Give the path of the first ones, or of these to use them: "
                "--within PATH.",
            )

    def differences(self, engine: str) -> tuple[str, ...]:
        """Return why labels may differ from those of the run, in sentences."""
        others = (("cellunet", self.version, __version__), ("", self.engine, engine))
        changed = [
            f"{f'{name} {was}'.strip()} (now {now})"
            for name, was, now in others
            if was != now
        ]
        told = f"{self.label} was made by {' and '.join(changed)}: labels may differ"
        return (*self.notes, *([f"{told} in a few pixels"] if changed else []))


def earlier_run(label: Path, model: str | None = None) -> EarlierRun:
    """Return how a label image was made.

    Parameters
    ----------
    label
        A label image of ``cellunet predict``.
    model
        Name or path of the model to use; None: that of the run, by its name.

    Raises
    ------
    InputError
        If it is no complete label image of cellunet.
    ModelNotFoundError, ConfigError
        If the model of the run is not there, or another one has its name.
    """
    made = read_provenance(label)
    if made is None or not made.keys() >= {"model", "settings", "engine"}:
        raise InputError(
            f"{label} does not say how it was made: it is no label image of cellunet "
            "predict, or was saved again by another program.",
            hint="Name one that cellunet predict wrote.",
        )
    name, sha256 = made["model"]["name"], made["model"]["sha256"]
    try:
        opened = find_model(model or name)
    except ModelNotFoundError as error:
        if model is not None:
            raise
        raise ModelNotFoundError(
            f"{label} was made by model {name!r} (SHA-256 {sha256[:DIGITS]}...), which "
            "is not here.",
            hint="Say where it is: --model PATH.",
        ) from error
    same = opened.sha256 == sha256
    if model is None and not same:
        raise ConfigError(
            f"{label} was made by a model {name!r} of SHA-256 {sha256[:DIGITS]}...; "
            f"that of this name is another one now ({opened.sha256[:DIGITS]}...).",
            hint="Give the path of the first one, or of this one to use it: --model "
            "PATH.",
        )
    return EarlierRun(
        label=label,
        model=model or name,
        engine=made["engine"],
        version=str(made.get("cellunet")),
        settings=_settings(made["settings"], opened.card, same=same),
        regions=made.get("within"),
        notes=(
            *_of_image(label, made["settings"].get("image")),
            *_of_columns(label, made["settings"]),
            *(() if same else (_of_another(label, opened, made["settings"]),)),
        ),
    )


def _of_image(label: Path, image: str | None) -> tuple[str, ...]:
    if image is None:
        return ()
    return (
        f"{label} is of image {image} of its file, which --like does not choose by; "
        f"--image {shlex.quote(image)} segments that of each file alone",
    )


def _of_columns(label: Path, recorded: Mapping[str, Any]) -> tuple[str, ...]:
    names: list[str] = []
    # A table may be lost or damaged: then there are no columns to speak of.
    with contextlib.suppress(CellunetError):
        config = PredictConfig(
            save=tuple(recorded.get("save", ())),
            table_format=recorded.get("table_format", "csv"),
        )
        names = columns_beside(label, config)
    # The wells of an OME-Zarr plate are in the plate itself.
    if suffix_of(label) in FOLDERS:
        names = [name for name in names if name not in WHERE]
    if not names:
        return ()
    return (
        f"the table of {label} has columns of --plate-pattern or --samples "
        f"({', '.join(names)}), which --like does not repeat; tables that are finished "
        "keep theirs, for new ones give the options again",
    )


def _of_another(label: Path, model: Model, recorded: Mapping[str, Any]) -> str:
    names = [n.rpartition("_")[0] if unit_of(n) else n for n in CONSTANTS]
    options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    told = (
        f"{label} was made by another model; constants of decoding ({options}) are "
        f"those of {model.name}"
    )
    was = recorded["decode"].get("min_confidence", 0.0)
    least = model.card.config.decode.min_confidence
    if was == least:
        return told
    return f"{told}, which drops below {least:g}: --min-confidence {was:g} as then"


def _settings(
    recorded: Mapping[str, Any], card: ModelCard, *, same: bool
) -> dict[str, Any]:
    """Return recorded settings as they were asked for."""
    found = {k: v for k, v in recorded.items() if k not in FOLLOWS}
    scale, own = recorded["scale"], card.config.scale
    if "diameter" in recorded:
        found["diameter_px"] = recorded["diameter"]
    elif "pixel_size_um" not in recorded and scale is not None:
        found |= size_asked_for(scale, own, card.diameter_px[1])
    if same:
        as_trained = decode_at(
            card.config.decode, PredictConfig(), own if scale is None else scale
        )
        decode = recorded["decode"]
        found |= {
            n: decode[n]
            for n in CONSTANTS
            if n in decode and decode[n] != getattr(as_trained, n)
        }
    if "fixed_min_area_px" in recorded:
        found["min_area_px"] = recorded["fixed_min_area_px"]
    return found


def size_asked_for(scale: float, own: float, median_px: float) -> dict[str, Any]:
    """Return the setting from which a recorded scale follows, to its last bit.

    Parameters
    ----------
    scale
        By how much images were magnified before the network.
    own
        By how much the model's training images were.
    median_px
        Median diameter of their objects; 0: not known.
    """
    if scale == own:
        return {"diameter_px": "model"}
    for factor in _next_to(scale / own):
        if own * factor == scale and SCALES[0] <= factor <= SCALES[1]:
            return {"scale": factor}
    # So it was not asked for by a factor, but by a diameter.
    for diameter in _next_to(median_px / scale):
        if diameter > 0 and median_px / diameter == scale:
            return {"diameter_px": diameter}
    return {"scale": scale / own}


def _next_to(value: float) -> list[float]:
    """Return a quotient, and the numbers that its rounding may have hidden."""
    return [value + n * math.ulp(value) for n in (0, 1, -1, 2, -2)]


FOLLOWS = (
    "decode",
    "scale",
    "added_scale",
    "diameter",
    "fixed_min_area_px",
    "image",
)
"""What is recorded of a run, and follows from its settings, the model and the image."""
