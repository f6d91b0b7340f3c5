"""What the names and paths of files tell: channel, plate, well and field.

Images may be stored as one file per channel. A site is what the channels of one field
of view have in common: the folder, and the name without the mark of the channel.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.errors import CellunetError, ConfigError
from cellunet.io.paths import output_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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
        wanted = {p for p, f in marked.items() if f and (f.site[0], f.mark) in marks}
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


_WORD = "[a-z0-9]+"


def _by_word(files: Sequence[Path], name: str) -> Mapping[Path, ChannelFile | None]:
    """Return files by the place where the names of some have the word `name`.

    Raises
    ------
    ConfigError
        If all names have the word where others have it, too.
    """
    asked = rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])"
    own = {path: _words(path, asked) for path in files}
    mine: dict[Site, list[ChannelFile]] = {}
    for word in itertools.chain(*own.values()):
        mine.setdefault(word.site, []).append(word)
    others: dict[Site, list[ChannelFile]] = {}
    for word in itertools.chain(*(_words(path, _WORD) for path in files)):
        if word.site in mine and not word.is_called(name):
            others.setdefault(word.site, []).append(word)
    found: dict[Path, ChannelFile | None] = dict.fromkeys(files)
    # A word may be in front as well, in a name that all files have in common.
    for site in sorted(others, key=lambda site: len(site[2])):
        if all(found[word.path] is None for word in mine[site]):
            for word in (*mine[site], *others[site]):
                found[word.path] = found[word.path] or word
    alone = [p for p in files if found[p] is None and own[p]]
    found |= _alone(alone, own, [f for f in found.values() if f and f.is_called(name)])
    if mine and not any(f and f.is_called(name) for f in found.values()):
        if not all(own.values()):
            # Those of other channels have it nowhere.
            return found | {path: words[0] for path, words in own.items() if words}
        raise ConfigError(
            f"The names of all images have the word {name!r} in one place, which tells "
            "no channels apart.",
            hint="If all of them are of that channel, leave --segment-channel out.",
        )
    return found


def _alone(
    files: Iterable[Path],
    words: Mapping[Path, Sequence[ChannelFile]],
    paired: Iterable[ChannelFile],
) -> dict[Path, ChannelFile | None]:
    """Return files without one of another channel by the word that is their mark.

    Parameters
    ----------
    files
        The files.
    words
        The words of all files that may be one.
    paired
        Those that are one, as other files have another in that place.
    """
    in_folder = Counter(path.parent for path in words)
    held = {(w.path, len(_before(w))) for of in words.values() for w in of}
    columns = Counter((path.parent, column) for path, column in held)
    shown: dict[Path | None, set[tuple[int, int]]] = {}
    for word in paired:
        place = len(_before(word)), len(_behind(word))
        # A folder without a pair has the mark where other folders have it.
        shown.setdefault(word.site[0], set()).add(place)
        shown.setdefault(None, set()).add(place)

    def is_mark(word: ChannelFile) -> bool:
        folder, front, back = word.site[0], len(_before(word)), len(_behind(word))
        places = shown.get(folder, shown.get(None))
        if places is None:
            return columns[folder, front] < in_folder[folder]
        return any(front == before or back == behind for before, behind in places)

    return {path: next(filter(is_mark, words[path]), None) for path in files}


def _words(path: Path, expression: str) -> list[ChannelFile]:
    """Return the words in the name of a file that match, the last one first."""
    stem, folder = output_stem(path), path.parent
    return [
        ChannelFile(path, (folder, stem[: f.start()], stem[f.end() :]), f[0])
        for f in re.finditer(expression, stem, re.IGNORECASE)
    ][::-1]


def _before(word: ChannelFile) -> list[str]:
    return re.findall(_WORD, word.site[1], re.IGNORECASE)


def _behind(word: ChannelFile) -> list[str]:
    return re.findall(_WORD, word.site[2], re.IGNORECASE)


def _marks_inside(
    marked: Mapping[Path, ChannelFile | None],
    name: str,
    names_in: Callable[[Path], Iterable[str]],
) -> set[tuple[Path, str]]:
    """Return folders and the marks of their files whose channel is called `name`.

    Of each folder one file of each mark is opened: plates have marks of their own.
    """
    looked, marks = set(), set()
    for one in marked.values():
        if one is None or (key := (one.site[0], one.mark)) in looked:
            continue
        try:
            inside = {text.casefold() for text in names_in(one.path)}
        except CellunetError:
            # It is told when the image is opened; the next of its mark may tell.
            continue
        looked.add(key)
        if name.casefold() in inside:
            marks.add(key)
    return marks


def _unknown(marked: Sequence[ChannelFile | None], name: str) -> ConfigError:
    marks = sorted({f.mark + f.name for f in marked if f is not None})
    known = f" They are of {', '.join(marks[:8])}." if marks else ""
    return ConfigError(
        f"None of {len(marked):,} images is of a channel {name!r}.{known}",
        hint="Name the channel by what its files' names hold, such as w1 or ch2. Of "
        "files that hold all channels themselves: --channel.",
    )


MOST_ROWS, MOST_COLUMNS = 32, 48
"""Of a plate of 1536 wells: rows A to AF, columns 1 to 48."""

_WELL = re.compile(r"([A-Za-z]{1,2})[\s_-]*(\d{1,3})")

_END = rf"(?:{GUID})?(?:\.ome)?\.\w+$"

_STEPS = r"(?:TimePoint_(?P<time>\d+)/)?(?:ZStep_(?P<z>\d+)/)?"

_IMAGEXPRESS = (
    r"(?P<well>(?-i:[A-Z]{1,2})\d\d)(?:_s(?P<field>\d+))?"
    rf"(?:_(?P<channel>w\d{{1,2}})(?:[A-Z][^_/.-]*)?)?(?:_thumb)?{_END}"
)

_SITE = r"(?P<well>[A-Z]{1,2}\d{1,2})-Site_(?P<field>\d+)"

PRESETS: dict[str, tuple[str, ...]] = {
    "imagexpress": (
        # plate_A01_s1_w1.TIF, in TimePoint_1/ZStep_2, with or without an identifier.
        rf"(?:^|/){_STEPS}(?P<plate>[^/]+)_{_IMAGEXPRESS}",
        rf"(?:^|/)(?P<plate>(?!TimePoint_\d|ZStep_\d)[^/]+)/{_STEPS}{_IMAGEXPRESS}",
    ),
    "operetta": (
        # PLATE/Images/r01c02f03p01-ch1sk1fk1fl1.tiff
        r"(?:^|/)(?P<plate>[^/]+)/(?:Images/)?r(?P<row>\d+)c(?P<column>\d+)"
        rf"f(?P<field>\d+)(?:p(?P<z>\d+))?-(?P<channel>ch\d+)(?:sk(?P<time>\d+))?"
        rf"(?:fk\d+)?(?:fl\d+)?{_END}",
    ),
    "micro-manager": (
        # plate_1/A1-Site_0/img_channel000_position000_time000000000_z000.tif
        rf"(?:^|/)(?P<plate>[^/]+)/{_SITE}/img_(?P<channel>channel\d+)"
        rf"(?:_position\d+)?(?:_time(?P<time>\d+))?(?:_z(?P<z>\d+))?{_END}",
        # Version 1.4: plate_1/A1-Site_0/img_000000000_DAPI_000.tif
        rf"(?:^|/)(?P<plate>[^/]+)/{_SITE}/img_(?P<time>\d{{9}})_(?P<channel>[^/]+)"
        rf"_(?P<z>\d{{3}}){_END}",
        # plate_1_MMStack_A1-Site_0.ome.tif
        rf"(?:^|/)(?P<plate>[^/]+)_MMStack_{_SITE}{_END}",
    ),
    "cellvoyager": (
        # plate_A01_T0001F001L01A01Z01C01.tif
        r"(?:^|/)(?P<plate>[^/]+)_(?P<well>[A-Z]{1,2}\d\d)_T(?P<time>\d+)"
        rf"F(?P<field>\d+)L\d+A\d+Z(?P<z>\d+)(?P<channel>C\d+){_END}",
    ),
    "incell": (
        # plate/A - 01(fld 1 wv DAPI - DAPI).tif
        r"(?:^|/)(?P<plate>[^/]+)/(?P<row>[A-Z]{1,2}) - (?P<column>\d+)"
        r"\(fld (?P<field>\d+) wv (?P<channel>[^ )]+)(?: - [^ )]+)?"
        rf"(?: z (?P<z>\d+))?[^)]*\){_END}",
    ),
}
"""Name of a maker's software or microscope to the paths of its files, without regard
to case but for wells before sites: ``_s12`` is none."""

_WELL_GROUPS = ("well", "row", "column")

WHERE = ("plate", "well", "field", "time", "plane")
"""Columns of a plate in their order; those of other groups follow. Two images that
have them all alike show the same."""

_NUMBERED = ("field", "time", "plane")

Columns = dict[str, str]
"""Name of a column to what a path says."""


def row_letters(number: int) -> str:
    """Return the name of a row of wells by its number from 0.

    Examples
    --------
    >>> row_letters(0), row_letters(25), row_letters(26), row_letters(31)
    ('A', 'Z', 'AA', 'AF')
    """
    high, low = divmod(number, 26)
    return (chr(64 + high) if high else "") + chr(65 + low)


def name_of(well: tuple[int, int]) -> str:
    """Return the name of a well by its row and column from 0, as tables have it.

    Examples
    --------
    >>> name_of((0, 8)), name_of((31, 47))
    ('A09', 'AF48')
    """
    return f"{row_letters(well[0])}{well[1] + 1:02d}"


def well_place(text: str) -> tuple[int, int] | None:
    """Return row and column of a well, from 0; None if it is no well of a plate.

    Examples
    --------
    >>> well_place("a1"), well_place("AF48"), well_place("H - 012"), well_place("A0")
    ((0, 0), (31, 47), (7, 11), None)
    """
    found = _WELL.fullmatch(text.strip())
    if found is None:
        return None
    row = 0
    for letter in found[1].upper():
        row = 26 * row + ord(letter) - 64
    column = int(found[2])
    if row > MOST_ROWS or not 1 <= column <= MOST_COLUMNS:
        return None
    return row - 1, column - 1


def well_name(text: str) -> str:
    """Return the name of a well in the one form that tables have; '' if it is none.

    Examples
    --------
    >>> well_name("a1"), well_name("B012"), well_name("AF48"), well_name("all")
    ('A01', 'B12', 'AF48', '')
    """
    place = well_place(text)
    return name_of(place) if place else ""


def plate_of_zarr(path: Path, image: str | None) -> Columns:
    """Return plate, well and field of an image of an OME-Zarr plate; else nothing.

    Parameters
    ----------
    path
        The store.
    image
        Path of the field in it: ``B/12/0``.
    """
    well, _, field = (image or "").rpartition("/")
    if not well:
        return {}
    name = well.replace("/", "")
    return {
        "plate": output_stem(path),
        "well": well_name(name) or name,
        "field": field,
    }


@dataclass(frozen=True)
class PlateImage:
    """What the path of a file tells."""

    columns: Columns
    channel: ChannelFile | None
    """Its channel, and what the files of all channels have in common."""


class PlatePattern:
    """Finds plate, well, field, ... in the paths of files.

    Parameters
    ----------
    text
        A name of `PRESETS`, or a regular expression with the named groups ``well``, or
        ``row`` and ``column``. One without ``/`` is looked for in names of files; one
        with it in whole paths, of which the match has to reach into the name.

    Raises
    ------
    ConfigError
        If it is no regular expression, or has no such groups.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        known = PRESETS.get(text.casefold())
        if known is None and re.fullmatch(r"[\w-]+", text):
            raise ConfigError(
                f"--plate-pattern {text} is neither a maker nor a pattern.",
                hint=f"Makers: {', '.join(PRESETS)}. A pattern has named groups, as in "
                "'(?P<well>[A-P][0-9]+)_f(?P<field>[0-9]+)'.",
            )
        try:
            self._expressions = [
                re.compile(one, re.IGNORECASE if known else 0)
                for one in known or (text,)
            ]
        except re.error as error:
            where = "" if error.pos is None else f" at character {error.pos + 1}"
            raise ConfigError(
                f"--plate-pattern {text} is no regular expression: {error.msg}{where}.",
                hint="Groups are named by (?P<well>...); a dot or bracket of a name "
                "has a backslash before it. Makers: " + ", ".join(PRESETS) + ".",
            ) from error
        for one in self._expressions:
            groups = set(one.groupindex)
            if "well" not in groups and not {"row", "column"} <= groups:
                named = ", ".join(sorted(groups)) or "none"
                raise ConfigError(
                    f"--plate-pattern {text} has no group named well (its groups: "
                    f"{named}).",
                    hint="Name it (?P<well>...), or (?P<row>...) and (?P<column>...).",
                )

    def read(self, path: Path) -> PlateImage | None:
        """Return what a path tells; None if the pattern does not fit it.

        Raises
        ------
        ConfigError
            If what the pattern takes for the well is none.
        """
        for one in self._expressions:
            text = path.absolute().as_posix() if "/" in one.pattern else path.name
            found = _match_of_name(one, text)
            if found is not None:
                return PlateImage(
                    self._columns(path, found), _channel(path, text, found)
                )
        return None

    def _columns(self, path: Path, found: re.Match[str]) -> Columns:
        groups = {name: text or "" for name, text in found.groupdict().items()}
        given = groups.get("well") or _of_row(groups)
        well = well_name(given)
        if not well:
            raise ConfigError(
                f"--plate-pattern {self.text} takes {given!r} for the well of {path}.",
                hint="Wells are A1 to AF48, rows letters or numbers from 1.",
            )
        groups = {
            k: v for k, v in groups.items() if k not in (*_WELL_GROUPS, "channel")
        }
        if "z" in groups:
            # In a table z is the plane within a file.
            groups["plane"] = groups.pop("z")
        groups["well"] = well
        for name in _NUMBERED:
            if groups.get(name, "").isdecimal():
                groups[name] = str(int(groups[name]))
        first = [name for name in WHERE if name in groups]
        return {name: groups[name] for name in dict.fromkeys([*first, *groups])}


def _of_row(groups: Mapping[str, str]) -> str:
    row, column = groups.get("row", ""), groups.get("column", "")
    if row.isdecimal() and 1 <= int(row) <= MOST_ROWS:
        row = row_letters(int(row) - 1)
    return row + column


def _match_of_name(expression: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the first match that does not end in a folder above the file."""
    start = text.rfind("/") + 1
    found = expression.search(text)
    while found is not None and found.end() <= start:
        found = expression.search(text, found.start() + 1)
    return found


def _channel(path: Path, text: str, found: re.Match[str]) -> ChannelFile | None:
    """Return the channel that a path tells, and its site: all but the channel."""
    groups = found.groupdict()
    if not groups.get("channel"):
        return None
    start, end = found.span("channel")
    name = text.rfind("/") + 1
    folder = path.parent
    if end <= name:
        # The channels have folders of their own.
        folder = Path(text[:start] + text[end:name])
    others = "\0".join(f"{k}={v}" for k, v in groups.items() if k != "channel")
    own = channel_file(path)
    word = (
        own.name if own and own.mark.casefold() == found["channel"].casefold() else ""
    )
    return ChannelFile(path, (folder, others, ""), found["channel"], word)


def marker_of(pattern: PlatePattern | None) -> Callable[[Path], ChannelFile | None]:
    """Return what tells the channel of a file: the pattern, else marks in its name."""
    if pattern is None:
        return channel_file

    def marked(path: Path) -> ChannelFile | None:
        found = pattern.read(path)
        return (found and found.channel) or channel_file(path)

    return marked


def refuse_several_channels(pattern: PlatePattern, files: Sequence[Path]) -> None:
    """Refuse to segment the files of several channels as if each was an image.

    Raises
    ------
    ConfigError
        If a site has files of several channels.
    """
    sites: dict[object, set[str]] = {}
    for path in files:
        found = pattern.read(path)
        if found is not None and found.channel is not None:
            sites.setdefault(found.channel.site, set()).add(found.channel.mark)
    marks = sorted({one for of_site in sites.values() for one in of_site})
    if any(len(of_site) > 1 for of_site in sites.values()):
        raise ConfigError(
            f"The files are of {len(marks)} channels ({', '.join(marks[:8])}), and "
            "objects would be counted in each.",
            hint=f"Say which one shows the nuclei: --segment-channel {marks[0]}; the "
            "others are measured under its labels.",
        )


def recognized(files: Iterable[Path]) -> str:
    """Return the preset that fits all of some files of several wells; '' if none does.

    Examples
    --------
    >>> recognized([Path("p/r01c01f01p01-ch1.tif"), Path("p/r01c02f01p01-ch1.tif")])
    'operetta'
    """
    every = list(files)
    for name in PRESETS if len(every) > 1 else ():
        wells = set()
        for columns in _columns_of(PlatePattern(name), every):
            if not columns:
                break
            wells.add((columns["plate"], columns["well"]))
        else:
            if len(wells) > 1:
                return name
    return ""


def _columns_of(pattern: PlatePattern, files: Iterable[Path]) -> Iterator[Columns]:
    """Yield what a preset tells of files, nothing where it leaves a doubt."""
    for path in files:
        try:
            found = pattern.read(path)
        except ConfigError:
            found = None
        # A name with a well alone is none of a maker's.
        sure = found is not None and (found.channel or found.columns.get("field"))
        yield found.columns if found and sure else {}
