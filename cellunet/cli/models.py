"""``cellunet models``: list them; show, calibrate, export, add or remove one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellunet.cli.console import counted, disk_size
from cellunet.cli.options import (
    Channel,
    Computing,
    Overwrite,
    option,
    refuse_given,
    with_options,
)
from cellunet.cli.session import Outcome, Session
from cellunet.command_config import AnnotationConfig
from cellunet.config import TrainConfig
from cellunet.config_file import as_toml
from cellunet.errors import ConfigError

if TYPE_CHECKING:
    from cellunet.cli.console import Row
    from cellunet.tasks.models import ModelInfo

app = typer.Typer(
    rich_markup_mode="rich",
    help="List models; show, calibrate, export, add, remove one.",
    invoke_without_command=True,
)

NameOrPath = Annotated[
    str, typer.Argument(metavar="NAME|PATH", help="Name or path of the model.")
]

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]


@app.callback()
@with_options
def models(
    ctx: typer.Context,
) -> Outcome | None:
    """List models and unfinished trainings."""
    if ctx.invoked_subcommand is not None:
        return None
    from cellunet.store import home
    from cellunet.tasks.models import list_models

    found, folder = list_models(), home() / "models"
    report = Session.of(ctx).report
    if found:
        header = ("name", "target", "trained on", "size", "")
        report.table([header, *map(_row, found)], left=(0, 1, 2, 4))
    else:
        report.line("There are no models. Make one: cellunet train DATA --name NAME")
    report.line(f"Your models live in {folder}")
    models = [info.to_dict() for info in found]
    return Outcome(result={"models": models, "folder": str(folder)})


@app.command("show")
@with_options
def show(
    ctx: typer.Context,
    name: NameOrPath,
    toml: Annotated[
        bool,
        option(
            "--toml",
            "",
            "Print the settings that it was trained with as a file for --config of "
            "train. Default: no.",
        ),
    ] = False,
) -> Outcome:
    """Show what is known of a model."""
    from cellunet.tasks.models import show_model

    info = show_model(name)
    if toml:
        return _show_settings(ctx, info)
    Session.of(ctx).report.table(
        [("model", info.name), *_facts(info)],
        left=(0, 1),
    )
    return Outcome(result=info.to_dict())


def _show_settings(ctx: typer.Context, info: ModelInfo) -> Outcome:
    if "config" not in info.card:
        raise ConfigError(
            f"Model {info.name!r} is {info.status}, so its settings are not known."
        )
    text = as_toml(TrainConfig.from_dict(info.card["config"]))
    for line in text.splitlines():
        Session.of(ctx).report.line(line)
    return Outcome(result=info.to_dict() | {"toml": text})


@app.command("calibrate")
@with_options
def calibrate(
    ctx: typer.Context,
    name: NameOrPath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES|DATA",
            help="With --name: a folder of 1 to 20 annotated images. Without: a dozen "
            "images, whose annotations are not needed.",
        ),
    ],
    new: Annotated[
        str | None,
        option(
            "--name",
            "NEW",
            "Fit size, contrast, edge, seeds and least confidence to annotated images "
            "and keep the model under this name. Default: none, measure the ranges.",
        ),
    ] = None,
    *,
    channel: Channel,
    annotations: AnnotationConfig,
    overwrite: Overwrite,
    computing: Computing,
) -> Outcome:
    """Fit a model to a few annotated images, without training.

    Without --name: measure the ranges of features that --engine openvino-int8 needs.
    They become part of the model; training measures them on the training images.
    """
    session = Session.of(ctx)
    options = channel | overwrite | computing | {"track": session.console.track}
    if new is not None:
        options["annotations"] = annotations
        return _fitted(session, name, images, new, options)
    refuse_given(ctx, (*AnnotationConfig().to_dict(), "device"), "goes with --name")
    return _int8(session, name, images, options)


def _int8(
    session: Session, name: str, images: list[str], options: dict[str, Any]
) -> Outcome:
    from cellunet.tasks.quantize import calibrate as run

    made = run(name, images, **options)
    for why in made.skipped:
        session.console.alert(f"Skipped: {why}")
    on = counted(made.images, "image")
    session.report.line(f"Calibrated {made.model} on {on} ({made.path})")
    return Outcome(result=made.to_dict())


def _fitted(
    session: Session, name: str, data: list[str], new: str, options: dict[str, Any]
) -> Outcome:
    from cellunet.tasks.fit_model import fit_model

    if len(data) != 1:
        raise ConfigError(
            f"{len(data)} folders were given.", hint="Give one folder of images."
        )
    found = fit_model(name, Path(data[0]), new, **options)
    for note in found.notes:
        session.note(note)
    before, after = found.before, found.after
    kind = "images" if found.pieces == found.images else "parts of images"
    session.report.line(
        f"On {found.pieces} {kind} that were not chosen on: mean AP "
        f"{before['mean_ap']:.3f} to {after['mean_ap']:.3f}, F1 at .50 "
        f"{before['f1_50']:.3f} to {after['f1_50']:.3f}.",
        "bold",
    )
    session.report.line(
        f"Use it: cellunet predict IMAGES --out DIR --model {found.name}"
    )
    return Outcome(result=found.to_dict())


@app.command("export")
@with_options
def export(
    ctx: typer.Context,
    name: NameOrPath,
    *,
    to: Annotated[
        str,
        option(
            "--to",
            "FORM",
            "What to write: onnx, the network as one file, or bioimageio, a package "
            "of the BioImage Model Zoo, which cellunet can add too.",
        ),
    ],
    out: Annotated[
        Path | None,
        option(
            "--out",
            "FILE",
            "File to write. Default: NAME.onnx or NAME.bioimageio.zip here.",
        ),
    ] = None,
    author: Annotated[
        list[str] | None,
        option("--author", "NAME", "Who made it, for the zoo. Repeat for more."),
    ] = None,
    license_id: Annotated[
        str | None,
        option(
            "--license",
            "ID",
            "Its license as SPDX names it, for the zoo: CC-BY-4.0. Default: none; of "
            "the model that ships, its own.",
        ),
    ] = None,
    overwrite: Overwrite,
) -> Outcome:
    """Write a model for other programs or other people."""
    from cellunet.tasks.export_model import export_model

    if to != "bioimageio":
        refuse_given(ctx, ("author", "license_id"), "goes with --to bioimageio")
    made = export_model(
        name,
        to,
        out=out,
        authors=tuple(author or ()),
        license_id=license_id,
        **overwrite,
    )
    report = Session.of(ctx).report
    report.line(
        f"Exported {made.name} to {made.path} ({disk_size(made.bytes)})", "bold"
    )
    if to == "bioimageio":
        report.line(f"In another cellunet: cellunet models add {made.path.name}")
    return Outcome(result=made.to_dict())


@app.command("add")
@with_options
def add(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="A model that somebody shared: its folder, a zip of that, a package "
            "of models export, or its weights file.",
        ),
    ],
    name: Annotated[
        str | None,
        option("--name", "NAME", "Name to add it under. Default: its own."),
    ] = None,
    sha256: Annotated[
        str | None,
        option(
            "--sha256",
            "HASH",
            "Expected hash, as models show prints it where the model comes from; any "
            "other is refused. Default: not compared.",
        ),
    ] = None,
    *,
    overwrite: Overwrite,
) -> Outcome:
    """Add a model that somebody shared to yours."""
    from cellunet.tasks.add_model import add_model

    added = add_model(source, name, sha256=sha256, **overwrite)
    report = Session.of(ctx).report
    report.line(f"Added {added.name}: {added.path}", "bold")
    report.line(f"sha256 {added.sha256}")
    if added.checked:
        report.line("Its files have the hashes that came with them.")
    report.line(f"Use it: cellunet predict IMAGES --out DIR --model {added.name}")
    return Outcome(result=added.to_dict())


@app.command("remove")
@with_options
def remove(
    ctx: typer.Context,
    name: Name,
    yes: Annotated[
        bool,
        option("--yes", "", "Remove it. Default: no, only show what would be removed."),
    ] = False,
) -> Outcome:
    """Remove a model or an unfinished training of yours, with all of its files."""
    from cellunet import store
    from cellunet.tasks.models import size_on_disk

    if not yes:
        folder = store.removable(name)
        size = disk_size(size_on_disk(folder))
        raise ConfigError(
            f"This would remove {folder} ({size}), for good.",
            hint=f"To do so: cellunet models remove {name} --yes",
        )
    folder = store.remove(name)
    Session.of(ctx).report.line(f"Removed {folder}")
    return Outcome(result={"name": name, "removed": str(folder)})


def _row(info: ModelInfo) -> Row:
    state = f"copy of {info.copy_of}" if info.copy_of else ""
    if info.calibrated_from:
        state = f"calibrated from {info.calibrated_from}"
    if info.shipped:
        state = "ships with cellunet"
    return (
        info.name,
        info.target,
        info.trained_on,
        disk_size(info.bytes),
        state if info.status == "ready" else info.status,
    )


def _facts(info: ModelInfo) -> list[Row]:
    facts = [
        ("status", info.status),
        ("problem", info.problem),
        ("path", str(info.path)),
        ("size", disk_size(info.bytes)),
        ("target", info.target),
        ("trained on", info.trained_on),
        *((f"score {name}", f"{value:.3f}") for name, value in info.score.items()),
        ("looks at", ", ".join(info.card.get("channels", ()))),
        ("objects", _diameters(info)),
        ("warns of", _warns(info)),
        ("trained with", info.created_with and f"cellunet {info.created_with}"),
        ("sha256", info.sha256),
    ]
    return [(label, value) for label, value in facts if value]


def _diameters(info: ModelInfo) -> str:
    low, middle, high = info.card.get("diameter_px", (0, 0, 0))
    return f"{low:.0f} to {high:.0f} px wide, median {middle:.0f} px" if high else ""


def _warns(info: ModelInfo) -> str:
    """Return which unlikeness to the training images `predict` can warn of."""
    if not info.card:
        return ""
    known = [str(name) for name in info.card.get("training_statistics", {})]
    if not known:
        return "unusual sizes alone; the card holds no statistics of training images"
    return "unusual " + ", ".join(known).replace("diameter_px", "sizes")
