"""What goes into a prediction and what comes out: files, images in them, results.

Which files and images of them are segmented, how they are opened, whether a result is
what is asked for; and what became of each image, in words too.
"""

from __future__ import annotations

import functools
import math
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cellunet.command_config import ALL_IMAGES, MEASURED
from cellunet.errors import BugError, CellunetError, ConfigError, InputError
from cellunet.io.images import FOLDERS, names_of_images, open_image, suffix_of
from cellunet.io.label_tiff import read_provenance
from cellunet.io.microscopes import MAKERS, image_stem
from cellunet.io.ome_zarr import image_path, is_plate
from cellunet.io.paths import below, file_key, folded
from cellunet.io.source import Damage
from cellunet.io.zarr_store import address
from cellunet.settings import shown, unit_of
from cellunet.tasks.predict.settings import MEGABYTE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from cellunet.command_config import PredictConfig
    from cellunet.io.file_names import ChannelFile, ChannelSite
    from cellunet.io.paths import Inputs
    from cellunet.io.source import Source
    from cellunet.store import ModelCard
    from cellunet.tasks.predict.estimate import BatchEstimate
    from cellunet.tasks.predict.places import ImageColumns

T = TypeVar("T")

Status = Literal["done", "skipped", "failed", "planned"]


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What became of one input."""

    input: str
    """As it was named or found."""
    output: str | None
    """The label image; None if it failed."""
    status: Status
    """``skipped``: the result was there; ``planned``: it would be made."""
    objects: int | None = None
    """Objects in all planes."""
    seconds: float = 0.0
    """Time that it took."""
    message: str = ""
    """Why it failed."""
    bug: bool = False
    """Whether it failed by a fault of cellunet's or of a library, not of its own."""
    warnings: tuple[str, ...] = ()
    """What to look at, though it did not fail."""
    shape: tuple[int, ...] | None = None
    """Lengths of T and Z if there are, height and width."""
    damaged: tuple[Damage, ...] = ()
    """What could not be read and was taken for zeros."""
    skipped_share: float = 0.0
    """Share of the pixels in which nothing could be, so that none was computed."""
    within: dict[str, Any] | None = None
    """The regions within which it was segmented: the file, their number, and their
    area in pixels of the image; None: all of it."""
    size: dict[str, Any] | None = None
    """How large its objects are and how it was seen, as `Size.to_dict` of
    `cellunet.tasks.predict.sizes`; None if that was told, or nothing was done."""
    added: tuple[str, ...] = ()
    """Kinds of files that were added to a result that was there."""
    notes: tuple[str, ...] = ()
    """What to know of how it was read; nothing is wrong."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel, if they are known."""
    pixel_size_from: str = ""
    """Where that stands in the file, or beside it."""
    image: str = ""
    """Number of the image in a file of several."""
    pages: str = ""
    """How many pages without a name the file has, and as what they were read."""
    channels: tuple[str, ...] = ()
    """Names of the channels that were read."""
    position: str = ""
    """Well, site or field, in the words of the file."""
    acquired: str = ""
    """When it was taken, in the words of the file."""
    columns: ImageColumns = field(default_factory=dict)
    """What tables say of the whole image: plate, well, field, ..., and the samples."""


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many images, or what there is of them, evenly spread.

    Examples
    --------
    >>> evenly(range(70), 32)[:3]
    [0, 3, 6]
    """
    return list(items[:: math.ceil(len(items) / most) or 1])


def few_images(found: Inputs, most: int) -> list[Path]:
    """Return at most so many of the images, evenly spread.

    Label images of cellunet that the listing missed are none.
    """
    while labels := {p for p in evenly(found.files, most) if found.is_missed(p)}:
        found = found.without(labels)
    return evenly(found.files, most)


def common_folder(results: Sequence[ImageResult]) -> str:
    """Return the folder below which all inputs lie; '' if there is none."""
    try:
        here = [r.input for r in results if not address(r.input)]
        return os.path.commonpath({str(Path(name).parent) for name in here})
    except ValueError:
        # No inputs, relative beside absolute ones, or two drives.
        return ""


def name_below(path: str, folder: str) -> str:
    """Return a path without the folder that it begins with."""
    whole = Path(path)
    if address(path):
        return whole.name
    return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)


def said(size: Mapping[str, Any] | None) -> str:
    """Return `ImageResult.size` in words; nothing where there is none.

    Examples
    --------
    >>> said({"diameter_px": 96.4, "scale": 0.33, "added_scale": None, "sure": True})
    'objects of about 96 px, seen at 0.33'
    """
    if size is None:
        return ""
    diameter = size["diameter_px"]
    what = f"objects of about {diameter:.0f} px, " if diameter else ""
    also = f" and {size['added_scale']:g}" if size["added_scale"] else ""
    unsure = "" if size["sure"] else ", unsure of their size"
    return f"{what}seen at {size['scale']:g}{also}{unsure}"


def said_of_parts(share: float, within: Mapping[str, Any] | None) -> str:
    """Return `ImageResult.skipped_share` and `within` in words, if there is something.

    Examples
    --------
    >>> said_of_parts(0.634, {"file": "a.roi", "regions": 2, "area_px": 1500})
    'within 2 regions of 1,500 px, 63 % of it empty and skipped'
    >>> said_of_parts(0.634, None), said_of_parts(0.0, None)
    ('63 % empty and skipped', '')
    """
    told = []
    if within is not None:
        regions = f"{within['regions']:,} region{'s' * (within['regions'] != 1)}"
        told.append(f"within {regions} of {within['area_px']:,} px")
    if round(100 * share):
        told.append(
            f"{share:.0%}".replace("%", " %" + " of it" * bool(told))
            + " empty and skipped"
        )
    return ", ".join(told)


def or_lost(result: ImageResult) -> ImageResult:
    """Return a result, failed if its label image was removed since it was made."""
    finished = result.status in ("done", "skipped") and result.output is not None
    # Of os.path, because Path.exists may raise where a folder may not be entered.
    if not finished or os.path.exists(str(result.output)):  # noqa: PTH110
        return result
    return replace(
        result,
        output=None,
        status="failed",
        message=f"{result.output} was removed while other images were segmented. "
        "Run the same command again, and leave the folder there.",
    )


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What became of all inputs, and with what."""

    model: dict[str, str]
    """Name of the model and SHA-256 of its weights."""
    engine: str
    """What computed, version and device included."""
    settings: dict[str, Any]
    """How the model was applied, as in the results' provenance."""
    images: tuple[ImageResult, ...]
    """In the order of the inputs; after a stop, those that were reached."""
    seconds: float
    """Time that the call took."""
    stopped: bool = False
    """Whether the caller stopped it."""
    table: str | None = None
    """Table of the objects of all images that are finished, if tables are saved."""
    coco: str | None = None
    """COCO file of the objects of all images that are finished, if one is saved."""
    report: str | None = None
    """The page that shows it all, if one was asked for."""
    notes: tuple[str, ...] = ()
    """What lay among the images and was left out, in sentences."""
    warnings: tuple[str, ...] = ()
    """What to look at that concerns no single image, in sentences."""
    estimate: BatchEstimate | None = None
    """What the batch would take, of a dry run of which images could be measured."""

    @property
    def done(self) -> tuple[ImageResult, ...]:
        """Inputs segmented in this call."""
        return tuple(i for i in self.images if i.status == "done")

    @property
    def skipped(self) -> tuple[ImageResult, ...]:
        """Inputs whose result was there already."""
        return tuple(i for i in self.images if i.status == "skipped")

    @property
    def failed(self) -> tuple[ImageResult, ...]:
        """Inputs that could not be segmented, each with its message."""
        return tuple(i for i in self.images if i.status == "failed")

    @property
    def bugs(self) -> int:
        """How many failed by a fault that is not theirs."""
        return sum(i.bug for i in self.images)

    @property
    def damaged(self) -> tuple[ImageResult, ...]:
        """Inputs that were segmented with zeros in place of what is lost."""
        return tuple(i for i in self.images if i.damaged)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self)) | {
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "estimate": self.estimate and self.estimate.to_dict(),
        }
        plain["images"] = [
            vars(i)
            | {
                "warnings": list(i.warnings),
                "notes": list(i.notes),
                "added": list(i.added),
                "channels": list(i.channels),
                "pixel_size_um": i.pixel_size_um and list(i.pixel_size_um),
                "shape": i.shape and list(i.shape),
                "damaged": [vars(d) for d in i.damaged],
            }
            for i in self.images
        ]
        return plain


APART = (
    "Channels in files of their own are not read together: save them as one OME-TIFF "
    "or ImageJ hyperstack."
)


def refuse_misfit(
    source: Source,
    model: str,
    card: ModelCard,
    asked: str | None,
    *,
    more: bool = False,
) -> None:
    """Refuse an image of which other channels were opened than a model looks at.

    Parameters
    ----------
    source
        The image.
    model, card
        Name and card of the model.
    asked
        What the channels were asked for by.
    more
        Whether further channels may follow those that the model looks at.

    Raises
    ------
    ConfigError
        If there are more or fewer of them, or if they are named in another order than
        in training.
    """
    wanted, found = card.config.image_channels, source.channel_names
    if len(found) < wanted:
        raise _too_few(source, model, card)
    if len(found) > wanted and not more:
        raise ConfigError(
            f"{source.path}: {len(found)} channels are named ({', '.join(found)}), but "
            f"model {model!r} looks at {'one' if wanted == 1 else wanted}.",
            hint=f"Try: {option(found[:wanted])}. A model that looks at all of them is "
            "trained with the same --channel (docs/few-labels.md).",
        )
    refuse_other_order(found, card.channels, model, asked)


def refuse_other_order(
    found: tuple[str, ...], known: tuple[str, ...], model: str, asked: str | None
) -> None:
    """Refuse channels that a model knows by name, but not in its order and first.

    Whoever asks for them by number knows better than the names in the file.

    Raises
    ------
    ConfigError
        If so.
    """
    ours, theirs = ([n.casefold() for n in names] for names in (found, known))
    parts = (asked or "0").split(",")
    by_name = not any(part.strip().isdecimal() for part in parts)
    if by_name and ours[: len(theirs)] != theirs and set(theirs) <= set(ours):
        further = (name for name in found if name.casefold() not in theirs)
        raise ConfigError(
            f"Model {model!r} looks at {', '.join(known)} in this order, not at "
            f"{', '.join(found)}.",
            hint=f"Try: {option((*known, *further))}. By numbers any order is taken.",
        )


def option(names: Iterable[str]) -> str:
    """Return the option that names these channels, as a shell takes it."""
    return f"--channel {shlex.quote(','.join(names))}"


def _too_few(source: Source, model: str, card: ModelCard) -> ConfigError:
    wanted, every = card.config.image_channels, source.file_channels
    called = f" ({', '.join(card.channels)})" if card.channels else ""
    looks = f"model {model!r} looks at {wanted} channels at once{called}"
    if len(every) < wanted:
        count = "one channel" if len(every) == 1 else f"{len(every)} channels"
        return ConfigError(f"{source.path} has {count}, but {looks}.", hint=APART)
    known = {name.casefold() for name in every}
    there = card.channels and all(n.casefold() in known for n in card.channels)
    names = card.channels if there else tuple(map(str, range(wanted)))
    found = ", ".join(source.channel_names)
    return ConfigError(
        f"{source.path}: {found} alone is asked for, but {looks}.",
        hint=f"Name them in this order, of {', '.join(every)}: for example "
        f"{option(names)}.",
    )


FOUND_OUT = ("damaged", "size", "skipped_share", "warnings")
"""Entries of a provenance that no one asks for, by which no result is known."""

BESIDE = ("save", "table_format", "measure", "segment_channel", "within")
"""Settings that decide what lies beside the labels, or where a file is looked for: that
of the image, or that of its regions, which is known by its content."""

MOST_NAMED = 3
"""Lost parts that a warning names; the JSON document and the provenance name all."""


def open_as(
    path: Path,
    config: PredictConfig,
    channel: str | None = None,
    known: tuple[str, ...] = (),
    image: str | None = None,
) -> Source:
    """Open an image as a configuration says, or another channel of it.

    Where no channel is asked for, those of the names `known` are opened, if there are.
    `image` is the one to open of a file of several; by default that of the
    configuration, and of all the largest.
    """
    if image is None and config.image != ALL_IMAGES:
        image = config.image
    limit = config.max_memory_mb
    return open_image(
        path,
        channel=config.channel if channel is None else channel,
        gray=config.gray,
        z=config.z,
        level=config.level,
        keep_going=config.keep_going,
        limit_bytes=None if limit is None else limit * MEGABYTE,
        known=known,
        image=image,
        pages=config.pages,
    )


def first_channel(config: PredictConfig) -> str | None:
    """Return the channel to open where all of a file are measured."""
    return None if config.gray else "0"


def record(damaged: Sequence[Damage]) -> dict[str, Any]:
    """Return what the provenance of a result says of parts that were lost."""
    return {"damaged": [vars(d) for d in damaged]} if damaged else {}


def recorded(provenance: Mapping[str, Any] | None) -> tuple[Damage, ...]:
    """Return the lost parts that a provenance names."""
    return tuple(Damage(**d) for d in (provenance or {}).get("damaged", ()))


def recorded_warnings(provenance: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what was said of a result when it was made."""
    known = (provenance or {}).get("warnings")
    return damage_warnings(recorded(provenance)) if known is None else tuple(known)


def read_made(labels: Path) -> dict[str, Any] | None:
    """Return how labels were made; None: there are none of cellunet that are whole."""
    if not labels.exists():
        return None
    try:
        return read_provenance(labels)
    except BugError:
        raise
    except CellunetError:
        # Cut off or of another program: not ours to skip or to replace unasked.
        return None


def as_asked(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides labels: neither found out on the way nor saved beside."""
    asked = {k: v for k, v in provenance.items() if k not in FOUND_OUT}
    settings = provenance.get("settings", {})
    return asked | {"settings": {k: v for k, v in settings.items() if k not in BESIDE}}


def difference(made: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> str:
    """Return in words how a result differs from what is asked for; '' if it is that.

    Parameters
    ----------
    made
        Its provenance; None: it is no complete result of cellunet.
    asked
        The provenance that it would have.
    """
    if made is None or not made.keys() >= {"model", "settings", "input"}:
        return "is no complete label image of cellunet predict"
    was, now = as_asked(made), as_asked(asked)
    if all(MEASURED & set(p["settings"].get("save", ())) for p in (made, asked)):
        for one, whole in ((was, made), (now, asked)):
            one["settings"]["measure"] = whole["settings"].get("measure")
    if was == now:
        return ""
    told = _other_input(was["input"], now["input"])
    if was.get("measured") != now.get("measured"):
        told.append("with other files of further channels")
    if was.get("within") != now.get("within"):
        told.append("within other regions")
    if was["model"] != now["model"]:
        told.append(_other_model(was["model"], now["model"]))
    else:
        # Of another model, all that is as trained differs, too.
        told += _other_settings(was["settings"], now["settings"])
    if was.get("cellunet") != now["cellunet"]:
        told.append(f"by cellunet {was.get('cellunet')} (now {now['cellunet']})")
    # The engine's name says how many flips it does.
    if not told:
        told.append(f"by {was.get('engine')} (now {now['engine']})")
    return f"was made {', '.join(told)}"


def _other_input(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if was == now:
        return []
    if was.get("name") != now["name"]:
        return [f"from {was.get('name')} (now {now['name']})"]
    if was.get("bytes") != now["bytes"]:
        sizes = f"{was.get('bytes'):,} bytes (now {now['bytes']:,})"
        return [f"from a {now['name']} of {sizes}"]
    if was.get("index") != now.get("index"):
        return [f"from {now['name']} with another index of the microscope beside it"]
    return [f"from {now['name']} before that was last modified"]


def _other_model(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    if was["name"] != now["name"]:
        return f"by model {was['name']!r} (now {now['name']!r})"
    return f"by another model of the name {now['name']!r}"


SIZES = ("diameter", "scale", "added_scale", "pixel_size_um")
"""Settings from which constants of decoding in pixels follow."""


def _other_settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings that differ, each with its old value and the new one."""
    sizes = any(was.get(name) != now.get(name) for name in SIZES)
    flat = [s | ({} if sizes else s["decode"]) for s in (dict(was), dict(now))]
    hidden = {"decode"}
    if flat[0].get("min_area_px") != flat[1].get("min_area_px"):
        hidden.add("fixed_min_area_px")
    names = [n for n in dict.fromkeys((*flat[1], *flat[0])) if n not in hidden]
    told = []
    for name in names:
        old, new = (one.get(name) for one in flat)
        if old != new:
            unit = unit_of(name)
            words = name.rpartition("_")[0] if unit else name
            told.append(
                f"with {words.replace('_', ' ')} {shown(old, unit)} "
                f"(now {shown(new, unit)})"
            )
    return told


def damage_warnings(damaged: Sequence[Damage]) -> tuple[str, ...]:
    """Return what to say of lost parts: nothing, or one warning."""
    if not damaged:
        return ()
    named = "; ".join(f"{d.place} ({d.reason})" for d in damaged[:MOST_NAMED])
    rest = len(damaged) - MOST_NAMED
    more = f"; and {rest:,} more" if rest > 0 else ""
    parts = "1 part" if len(damaged) == 1 else f"{len(damaged):,} parts"
    return (
        f"{parts} of the image could not be read, and zeros were taken there: "
        f"{named}{more}. Do not trust labels and measurements there; copy or export "
        "it again.",
    )


def file_warnings(source: Source, damaged: Sequence[Damage]) -> tuple[str, ...]:
    """Return what to say of how an image was read."""
    note = (source.memory_note,) if source.memory_note else ()
    return (*note, *damage_warnings(damaged))


@dataclass(frozen=True)
class ImageTarget:
    """One image to segment."""

    path: Path
    """Its file."""
    name: str
    """What tables call it: its path below the common folder of the run."""
    output: Path
    """Its label image, or what is named after it if the labels lie elsewhere."""
    image: str | None = None
    """Which image of the file; None: the largest."""
    mark: str = ""
    """The channel that the file holds, where channels have files of their own."""
    others: tuple[ChannelFile, ...] = ()
    """The files of the other channels."""
    into: str | None = None
    """Name of the labels in the store of the image, if they go there."""
    columns: ImageColumns = field(default_factory=dict)
    """What tables say of the whole image."""

    @functools.cached_property
    def labels(self) -> Path:
        """Where the label image is written; within a store, which is opened for it."""
        return self.output if self.into is None else labels_within(self)


def labels_within(target: ImageTarget) -> Path:
    """Return where the labels of an image lie in its own store.

    Raises
    ------
    ConfigError
        If that is no store of this machine.
    """
    path = target.path
    if suffix_of(path) not in FOLDERS or address(path):
        where = "on a server" if address(path) else "no OME-Zarr"
        raise ConfigError(
            f"{address(path) or path} is {where}: no labels can be written into it.",
            hint="Leave out --into-source; --out takes the labels of any image.",
        )
    return path / image_path(path, target.image) / "labels" / str(target.into)


def find_targets(
    found: Inputs,
    outputs: Mapping[Path, Path],
    config: PredictConfig,
    sites: Mapping[Path, ChannelSite],
    own: Collection[Path],
) -> list[ImageTarget]:
    """Return what to segment, and what other parts of the batch do.

    Parameters
    ----------
    found
        All inputs of the run.
    outputs
        Image to result, as `output_paths` returns it.
    config
        Which image of each file is meant: all of them have results of their own, named
        by number and name behind the name of the file.
    sites
        By the file to segment, the others of its site.
    own
        Files of this part. Of the others only those are opened on which columns of its
        images depend, or of which an image might have one's result: the rest counts as
        one image each.

    Raises
    ------
    InputError
        If two images would write one file.
    ConfigError
        If files of further channels belong to one that holds several images.
    """
    targets, into = [], config.into_source
    opened: Collection[Path] = {*own, *_in_the_way(outputs)}
    if config.plate_pattern is not None or config.samples is not None:
        opened = {*found.files}
    for path in found.files:
        name = below(path, found.base).as_posix()
        site = sites.get(path)
        mark, others = (site.mark, site.others) if site else ("", ())
        one = ImageTarget(path, name, outputs[path], config.image, mark, others, into)
        known = path in opened or suffix_of(path) in FOLDERS
        if not known or not _in_scenes(path, config):
            targets.append(one)
            continue
        try:
            names = names_of_images(path)
        except CellunetError:
            # It is told when the image is opened.
            names = [""]
        if len(names) < 2:
            targets.append(replace(one, image=None))
            continue
        if others:
            raise ConfigError(
                f"{path} holds {len(names)} images, so no file of another channel is "
                "known to show the same.",
                hint="Choose one image of each file with --image N or NAME.",
            )
        for number, title in enumerate(names):
            stem = image_stem(outputs[path].stem, number, title)
            output = outputs[path].with_name(f"{stem}{outputs[path].suffix}")
            # Fields of a plate by their path, which is found at once.
            field_path = suffix_of(path) in FOLDERS and "/" in title
            place = title if field_path else str(number)
            targets.append(
                ImageTarget(path, f"{name}#{place}", output, place, into=into)
            )
    if len(targets) > len(found.files):
        _refuse_clashes(targets)
    return targets


def _in_the_way(outputs: Mapping[Path, Path]) -> Iterator[Path]:
    """Yield files of which one image might have the result of another file's.

    Those of ``a.lif`` are named ``a_0``, ``a_1_name``, ...
    """
    files = {folded(output): path for path, output in outputs.items()}
    for key, path in files.items():
        for mark in re.finditer(r"_(?=\d)", key):
            other = files.get(key[: mark.start()] + Path(key).suffix)
            if other is not None:
                yield from (path, other)


def _in_scenes(path: Path, config: PredictConfig) -> bool:
    """Say whether each image of a file is segmented.

    What microscopes' programs keep together are positions and series, peers of each
    other, as the fields of a plate are; a TIFF may hold smaller copies and a
    scanner's label.
    """
    if config.image is None:
        suffix = suffix_of(path)
        return suffix in MAKERS or (suffix in FOLDERS and is_plate(path))
    return config.image == ALL_IMAGES


def _refuse_clashes(targets: Sequence[ImageTarget]) -> None:
    inputs = {file_key(target.path) for target in targets}
    taken: dict[str, ImageTarget] = {}
    for target in targets:
        key = file_key(target.output)
        other = taken.setdefault(key, target)
        if other is not target or key in inputs:
            raise InputError(
                f"{other.path} and {target.path} would both write {target.output}.",
                hint="Rename one, or run on them one at a time with different --out.",
            )
