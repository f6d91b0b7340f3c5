"""``cellunet doctor``: what a report of a bug needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cellunet.cli import options as o
from cellunet.cli.session import Outcome, Session

if TYPE_CHECKING:
    from cellunet.cli.console import Row


def doctor(
    ctx: typer.Context,
    as_json: o.Json = False,
    log_level: o.LogLevel = None,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> Outcome:
    """Print versions, engines, devices, threads and folders, for a report."""
    from cellunet.tasks.doctor import diagnose

    found = diagnose()
    report = Session.of(ctx).report
    rows: list[Row] = [("cellunet", found.cellunet), ("platform", found.platform)]
    rows += [(name, version or "not there") for name, version in found.versions.items()]
    for engine, there in found.engines.items():
        used = " (taken if none is asked for)" if engine == found.chosen else ""
        rows.append((f"engine {engine}", f"{'there' if there else 'not there'}{used}"))
    rows.append(("devices", ", ".join(found.devices)))
    rows.append(("threads", str(found.threads)))
    rows += [(f"folder of {name}", path) for name, path in found.folders.items()]
    report.table(rows, left=(0, 1))
    for sentence in found.untested:
        report.line(sentence, "yellow")
    return Outcome(result=found.to_dict())
