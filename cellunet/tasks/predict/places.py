"""Columns that are the same in all rows of an image: plate, well, ..., and samples."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.errors import CellunetError, ConfigError, InputError
from cellunet.imaging.measure import INTENSITIES
from cellunet.io.file_names import (
    WHERE,
    PlatePattern,
    plate_of_zarr,
    recognized,
    well_name,
)
from cellunet.io.images import FOLDERS, names_of_images, suffix_of
from cellunet.io.paths import output_stem
from cellunet.io.samples import read_samples
from cellunet.io.zarr_store import address
from cellunet.outputs.tables import KNOWN, safe_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cellunet.command_config import PredictConfig
    from cellunet.io.samples import SampleRow, SampleSheet, Value

    ImageColumns = Mapping[str, Value]
    """Name of a column to what it holds of an image; text, or a number."""


@dataclass(frozen=True)
class PlacedImage:
    """An image of which columns are wanted."""

    path: Path
    """Its file."""
    name: str
    """Path below the common folder of the run."""
    image: str | None = None
    """Which image of the file."""
    others: tuple[Path, ...] = ()
    """Files of its other channels."""


@dataclass(frozen=True)
class Places:
    """What is known of all images of a run beside their pixels."""

    columns: tuple[ImageColumns, ...]
    """Of each image, all with the same names in the same order."""
    notes: tuple[str, ...] = ()
    """What to know, in sentences."""
    warnings: tuple[str, ...] = ()
    """What to look at, in sentences."""


class Placing:
    """Finds the columns of images by a pattern and a sheet, both read beforehand.

    Parameters
    ----------
    config
        The pattern, the sheet, and whether anything is saved that shows columns.

    Raises
    ------
    CellunetError
        If the pattern or the sheet is none, or a column has the name of another.
    """

    def __init__(self, config: PredictConfig) -> None:
        text, sheet = config.plate_pattern, config.samples
        self.pattern = None if text is None else PlatePattern(text)
        """What the paths of files tell, if anything."""
        self._sheet = None if sheet is None else read_samples(Path(sheet))
        if self._sheet is not None:
            _refuse_taken(self._sheet.columns, str(sheet), "Rename it in the sheet.")
        self._shown = config.shows_columns

    def columns_of(self, images: Sequence[PlacedImage]) -> Places:
        """Return the columns of all images, also those of other parts of a batch.

        What holds of one image may follow from the others: which columns there are,
        and whether a row is of it alone.

        Raises
        ------
        CellunetError
            If the pattern or the sheet fits no image, or not clearly.
        """
        found = [self._of_path(image) for image in images]
        used = [n for n in dict.fromkeys(k for own in found for k in own)
                if any(own.get(n) for own in found)]  # fmt: skip
        order = [*(n for n in WHERE if n in used), *(n for n in used if n not in WHERE)]
        places: list[dict[str, Value]] = [
            {name: safe_path(own.get(name, "")) for name in order} for own in found
        ]
        notes, warnings = [], []
        if self.pattern is not None:
            _refuse_taken(
                [n for n in order if n not in WHERE],
                "--plate-pattern",
                "Rename the group.",
            )
            warnings += _unfitting(self.pattern, images, found)
        elif self._shown and not any(found):
            notes += _recognized(images)
        warnings += _alike(images, found)
        if self._sheet is not None:
            for message, is_note in self._add_samples(images, places):
                (notes if is_note else warnings).append(message)
        return Places(tuple(places), tuple(notes), tuple(warnings))

    def _of_path(self, image: PlacedImage) -> dict[str, str]:
        found = _in_zarr(image)
        if not found and self.pattern is not None:
            told = self.pattern.read(image.path)
            found = told.columns if told else {}
            if told and (image.image or "").isdecimal():
                # Images of one file are fields of a well.
                found = {"field": str(image.image)} | {
                    k: v for k, v in found.items() if v
                }
        return found

    def _add_samples(
        self,
        images: Sequence[PlacedImage],
        places: list[dict[str, Value]],
    ) -> Iterator[tuple[str, bool]]:
        """Add the columns of the sheet; yields what to tell, and if it is a note."""
        sheet = self._sheet
        if sheet is None:
            return
        _refuse_known(sheet, places)
        rows = _rows_by_image(sheet, images, places)
        taken = {row.line for row in rows if row is not None}
        left = [row for row in sheet.rows if row.line not in taken]
        without = [i.name for i, row in zip(images, rows, strict=True) if row is None]
        if len(without) == len(images) and images:
            raise _no_row(sheet, images, places)
        for place, row in zip(places, rows, strict=True):
            values = sheet.missing if row is None else row.values
            for name in sheet.columns:
                place[name] = _as_well(name, values[name])
        if without:
            yield (
                f"{len(without):,} of {len(images):,} images "
                f"{'has' if len(without) == 1 else 'have'} no row in {sheet.path}, and "
                f"empty cells in the table; the first: {without[0]}.",
                False,
            )
        if left:
            what = "row belongs" if len(left) == 1 else "rows belong"
            yield (
                f"{len(left):,} {what} to no image in {sheet.path}; the first: line "
                f"{left[0].line}, {left[0].key}",
                True,
            )


def _in_zarr(image: PlacedImage) -> dict[str, str]:
    """Return what a plate in OME-Zarr tells of an image of it; else nothing."""
    if suffix_of(image.path) not in FOLDERS:
        return {}
    return plate_of_zarr(image.path, _path_within(image))


def _path_within(image: PlacedImage) -> str | None:
    """Return the path of an image in its store, where it may be given by number."""
    text = image.image
    if text is None or not text.isdecimal():
        return text
    try:
        names = names_of_images(image.path)
    except CellunetError:
        # It is told when the image is opened.
        return text
    return names[int(text)] if text not in names and int(text) < len(names) else text


def _as_well(name: str, value: Value) -> Value:
    """Return a well as all tables have it, any other value as it is."""
    if name == "well" and isinstance(value, str):
        return well_name(value) or value
    return value


def _refuse_taken(names: Iterable[str], where: str, hint: str) -> None:
    """Refuse names that tables have already.

    Raises
    ------
    ConfigError
        If a name is that of a measured column, or of one that says where it is.
    """
    fixed = {*KNOWN, "label"}
    per_channel = tuple(f"{column.name}_" for column in INTENSITIES)
    for name in names:
        if name in fixed or name.startswith(per_channel):
            raise ConfigError(
                f"{where} has a column {name!r}, which is one of the table's own.",
                hint=hint,
            )


def _refuse_known(sheet: SampleSheet, places: Sequence[ImageColumns]) -> None:
    known = places[0] if places else {}
    for name in sheet.columns:
        if name in known:
            raise ConfigError(
                f"{sheet.path} has a column {name!r}, which the images' own paths "
                "tell, too.",
                hint="Rename it in the sheet.",
            )


def _unfitting(
    pattern: PlatePattern,
    images: Sequence[PlacedImage],
    found: Sequence[Mapping[str, str]],
) -> list[str]:
    """Return what to say of images that a pattern does not fit; refuse if none fits."""
    without = [i for i, own in zip(images, found, strict=True) if not own]
    if not without:
        return []
    first = without[0].path
    if len(without) == len(images):
        maker = recognized([i.path for i in images])
        raise InputError(
            f"--plate-pattern {pattern.text} fits none of {len(images):,} images; the "
            f"first: {first}.",
            hint=f"Try: --plate-pattern {maker}."
            if maker
            else "A pattern without / is looked for in names of files, one with it in "
            "whole paths, as docs/plates.md shows.",
        )
    return [
        f"--plate-pattern {pattern.text} does not fit {len(without):,} of "
        f"{len(images):,} images, for which no well is known; the first: {first}."
    ]


def _recognized(images: Sequence[PlacedImage]) -> list[str]:
    name = recognized([i.path for i in images])
    if not name:
        return []
    return [
        f"the files are named as those of a plate: --plate-pattern {name} adds plate, "
        "well and field to the table, and the plate to the report"
    ]


def _alike(
    images: Sequence[PlacedImage], found: Sequence[Mapping[str, str]]
) -> list[str]:
    """Return what to say of images that would be the same field of a plate."""
    first: dict[tuple[str, ...], PlacedImage] = {}
    alike = [
        (before, image)
        for image, own in zip(images, found, strict=True)
        if own
        for before in [first.setdefault(tuple(own.get(n, "") for n in WHERE), image)]
        if before is not image
    ]
    if not alike:
        return []
    one, other = alike[0]
    hint = (
        "Groups plate, field, z or time in --plate-pattern tell them apart, or channel "
        "with --segment-channel."
    )
    if all(_in_zarr(i) for i in alike[0]):
        hint = (
            "A plate in OME-Zarr is called as its folder. Rename one of the plates, "
            f"{one.path} or {other.path}, or segment them with different --out."
        )
    images_are = "1 image is" if len(alike) == 1 else f"{len(alike):,} images are"
    return [
        f"{images_are} of the same plate, well and field as another, and the objects "
        f"are added up; the first: {other.name} and {one.name}. {hint}"
    ]


def _rows_by_image(
    sheet: SampleSheet, images: Sequence[PlacedImage], places: Sequence[ImageColumns]
) -> list[SampleRow | None]:
    """Return the row of each image, None where there is none."""
    if sheet.rows[0].file:
        return _rows_by_file(sheet, images)
    if not any(place.get("well") for place in places):
        raise ConfigError(
            f"{sheet.path} is of wells, but no image is known to be of one.",
            hint="Say how paths tell the well: --plate-pattern imagexpress, operetta, "
            "... or a pattern (docs/plates.md); or give a column file.",
        )
    plates = {_normal(place.get("plate", "")) for place in places if place.get("well")}
    if sheet.by_plate and plates == {""}:
        plates = {_normal(row.plate) for row in sheet.rows}
        if len(plates) > 1:
            raise ConfigError(
                f"{sheet.path} is of {len(plates)} plates, but of no image the plate "
                "is known.",
                hint="Give --plate-pattern a group plate: (?P<plate>...).",
            )
    by_key = {
        (_normal(row.plate) if sheet.by_plate else "", row.well): row
        for row in sheet.rows
    }
    # Where some images are of known plates, that of the others may be any.
    (only,) = plates if len(plates) == 1 else ("",)
    found = []
    for place in places:
        plate = _normal(place.get("plate", "")) or only
        key = plate if sheet.by_plate else "", str(place.get("well", ""))
        found.append(by_key.get(key))
    return found


def _normal(text: Value) -> str:
    """Return a name with its accents composed: macOS takes them apart in names."""
    return unicodedata.normalize("NFC", str(text))


def _rows_by_file(
    sheet: SampleSheet, images: Sequence[PlacedImage]
) -> list[SampleRow | None]:
    """Return the row of each image by its path, else its name, with suffix or without.

    A row is of all images of a file, or of the one whose number follows behind ``#``.

    Raises
    ------
    InputError
        If a row is of several files, or two rows are of one.
    """
    # Numbers of images by their file, by what that may be called: thousands may have
    # one name.
    by_path: dict[str, dict[Path, list[int]]] = {}
    by_name: dict[str, dict[Path, list[int]]] = {}
    for number, image in enumerate(images):
        # Labels that are measured are called otherwise than their images.
        before, found_name, _ = image.name.rpartition(image.path.name)
        folder = before if found_name else "".join(image.name.rpartition("/")[:2])
        own = "" if image.image is None else f"#{image.image}"
        for path in (image.path, *image.others):
            paths = (address(path) or path.as_posix(), _whole(path), folder + path.name)
            names = (path.name, output_stem(path))
            for files, keys in ((by_path, paths), (by_name, names)):
                for key in {f"{key}{end}" for key in keys for end in ("", own)}:
                    of_file = files.setdefault(_normal(key), {})
                    of_file.setdefault(path, []).append(number)
    found: list[SampleRow | None] = [None] * len(images)
    for row in sheet.rows:
        key = _normal(row.file.replace("\\", "/").removeprefix("./"))
        numbers = by_path.get(key) or by_path.get(_whole(key)) or by_name.get(key, {})
        hits: dict[tuple[int, ...], Path] = {}
        for path, those in numbers.items():
            # Labels that are measured may be called as their image.
            hits.setdefault(tuple(those), path)
        if len(hits) > 1:
            one, second, *_ = hits.values()
            raise InputError(
                f"{sheet.path}, line {row.line}: {row.file} may be {one} or {second}.",
                hint="Give the path below the common folder of the images.",
            )
        for number in next(iter(hits), ()):
            other = found[number]
            if other is not None and other.values != row.values:
                raise InputError(
                    f"{sheet.path}: lines {other.line} and {row.line} are both of "
                    f"{images[number].name}.",
                    hint="Keep one of them.",
                )
            found[number] = row
    return found


def _whole(path: Path | str) -> str:
    """Return a path from the root on; links are not followed."""
    return Path(os.path.abspath(path)).as_posix()  # noqa: PTH100


def _no_row(
    sheet: SampleSheet, images: Sequence[PlacedImage], places: Sequence[ImageColumns]
) -> InputError:
    known = {k: str(v) for k, v in places[0].items() if k in ("plate", "well") and v}
    own = " of plate ".join(reversed(known.values())) or images[0].name
    return InputError(
        f"No row of {sheet.path} is of an image: its first is of {sheet.rows[0].key}, "
        f"the first image is {own}.",
        hint="Rows name files as they are, or plates and wells as the table has them.",
    )
