"""Say what cellunet runs on and with: what a report of a bug needs."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cellunet import __version__, store
from cellunet.bugs import in_use, outside_tested
from cellunet.engine.cores import threads_for
from cellunet.errors import CellunetError
from cellunet.tasks.predict.settings import AUTO, ENGINES, choose_engine


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What cellunet runs on and with."""

    cellunet: str
    """Version."""
    platform: str
    """System and processor."""
    versions: dict[str, str | None]
    """Of Python and each library; None if it is not installed."""
    untested: list[str]
    """A sentence for each library of a version that was not tested."""
    engines: dict[str, bool]
    """Whether what each engine needs is installed."""
    chosen: str
    """The engine that is taken if none is asked for, or why none is."""
    devices: list[str]
    """Where engines can compute."""
    threads: int
    """Threads that are used if no number is given."""
    folders: dict[str, str]
    """Of cellunet, Python, the user's models and temporary files."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at the installation; no library is imported but torch, for its devices."""
    return Diagnosis(
        cellunet=__version__,
        platform=f"{platform.platform()}, {platform.machine()}",
        versions=in_use(),
        untested=outside_tested(),
        engines={name: _has_what_it_needs(name) for name in ENGINES},
        chosen=_chosen(),
        devices=_devices(),
        threads=threads_for(0),
        folders={
            "cellunet": os.path.dirname(os.path.dirname(__file__)),  # noqa: PTH120
            "python": sys.executable,
            "models": str(store.home() / "models"),
            "temporary files": tempfile.gettempdir(),
            "working folder": str(Path.cwd()),
        },
    )


def _has_what_it_needs(engine: str) -> bool:
    # Engines begin with the name of their package.
    return importlib.util.find_spec(engine.partition("-")[0]) is not None


def _chosen() -> str:
    try:
        return choose_engine(AUTO, AUTO)
    except CellunetError as error:
        return str(error)


def _devices() -> list[str]:
    """Return what torch finds; without torch there is the CPU alone."""
    if not _has_what_it_needs("torch"):
        return ["cpu"]
    try:
        from cellunet.core.device import available

        return available()
    except Exception as error:  # noqa: BLE001  (a broken torch is what is asked about)
        return ["cpu", f"torch does not load: {type(error).__name__}: {error}"]
