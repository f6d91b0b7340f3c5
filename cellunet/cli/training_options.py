"""Options of training; those of the target and its weights are ``make-labels``' too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from cellunet.cli.options import (
    COMPUTING,
    IMAGES,
    RESULTS,
    SCHEDULE,
    by_preset,
    given,
    shown,
    told,
)
from cellunet.cli.options import TARGET as PANEL
from cellunet.config import (
    FEW_IMAGES,
    FOLDS,
    MODEL,
    PRESETS,
    TARGET,
    Side,
    SplitConfig,
    Target,
    TrainConfig,
    for_target,
)

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
        rich_help_panel=PANEL,
        help=told(
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
        rich_help_panel=PANEL,
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
        rich_help_panel=PANEL,
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
        rich_help_panel=PANEL,
        help=as_started(
            "Weight of each class in the loss, in the order of the classes (target "
            f"boundary has two: {shown(_BOUNDARY.weights.class_weights)}).",
            lambda c: c.weights.class_weights,
        ),
    ),
]
BorderWeight = Annotated[
    float | None,
    typer.Option(
        metavar="W0",
        rich_help_panel=PANEL,
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
        rich_help_panel=PANEL,
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
        help=told(
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
