"""Options that commands share, and those of training.

Every default stands in `cellunet.config`; where an option left out means "as the
preset says" or "as trained", its type has None and the help text tells the value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from cellunet.cli.console import counted
from cellunet.cli.session import Session
from cellunet.config import (
    DEVICE,
    ENGINE,
    FEW_IMAGES,
    FOLDS,
    MODEL,
    PRESETS,
    TARGET,
    THREADS,
    PredictConfig,
    Side,
    SplitConfig,
    Target,
    TrainConfig,
    for_target,
)
from cellunet.engine.cores import threads_for

SIDE: Literal["all"] = "all"

KINDS = (
    "auto",
    "labels",
    "binary",
    "coloured",
    "outlines",
    "objects",
    "scribbles",
    "rois",
    "geojson",
    "coco",
    "labelme",
)
"""Rows of `cellunet.annotations.read.ANNOTATIONS`, which imports numpy."""

LogLevelName = Literal["debug", "info", "warning", "error"]

EngineName = Literal[
    "auto", "onnxruntime", "torch", "torch-bfloat16", "openvino", "openvino-int8"
]

ZMode = Literal["keep", "max"]

TableFormat = Literal["csv", "parquet"]

MeasureLevel = Literal["basic", "all"]

# Headings of the help texts, in the order of a command's options.
IMAGES, OBJECTS, TARGET_PANEL = "Images", "Objects", "Target and loss"

SCHEDULE, RESULTS, COMPUTING = "Schedule", "Results", "Computing"

MESSAGES = "Messages"

AS_TRAINED = "as trained"


class Saved(StrEnum):
    """What `PredictConfig.save` knows; Typer takes no list of literals."""

    CLASSES = "classes"
    PROBABILITIES = "probabilities"
    OUTLINES = "outlines"
    ROIS = "rois"
    GEOJSON = "geojson"
    TABLE = "table"
    REPORT = "report"


class SavedMeasurements(StrEnum):
    """What of `Saved` holds measurements and outlines."""

    ROIS = "rois"
    GEOJSON = "geojson"
    TABLE = "table"


class Included(StrEnum):
    """What `PredictConfig.include` knows."""

    THUMBS = "thumbs"
    PROJECTIONS = "projections"
    LABELS = "labels"


def as_default(value: object, unit: str = "") -> str:
    """Return a default as help texts show it.

    Examples
    --------
    >>> shown((1.0, 1.0, 3.0)), shown(2, "px"), shown(0.003), shown(True)
    ('1,1,3', '2 px', '0.003', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(as_default, value)) or "nothing"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()


def help_with_default(text: str, default: object, unit: str = "") -> str:
    """Return a help text that ends with the default and its unit."""
    return f"{text} Default: {as_default(default, unit)}."


def by_preset(text: str, of: Callable[[TrainConfig], object], unit: str = "") -> str:
    """Return a help text that ends with what each preset says.

    Parameters
    ----------
    text
        What the option means.
    of
        Takes the value from a preset's configuration.
    unit
        Unit of the value.
    """
    first, *others = PRESETS
    default = of(PRESETS[first]())
    values = ((name, of(PRESETS[name]())) for name in others)
    differ = [f"{as_default(v, unit)} in {name}" for name, v in values if v != default]
    return f"{text} Default: {'; '.join([as_default(default, unit), *differ])}."


def _set_level(level: str | None) -> None:
    if level is not None:
        logging.getLogger("cellunet").setLevel(level.upper())


def _set_verbose(count: int) -> None:
    if count:
        _set_level("info" if count == 1 else "debug")


def _set_quiet(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        Session.of(ctx).console.silence()


def _check_threads(threads: int) -> int:
    cores = threads_for(threads)
    if threads > cores:
        have = f"this machine has {counted(cores, 'core')}, and as many threads compute"
        logging.getLogger(__name__).warning("--threads %d: %s.", threads, have)
    return threads


def given(**values: object) -> dict[str, object]:
    """Return the values that are not None.

    Examples
    --------
    >>> given(batch=4, epochs=None)
    {'batch': 4}
    """
    return {name: value for name, value in values.items() if value is not None}


def given_words(ctx: typer.Context) -> dict[str, str]:
    """Return the parameters that were given on the command line, and their words."""
    words = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            words[str(parameter.name)] = parameter.opts[0]
    return words


def refuse_given(ctx: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse options that would mean nothing.

    Raises
    ------
    typer.BadParameter
        With the first of `names` that was given, and `why`.
    """
    for name, word in given_words(ctx).items():
        if name in names:
            raise typer.BadParameter(f"{word} {why}.", ctx=ctx)


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        metavar="",
        help="Print one JSON document (docs/json.md) on standard output, and nothing "
        "else there.",
        rich_help_panel=MESSAGES,
    ),
]

LogLevel = Annotated[
    LogLevelName | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        callback=_set_level,
        help=help_with_default(
            "Least severe log messages to print: debug, info, warning, error.",
            "warning",
        ),
        rich_help_panel=MESSAGES,
    ),
]

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        metavar="",
        callback=_set_verbose,
        help="Print more of what happens; twice: everything.",
        rich_help_panel=MESSAGES,
    ),
]

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        metavar="",
        callback=_set_quiet,
        help="Print results, warnings and errors alone: no progress and no notes.",
        rich_help_panel=MESSAGES,
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        metavar="",
        help="Replace results that exist.",
        rich_help_panel=RESULTS,
    ),
]

Device = Annotated[
    str,
    typer.Option(
        show_default=False,
        metavar="NAME",
        help=help_with_default(
            "Device to compute on: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, "
            "mps. A device that is not there is refused.",
            DEVICE,
        ),
        rich_help_panel=COMPUTING,
    ),
]

Engine = Annotated[
    EngineName,
    typer.Option(
        show_default=False,
        metavar="NAME",
        help=help_with_default(
            "What runs the network: auto (onnxruntime on a CPU, else torch), "
            "onnxruntime, torch, torch-bfloat16, or, of the extra "
            "cellunet-torch[openvino], openvino, openvino-int8. int8 and bfloat16 are "
            "faster and change a few pixels (docs/performance.md).",
            ENGINE,
        ),
        rich_help_panel=COMPUTING,
    ),
]

Threads = Annotated[
    int,
    typer.Option(
        show_default=False,
        min=0,
        metavar="N",
        callback=_check_threads,
        help=help_with_default(
            "CPU threads, never more than the machine has cores; 0: as many as this "
            "process may use.",
            THREADS,
        ),
        rich_help_panel=COMPUTING,
    ),
]

FormatOfTables = Annotated[
    TableFormat,
    typer.Option(
        "--table-format",
        show_default=False,
        metavar="NAME",
        rich_help_panel=RESULTS,
        help="Format of the tables that --save table writes: csv, or parquet, of the "
        "extra cellunet-torch[parquet]. Default: csv.",
    ),
]

Measure = Annotated[
    MeasureLevel,
    typer.Option(
        "--measure",
        show_default=False,
        metavar="NAME",
        rich_help_panel=RESULTS,
        help="What tables and GeoJSON hold of each object: basic, or all, standard "
        "deviations, medians, background, Feret diameters, circularity, orientation "
        "too. Default: basic.",
    ),
]

Channel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|N[,...]",
        help="Channel of the images, by name or by number from 0; needed where there "
        "are several. For a model that looks at several: all of them, with commas; "
        "warnings, pictures and suggestions are of the first. Default: those that the "
        "model was trained on, where an image has them by name, else none.",
        rich_help_panel=IMAGES,
    ),
]

Gray = Annotated[
    bool,
    typer.Option(
        "--gray",
        metavar="",
        help="Use the brightness of RGB images. Default: no.",
        rich_help_panel=IMAGES,
    ),
]

IgnoreValue = Annotated[
    int | None,
    typer.Option(
        "--ignore-value",
        metavar="N",
        help="Value of the pixels of label images that are not annotated: they count "
        "neither in training nor in scores. Default: none.",
        rich_help_panel=IMAGES,
    ),
]

Scale = Annotated[
    float | None,
    typer.Option(
        metavar="FACTOR",
        help="Magnify images by this factor before the network, for objects of another "
        "size than the model knows; on top of the magnification that it was trained "
        "with. Default: 1.",
        rich_help_panel=OBJECTS,
    ),
]

Diameter = Annotated[
    float | None,
    typer.Option(
        metavar="PX",
        help="Median diameter of the objects in pixels, from which --scale follows. "
        f"Default: {AS_TRAINED}.",
        rich_help_panel=OBJECTS,
    ),
]

PixelSize = Annotated[
    float | None,
    typer.Option(
        metavar="UM",
        help="Micrometres per pixel at which the model is to see each image, from "
        "which its --scale follows; labels keep the image's own size. Default: images "
        "are seen as they are.",
        rich_help_panel=OBJECTS,
    ),
]

Level = Annotated[
    int,
    typer.Option(
        show_default=False,
        metavar="N",
        help=help_with_default(
            "Level of a pyramidal TIFF to segment; 0 is full size, and labels are of "
            "the level's size.",
            PredictConfig.level,
        ),
        rich_help_panel=IMAGES,
    ),
]

Image = Annotated[
    str | None,
    typer.Option(
        metavar="N|NAME|all",
        help="Image to segment of a file that holds several (positions, a converter's "
        "pyramid levels, a scanner's label), by number from 0 or by name; all: each "
        "with a result of its own. Default: the largest.",
        rich_help_panel=IMAGES,
    ),
]

KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        metavar="",
        help="Where a part of an image cannot be read, take zeros, warn, and end with "
        "exit code 3. Default: no, the image fails.",
        rich_help_panel=IMAGES,
    ),
]

MinArea = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        help=f"Drop objects of fewer pixels. Default: {AS_TRAINED}.",
        rich_help_panel=OBJECTS,
    ),
]

Flips = Annotated[
    bool,
    typer.Option(
        "--flips",
        metavar="",
        rich_help_panel=OBJECTS,
        help="Average over the image and its three mirror images: a little more "
        "accurate, about four times slower. Default: no.",
    ),
]

SeedThreshold = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Probability of interior, 0 to 1, that seeds an object; higher splits "
        f"more and finds less. Default: {AS_TRAINED}.",
        rich_help_panel=OBJECTS,
    ),
]

Tile = Annotated[
    int,
    typer.Option(
        show_default=False,
        metavar="PX",
        help=help_with_default(
            "Longest side of the tiles that are decoded at once; it changes memory and "
            "time, never a label.",
            PredictConfig.tile_px,
            "px",
        ),
        rich_help_panel=COMPUTING,
    ),
]

MaxMemory = Annotated[
    int | None,
    typer.Option(
        metavar="MB",
        help="Bound on the memory of the process in megabytes; what does not fit waits "
        "in a temporary file (--scratch). It changes time, never a label. Default: "
        "what runs fastest, about 700 for an image of any size.",
        rich_help_panel=COMPUTING,
    ),
]

Scratch = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for temporary files, which exists; they have no name and vanish "
        "with the process. Default: --out.",
        rich_help_panel=COMPUTING,
    ),
]

_BOUNDARY = for_target(PRESETS["default"](), "boundary")


def as_started(text: str, of: Callable[[TrainConfig], object], unit: str = "") -> str:
    """Return a help text that ends with the default: that of a model to start from."""
    return f"{by_preset(text, of, unit).removesuffix('.')}; in training as in --from."


Data = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="DATA",
        help="Annotated folders: images beside labels or masks, pairs by suffix, "
        "BBBC039 or DSB2018 as published.",
    ),
]

Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the new model, by which every command knows it. "
        "Default: the name of the first DATA folder.",
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Settings to begin with: {', '.join(PRESETS)}; options below change "
        f"single ones. Default: few for up to {FEW_IMAGES} images that start from a "
        f"model, else {TrainConfig.preset}.",
    ),
]

Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL|scratch",
        help="Start from a model's weights, or from random ones. Default: "
        f"{MODEL}, which ships; scratch for another target or network than its.",
    ),
]

Validation = Annotated[
    Path | None,
    typer.Option(
        "--val",
        metavar="DIR",
        rich_help_panel=IMAGES,
        help="Annotated folder of validation images. Default: the lists that come "
        "with DATA, else --val-fraction.",
    ),
]

ValidationFraction = Annotated[
    float | None,
    typer.Option(
        "--val-fraction",
        metavar="SHARE",
        rich_help_panel=IMAGES,
        help="Share of the images, 0 to 1, drawn for validation by --seed where there "
        f"is no list. Default: {SplitConfig.validation_fraction}, or --folds.",
    ),
]

Folds = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=IMAGES,
        help="Keep no image out: train N networks, each without a part of the images "
        "that it is then scored on, and keep the mean of their weights. 0: off. "
        f"Default: {FOLDS} for up to {FEW_IMAGES} images that start from a model and "
        "have no list, else 0.",
    ),
]

TargetOption = Annotated[
    Target | None,
    typer.Option(
        "--target",
        metavar="NAME",
        rich_help_panel=TARGET_PANEL,
        help=help_with_default(
            "What the network learns: three-class (background, interior, boundary) or "
            "boundary (boundary against rest).",
            f"{TARGET}, or that of --from",
        ),
    ),
]

BoundaryPx = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        rich_help_panel=TARGET_PANEL,
        help=as_started(
            "Thickness of the boundary, 1 to 8 pixels.",
            lambda c: c.encoding.boundary_px,
            "px",
        ),
    ),
]

BoundarySide = Annotated[
    Side | None,
    typer.Option(
        metavar="inner|outer",
        rich_help_panel=TARGET_PANEL,
        help=as_started(
            "Where the boundary lies: inner, on the object; outer, on the background "
            "around it.",
            lambda c: c.encoding.boundary_side,
        ),
    ),
]

ClassWeights = Annotated[
    str | None,
    typer.Option(
        metavar="W,W,...",
        rich_help_panel=TARGET_PANEL,
        help=as_started(
            "Weight of each class in the loss, in the order of the classes (target "
            f"boundary has two: {as_default(_BOUNDARY.weights.class_weights)}).",
            lambda c: c.weights.class_weights,
        ),
    ),
]

BorderWeight = Annotated[
    float | None,
    typer.Option(
        metavar="W0",
        rich_help_panel=TARGET_PANEL,
        help=as_started(
            "Added weight where two objects touch (no unit); 0: off.",
            lambda c: c.weights.border_weight,
        ),
    ),
]

BorderSigma = Annotated[
    float | None,
    typer.Option(
        metavar="PX",
        rich_help_panel=TARGET_PANEL,
        help=as_started(
            "How quickly that weight falls off, in pixels.",
            lambda c: c.weights.border_sigma_px,
            "px",
        ),
    ),
]

Minutes = Annotated[
    float | None,
    typer.Option(
        metavar="MIN",
        rich_help_panel=SCHEDULE,
        help="Time budget in minutes, turned into a fixed number of steps before the "
        "first one. Default: none, the preset's steps.",
    ),
]

Epochs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=SCHEDULE,
        help=by_preset("Epochs; each ends with a validation.", lambda c: c.epochs),
    ),
]

StepsPerEpoch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=SCHEDULE,
        help=by_preset(
            "Steps of an epoch; 0: as many as there are batches of images.",
            lambda c: c.steps_per_epoch,
        ),
    ),
]

Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=SCHEDULE,
        help=by_preset("Crops in a step.", lambda c: c.batch),
    ),
]

Crop = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        rich_help_panel=SCHEDULE,
        help=by_preset(
            "Side of the square crops in pixels.", lambda c: c.crop_px, "px"
        ),
    ),
]

LearningRate = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        rich_help_panel=SCHEDULE,
        help=by_preset("Largest learning rate.", lambda c: c.learning_rate),
    ),
]

Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=SCHEDULE,
        help=help_with_default(
            "Seed of the split, the first weights, crops and their variation.",
            TrainConfig.seed,
        ),
    ),
]

Precision = Annotated[
    Literal["auto", "float32", "bfloat16"] | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=COMPUTING,
        help=by_preset(
            "Precision of the convolutions: float32, bfloat16, or auto, which is "
            "bfloat16 where the device computes with it natively.",
            lambda c: c.precision,
        ),
    ),
]

LearningCurve = Annotated[
    bool,
    typer.Option(
        "--learning-curve",
        metavar="",
        rich_help_panel=RESULTS,
        help="Keep no model: train on more and more of the images, and tell how the "
        "score grows and what more images would give. Needs --out. Default: no.",
    ),
]

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        rich_help_panel=RESULTS,
        help="Folder for what --learning-curve or --suggest writes.",
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        metavar="",
        rich_help_panel=RESULTS,
        help="Go on with the training of this name that was stopped. Default: no.",
    ),
]


def parse_weights(text: str | None) -> tuple[float, ...] | None:
    """Return ``"1,1,3"`` as numbers; None stays.

    Raises
    ------
    typer.BadParameter
        If a part is not a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a list of numbers such as 1,1,3.",
            param_hint="--class-weights",
        ) from None


def weight_changes(
    classes: str | None, border: float | None, sigma_px: float | None
) -> dict[str, object]:
    """Return the settings of `cellunet.config.WeightConfig` that were given.

    Raises
    ------
    typer.BadParameter
        If `classes` is not a list of numbers.
    """
    return given(
        class_weights=parse_weights(classes),
        border_weight=border,
        border_sigma_px=sigma_px,
    )
