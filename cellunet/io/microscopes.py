"""The table of the files of microscopes' programs: what opens each, and what it needs.

The libraries that read them are an extra; they and the modules that call them are
imported when the first such file is opened.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from cellunet.errors import ImageReadError
from cellunet.io.scenes import SceneSource, scenes_of
from cellunet.io.source import check_kind, reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cellunet.io.scenes import Container
    from cellunet.io.source import PlaneChoice

INSTALL = 'pip install "cellunet-torch[formats]"'
"""What installs all libraries named here."""


@dataclass(frozen=True)
class Maker:
    """How the files of one suffix are opened."""

    kinds: tuple[str, ...]
    """What they are by content, as `cellunet.io.source.kind_by_content` calls it; none
    where that is not known by the first bytes."""
    library: str
    """What reads them; empty if nothing is needed."""
    opener: str
    """Module below `cellunet.io` and its class that opens one."""
    size: str
    """Where the size of a pixel stands, for people to read."""
    levels: bool = False
    """Whether its class takes the number of a level, too."""
    newer: str = ""
    """The Python version that the library needs, if that is newer than cellunet's."""


_DELTAVISION = Maker(("DeltaVision",), "", "mrc.Mrc", "the DeltaVision header")

_CZI = ("Zeiss CZI",)

_CZI_SIZE = "Scaling of the CZI metadata"

_OIF_SIZE = "Reference Image Parameter of the Olympus settings"

MAKERS = {
    ".nd2": Maker(("Nikon ND2", "JPEG 2000"), "nd2", "nikon.Nd2", "the ND2 metadata"),
    ".lif": Maker(("Leica LIF",), "liffile", "leica.Lif", "the LIF metadata"),
    # For older Python there is a czifile of 2019, which misreads what is new since.
    ".czi": Maker(_CZI, "czifile", "zeiss.Czi", _CZI_SIZE)
    if sys.version_info >= (3, 12)
    else Maker(_CZI, "pylibCZIrw", "zeiss.CziByLibrary", _CZI_SIZE),
    ".oib": Maker(
        ("Olympus OIB or Zeiss ZVI",), "oiffile", "olympus.Olympus", _OIF_SIZE
    ),
    ".oif": Maker((), "oiffile", "olympus.Olympus", _OIF_SIZE),
    ".oir": Maker(
        ("Olympus OIR",), "oirfile", "olympus.Oir", "the OIR metadata", newer="3.12"
    ),
    ".ims": Maker(
        ("HDF5",), "h5py", "imaris.Imaris", "DataSetInfo of Imaris", levels=True
    ),
    ".dv": _DELTAVISION,
    ".r3d": _DELTAVISION,
    ".mrc": Maker((), "", "mrc.Mrc", "the MRC header"),
}
"""Suffix, in lower case, to what opens such files."""


def is_installed(suffix: str) -> bool:
    """Say whether what reads files of a suffix is there."""
    library = MAKERS[suffix].library
    return not library or importlib.util.find_spec(library) is not None


def what_to_install(suffix: str) -> str:
    """Return how to make files of a suffix readable."""
    newer = MAKERS[suffix].newer
    return INSTALL + (f", with Python {newer} or newer" if newer else "")


def open_scene(path: Path, choice: PlaneChoice) -> SceneSource:
    """Open one scene of a microscope's file.

    Raises
    ------
    ImageReadError
        If its library is missing, if it is damaged or not what its name says, or if
        something must be chosen.
    """
    with reading(path):
        maker, opener = MAKERS[path.suffix.lower()], _checked(path)
        if maker.levels and choice.level:
            opener = _at_level(opener, choice.level)
        return SceneSource(path, choice, opener, maker.size)


def scene_names(path: Path) -> list[str]:
    """Return the names of the scenes of a microscope's file.

    Raises
    ------
    ImageReadError
        As `open_scene`.
    """
    return [scene.name for scene in scenes_of(path, _checked(path))]


def scene_paths(path: Path) -> list[Path]:
    """Return a path for each scene of a file of several; see `split_scene`.

    Its last part is what `cellunet predict` calls the scene: ``a.czi/a_1_Left``. Empty
    where the file is of another kind, holds one scene or cannot be read.
    """
    if path.suffix.lower() not in MAKERS:
        return []
    try:
        with reading(path):
            names = scene_names(path)
    except ImageReadError:
        return []
    stems = (image_stem(path.stem, k, name) for k, name in enumerate(names))
    return [path / stem for stem in stems] if len(names) > 1 else []


def split_scene(path: Path) -> tuple[Path, str | None]:
    """Return the file of a path of `scene_paths` and the number of the scene.

    Of any other path: the path and None.
    """
    file = path.parent
    if file.suffix.lower() not in MAKERS or file.is_dir():
        return path, None
    found = re.match(rf"{re.escape(file.stem)}_(\d+)(?=_|$)", path.name)
    return (path, None) if found is None else (file, found[1])


def image_stem(stem: str, number: int, name: str) -> str:
    """Return what the result of one image of a file of several is called.

    Examples
    --------
    >>> image_stem("a", 2, "Series 003/B")
    'a_2_Series-003-B'
    """
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:MOST_NAME]
    return f"{stem}_{number}" + (f"_{safe}" if safe else "")


MOST_NAME = 40
"""Characters of an image's name in the name of its result."""


@lru_cache(maxsize=8)
def _at_level(opener: Callable[..., Container], level: int) -> Callable[..., Container]:
    """Return what opens a level, the same each time: scenes are kept by it."""
    return partial(opener, level=level)


def _checked(path: Path) -> Callable[..., Container]:
    """Return what opens a file, once its content is what its name says."""
    suffix = path.suffix.lower()
    maker = MAKERS[suffix]
    if maker.kinds:
        check_kind(path, *maker.kinds)
    if not is_installed(suffix):
        raise ImageReadError(
            f"{path} is read with the library {maker.library}, which is not installed.",
            hint=f"Try: {what_to_install(suffix)}.",
        )
    module, _, name = maker.opener.partition(".")
    opener: Callable[..., Container] = getattr(
        importlib.import_module(f"cellunet.io.{module}"), name
    )
    return opener
