"""Option types that commands share, and how help texts tell defaults.

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
    PRESETS,
    THREADS,
    PredictConfig,
    TrainConfig,
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
"""Rows of `cellunet.imaging.annotations.ANNOTATIONS`, which imports numpy."""

LogLevelName = Literal["debug", "info", "warning", "error"]
EngineName = Literal[
    "auto", "onnxruntime", "torch", "torch-bfloat16", "openvino", "openvino-int8"
]
ZMode = Literal["keep", "max"]
TableFormat = Literal["csv", "parquet"]
# Headings of the help texts, in the order of a command's options.
IMAGES, OBJECTS, TARGET = "Images", "Objects", "Target and loss"
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


class Included(StrEnum):
    """What `PredictConfig.include` knows."""

    THUMBS = "thumbs"
    PROJECTIONS = "projections"
    LABELS = "labels"


def shown(value: object, unit: str = "") -> str:
    """Return a default as help texts show it.

    Examples
    --------
    >>> shown((1.0, 1.0, 3.0)), shown(2, "px"), shown(0.003), shown(True)
    ('1,1,3', '2 px', '0.003', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(shown, value)) or "nothing"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()


def told(text: str, default: object, unit: str = "") -> str:
    """Return a help text that ends with the default and its unit."""
    return f"{text} Default: {shown(default, unit)}."


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
    differ = [f"{shown(v, unit)} in {name}" for name, v in values if v != default]
    return f"{text} Default: {'; '.join([shown(default, unit), *differ])}."


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
        help=told(
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
        help=told(
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
        help=told(
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
        help=told(
            "CPU threads, never more than the machine has cores; 0: as many as this "
            "process may use.",
            THREADS,
        ),
        rich_help_panel=COMPUTING,
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
        help=told(
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
        help=told(
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
