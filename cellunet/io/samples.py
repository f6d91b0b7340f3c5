"""Read a sheet of samples: what was done in each well, or is known of each file."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.io.file_names import WHERE, well_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

Value = str | float
"""Of a cell; NaN is a number that is not given."""

KEYS = {
    "file": ("file", "filename", "image", "path", "image path", "file path"),
    "well": ("well",),
}
"""What the key column may be called, in any case, with ``_`` or spaces."""

SEPARATORS = ",;\t"

AS_CSV = "In the spreadsheet: Save As, CSV UTF-8 (comma delimited)."

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
"""What reads as a number and means one: ``007`` is a name."""

_THOUSANDS = re.compile(r"-?[1-9]\d{0,2},\d{3}")

_COMPUTED = re.compile(
    r"[=@\t\r\n＝＋－＠]"  # noqa: RUF001
    # A sign before a cell's name, or before anything with an operator, but for numbers
    # and genotypes such as +/-.
    r"|[+-](?!\d*\.?\d*([eE][+-]?\d+)?$|/?[+-]?$)"
    r"(\$?[A-Za-z]{1,3}\$?\d+$|.*[-+*/^&=<>(!|:])"
)
"""What spreadsheets compute when they open a CSV file."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class SampleRow:
    """One row below the header."""

    line: int
    """Its line in the file, from 1."""
    file: str
    """File or path that it is of; empty where wells are the key."""
    plate: str
    """Plate that it is of, if the sheet tells."""
    well: str
    """Well that it is of, as in a table; empty where files are the key."""
    values: Mapping[str, Value]
    """Further columns."""

    @property
    def key(self) -> str:
        """What it is of, in words."""
        if self.file:
            return self.file
        return f"well {self.well}" + (f" of plate {self.plate}" if self.plate else "")


@dataclass(frozen=True)
class SampleSheet:
    """A sheet of samples."""

    path: Path
    columns: tuple[str, ...]
    """Names of its columns, the key aside."""
    missing: Mapping[str, Value]
    """What stands in each where nothing is known: NaN in a column of numbers."""
    rows: tuple[SampleRow, ...]
    by_plate: bool
    """Whether a row is of a well of one plate."""


def is_given(value: Value) -> bool:
    """Return whether a value says anything: no empty text, and not NaN."""
    return value != "" and value == value


def read_samples(path: Path) -> SampleSheet:
    """Read a sheet: CSV, with commas, semicolons or tabs.

    The key is a column of files (`KEYS`), or else of wells, with a column ``plate`` if
    there are several. A column of which every cell is a number holds numbers.

    Raises
    ------
    InputError
        If it is none: the line, what is wrong there, and what to do.
    """
    text = _text(path)
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    lines = list(_lines(path, text, separator))
    if not lines:
        raise InputError(f"{path} is empty.", hint=f"{_expected()} {AS_CSV}")
    (first, header), *body = lines
    names = [_plain(name.strip()) for name in header]
    width = max((k + 1 for k, name in enumerate(names) if name), default=0)
    if not any(any(row[width:]) for _, row in body):
        # Commas behind the last column, as spreadsheets write them.
        del names[width:]
    _refuse_names(path, first, names)
    kind, key = _key_column(path, names)
    plate = _column(names, ("plate",)) if kind == "well" else None
    used = {key, plate}
    columns = [name for k, name in enumerate(names) if k not in used]
    if not columns:
        raise InputError(
            f"{path} has no column beside {names[key]}.",
            hint="Add what is known of each sample: treatment, dose, replicate, ...",
        )
    cells = [(line, _filled(path, line, row, names)) for line, row in body]
    if separator != ",":
        numbered = {k for k, n in enumerate(names) if n not in WHERE} - used
        _replace_decimal_commas([row for _, row in cells], numbered, separator)
    missing = {
        name: _missing(name, [row[names.index(name)] for _, row in cells])
        for name in columns
    }
    rows = tuple(
        _row(path, line, row, names, (kind, key, plate), missing) for line, row in cells
    )
    if not rows:
        raise InputError(f"{path} has a header and no row.", hint=_expected())
    _refuse_twice(path, rows)
    return SampleSheet(path, tuple(columns), missing, rows, plate is not None)


def _plain(name: str) -> str:
    """Return a name as tables have it, if it is one of theirs in other letters."""
    return name.casefold() if name.casefold() in WHERE else name


def _expected() -> str:
    return (
        "A sheet has a column file or well (with plate, if there are several), then "
        "any further ones."
    )


def _lines(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, with the numbers of their lines.

    Raises
    ------
    InputError
        If it cannot be read as cells.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}.", hint=f"Mend it there. {AS_CSV}"
        ) from error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}).",
            hint="--samples takes a CSV file.",
        ) from error
    if content.startswith(_WORKBOOKS):
        raise InputError(f"{path} is a workbook, and no CSV file.", hint=AS_CSV)
    # A byte order mark, as Excel writes it, says which of the two it is.
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: a character is not in UTF-8.", hint=AS_CSV
        ) from error


def _refuse_names(path: Path, line: int, names: list[str]) -> None:
    """Refuse a header in which a name is empty, or there twice."""
    seen = set()
    for number, name in enumerate(names, 1):
        what = "" if name else f"column {number} has no name"
        what = f"column {name!r} is there twice" if name.casefold() in seen else what
        if name and _COMPUTED.match(name):
            what = f"a spreadsheet would compute the name {name!r}"
        if what:
            raise InputError(
                f"{path}, line {line}: {what}.", hint="Rename it in the header."
            )
        seen.add(name.casefold())


def _column(names: list[str], known: tuple[str, ...]) -> int | None:
    plain = [name.casefold().replace("_", " ") for name in names]
    return next((plain.index(name) for name in known if name in plain), None)


def _key_column(path: Path, names: list[str]) -> tuple[str, int]:
    for kind, known in KEYS.items():
        found = _column(names, known)
        if found is not None:
            return kind, found
    shown = ", ".join(names[:8])
    raise InputError(
        f"{path} has no column file or well; its columns are {shown}.",
        hint=f"{_expected()} They are divided by commas, semicolons or tabs.",
    )


def _filled(path: Path, line: int, row: list[str], names: list[str]) -> list[str]:
    """Return a row with as many cells as there are names."""
    if any(row[len(names) :]):
        raise InputError(
            f"{path}, line {line} has {len(row)} cells, but the header {len(names)}.",
            hint='Put text with a separator in quotes: "a, b".',
        )
    return [*row, *[""] * (len(names) - len(row))][: len(names)]


def _replace_decimal_commas(
    rows: list[list[str]], columns: Iterable[int], separator: str
) -> None:
    """Write numbers with a point in columns of which every number has a comma, or none.

    So spreadsheets write them in languages in which no comma divides cells. Tabs do in
    all languages: there, what may be thousands stays as it is.
    """
    for column in columns:
        cells = [row[column] for row in rows if row[column]]
        comma = all(_is_number(c.replace(",", ".")) for c in cells)
        if separator == "\t":
            comma &= not all(_THOUSANDS.fullmatch(c) for c in cells if "," in c)
        if comma and not any("." in c for c in cells):
            for row in rows:
                row[column] = row[column].replace(",", ".")


def _missing(name: str, cells: list[str]) -> Value:
    """Return what stands for nothing in a column of these cells."""
    there = [cell for cell in cells if cell]
    numbers = there and all(map(_is_number, there)) and name not in WHERE
    return float("nan") if numbers else ""


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number that tables hold: barcodes are names."""
    if not _NUMBER.fullmatch(cell):
        return False
    value = float(cell)
    # Tables have nine digits: what they would change is a name, such as a barcode.
    rounded = value.is_integer() and float(f"{value:.9g}") != value
    return math.isfinite(value) and not rounded


def _row(
    path: Path,
    line: int,
    row: list[str],
    names: list[str],
    where: tuple[str, int, int | None],
    missing: Mapping[str, Value],
) -> SampleRow:
    kind, key, plate = where
    if not row[key]:
        raise InputError(f"{path}, line {line} names no {kind}.", hint=_expected())
    well = well_name(row[key]) if kind == "well" else ""
    if kind == "well" and not well:
        raise InputError(
            f"{path}, line {line}: {row[key]!r} is no well.",
            hint="Wells are A1 to AF48.",
        )
    values: dict[str, Value] = {}
    for name, nothing in missing.items():
        cell = row[names.index(name)]
        if _COMPUTED.match(cell) or _CONTROL.search(cell):
            what = "a spreadsheet would compute"
            if _CONTROL.search(cell):
                what = "a control character is in"
            raise InputError(
                f"{path}, line {line}: {what} {name} {cell!r}.",
                hint="Write it as text without that.",
            )
        read: Callable[[str], Value] = str if isinstance(nothing, str) else float
        values[name] = read(cell) if cell else nothing
    return SampleRow(
        line=line,
        file=row[key] if kind == "file" else "",
        plate=row[plate] if plate is not None else "",
        well=well,
        values=values,
    )


def _refuse_twice(path: Path, rows: tuple[SampleRow, ...]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        # macOS takes the accents of names apart.
        first = seen.setdefault(unicodedata.normalize("NFC", row.key), row.line)
        if first != row.line:
            raise InputError(
                f"{path}: lines {first} and {row.line} are both of {row.key}.",
                hint="Keep one of them"
                + (", or add a column plate." if row.well and not row.plate else "."),
            )
