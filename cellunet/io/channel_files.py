"""Images that are stored as one file per channel, recognized by their names.

A site is what the channels of one field of view have in common: the folder, and the
name without the mark of the channel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import CellunetError, ConfigError
from cellunet.io.paths import output_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    Site = tuple[Path, str, str]

GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""Identifier at the end of a name, in any case."""

_GUID = re.compile(GUID, re.IGNORECASE)

_MARKS = (
    # MetaXpress and MetaMorph: A01_s1_w1, exp_w1DAPI_s1_t1.
    r"(?<=[^a-z0-9])(?P<mark>w\d{1,2})(?P<name>[a-z][^_]*)?(?=_|$)",
    # Harmony: r01c01f01p01-ch1sk1fk1fl1; Leica and others: a_ch00, a_channel2.
    r"(?<=[^a-z0-9])(?P<mark>ch(?:annel)?[-_ ]?\d{1,2})(?P<name>)"
    r"(?=sk\d|[^a-z0-9]|$)",
    # bfconvert, ZEN, Fiji: a_c1, C2-a.
    # A large C behind the name is a row of wells.
    r"(?<=[^a-z0-9])(?-i:(?P<mark>c\d{1,2}))(?P<name>)(?=[^a-z0-9]|$)",
    r"^(?P<mark>c\d{1,2})(?P<name>)(?=-)",
    # CellVoyager: T0001F001L01A01Z01C02; Cellomics: A01f00d1.
    r"(?<=z\d\d)(?P<mark>c\d\d)(?P<name>)$",
    r"(?<=f\d\d)(?P<mark>d\d)(?P<name>)$",
    # IN Cell: A - 1(fld 1 wv DAPI - DAPI).
    r"(?<=wv )(?P<mark>[^)]+)(?P<name>)(?=\))",
)
"""Marks of channels in the names of files, without suffix and identifier."""


@dataclass(frozen=True)
class ChannelFile:
    """A file that holds one channel of a site."""

    path: Path
    site: Site
    """Folder, and the name before and behind the mark."""
    mark: str
    """``w1``, ``ch2``, ..."""
    name: str = ""
    """The name that stands behind the mark, if one does."""

    def is_called(self, name: str) -> bool:
        """Return whether the channel is called so, whatever the case."""
        own = {self.mark, self.name, self.mark + self.name} - {""}
        return name.casefold() in {text.casefold() for text in own}


def channel_file(path: Path) -> ChannelFile | None:
    """Return what the name of a file says of its channel; None if nothing.

    Examples
    --------
    >>> from pathlib import Path
    >>> found = channel_file(Path("p/A01_s1_w2.tif"))
    >>> found.mark, found.site[1:]
    ('w2', ('A01_s1_', ''))
    >>> channel_file(Path("r01c01f01p01-ch3sk1fk1fl1.tiff")).mark
    'ch3'
    """
    stem = _GUID.sub("", output_stem(path))
    for mark in _MARKS:
        found = None
        for match in re.finditer(mark, stem, re.IGNORECASE):
            found = match
        if found is not None:
            site = path.parent, stem[: found.start()], stem[found.end() :]
            return ChannelFile(path, site, found["mark"], found["name"] or "")
    return None


def called(path: Path, name: str) -> ChannelFile | None:
    """Return a file of which one word of the name is that of a channel, as ``a_DAPI``.

    Parameters
    ----------
    path
        The file.
    name
        The word.
    """
    stem = output_stem(path)
    word = rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])"
    found = re.search(word, stem, re.IGNORECASE)
    if found is None:
        return None
    site = path.parent, stem[: found.start()], stem[found.end() :]
    return ChannelFile(path, site, found[0])


@dataclass(frozen=True)
class ChannelSite:
    """One field of view: the file to segment, and the others."""

    path: Path
    mark: str
    others: tuple[ChannelFile, ...] = ()


@dataclass(frozen=True)
class ChannelSites:
    """All fields of view of a folder."""

    sites: dict[Path, ChannelSite]
    """By the file to segment."""
    lost: dict[Path, str]
    """A file of each site that has none of the channel, and why that is a fault."""


def sites_of(
    files: Sequence[Path],
    name: str,
    names_in: Callable[[Path], Iterable[str]],
    mark: Callable[[Path], ChannelFile | None] = channel_file,
) -> ChannelSites:
    """Return the sites of which one channel's file is to be segmented.

    Parameters
    ----------
    files
        Images, each of one channel.
    name
        What the channel is called: by its mark (``w1``), by a word in the names of the
        files, or within them.
    names_in
        Returns the names of the channels in a file.
    mark
        Returns what is known of the channel of a file by its path.

    Raises
    ------
    ConfigError
        If no file is of that channel, or two files of a site are.
    """
    marked = {path: mark(path) for path in files}
    wanted = {p for p, f in marked.items() if f is not None and f.is_called(name)}
    if not wanted:
        marks = _marks_inside(marked, name, names_in)
        wanted = {p for p, f in marked.items() if f is not None and f.mark in marks}
    if not wanted:
        marked = dict(_by_word(files, name))
        wanted = {p for p, f in marked.items() if f and f.is_called(name)}
    if not wanted:
        raise _unknown([mark(path) for path in files], name)
    by_site: dict[Site | Path, list[ChannelFile]] = {}
    for path, found in marked.items():
        own = found or ChannelFile(path, (path.parent, path.name, ""), "")
        by_site.setdefault(own.site, []).append(own)
    sites, lost = {}, {}
    for of_site in by_site.values():
        mine = [f for f in of_site if f.path in wanted]
        if len(mine) > 1:
            raise ConfigError(
                f"{mine[0].path} and {mine[1].path} are both of channel {name!r} of "
                "one site.",
                hint="Name images of which each channel is there once; a "
                "--plate-pattern needs groups for all else that names tell apart "
                "(field, z, time).",
            )
        if not mine:
            lost[of_site[0].path] = f"there is no file of channel {name!r} for it"
            continue
        others = tuple(f for f in of_site if f is not mine[0])
        sites[mine[0].path] = ChannelSite(mine[0].path, mine[0].mark or name, others)
    return ChannelSites(sites, lost)


def _by_word(files: Sequence[Path], name: str) -> Mapping[Path, ChannelFile | None]:
    """Return files by the place where the names of some have the word `name`."""
    found: dict[Path, ChannelFile | None] = {p: called(p, name) for p in files}
    sites = {f.site for f in found.values() if f is not None}
    for path in [p for p, f in found.items() if f is None]:
        stem = output_stem(path)
        for word in re.finditer(r"[a-z0-9]+", stem, re.IGNORECASE):
            site = path.parent, stem[: word.start()], stem[word.end() :]
            if site in sites:
                found[path] = ChannelFile(path, site, word[0])
    return found


def _marks_inside(
    marked: Mapping[Path, ChannelFile | None],
    name: str,
    names_in: Callable[[Path], Iterable[str]],
) -> set[str]:
    """Return the marks of the files of one site whose channel is called `name`."""
    first = next((f for f in marked.values() if f is not None), None)
    if first is None:
        return set()
    of_site = [f for f in marked.values() if f is not None and f.site == first.site]
    marks = set()
    for one in of_site:
        try:
            inside = {text.casefold() for text in names_in(one.path)}
        except CellunetError:
            # It is told when the image is opened.
            continue
        if name.casefold() in inside:
            marks.add(one.mark)
    return marks


def _unknown(marked: Sequence[ChannelFile | None], name: str) -> ConfigError:
    marks = sorted({f.mark + f.name for f in marked if f is not None})
    known = f" They are of {', '.join(marks[:8])}." if marks else ""
    return ConfigError(
        f"None of {len(marked):,} images is of a channel {name!r}.{known}",
        hint="Name the channel by what its files' names hold, such as w1 or ch2. Of "
        "files that hold all channels themselves: --channel.",
    )
