"""Tables of objects: one per image, and one of a whole run.

A table is written object by object and appears when it is complete. Its first columns
say where an object is found: ``image``, the image's path below the common folder of the
run, with ``/`` between folders; ``t`` and ``z``, numbers from 0 where the image has
those axes; and ``id``, the object's number in the label image. The others are those of
`cellunet.imaging.measure`; then, behind `FROM`, what is the same for all objects of an
image: its place on a plate, and what is known of the sample.

CSV is UTF-8 (RFC 4180 but for line feeds alone): text in double quotes, numbers as
they are, with nine significant digits unless they are whole, and nothing for what is
not known. A spreadsheet takes a cell for a formula that begins with one of `FORMULA`,
quoted or not. An image whose path begins so is therefore given as ``./`` and its path,
which names the same file; no column's name begins so, and all else are numbers.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
import shutil
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np

from cellunet.errors import ConfigError, OutputError, choose, optional
from cellunet.imaging.measure import WHOLE, column_names
from cellunet.io.file_names import WHERE
from cellunet.io.files import (
    PendingFile,
    StreamedFile,
    StreamedText,
    open_text,
    write_atomically,
    writing,
)
from cellunet.io.samples import is_given

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from cellunet.imaging.measure import Table

PLACES = ("image", "t", "z", "id")
"""Columns that say where an object is found."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""First characters of what spreadsheets compute, those of Japanese ones included."""

FROM = "pixel_size_from"
"""Column that says where the size of a pixel stands."""

TEXTS = ("image", FROM, *WHERE)
"""Columns of text; those of samples may be, too, all others are numbers."""

VOLUME_COLUMNS = ("volume_vx", "volume_um3", "planes", "z_first", "z_last", "z_mean")
"""Columns that a table of linked objects has besides those of a plane."""

AFTER = (*VOLUME_COLUMNS, "frame")
"""Columns behind those of whole images."""

KNOWN = (*PLACES, *column_names(detail=True), FROM, *AFTER)
"""Columns in their order, but for those of several channels and of whole images."""

INTEGERS = (
    *("t", "z", "id", *WHOLE),
    *("frame", "volume_vx", "planes", "z_first", "z_last"),
)

_CELL = re.compile(r'(?:^|,)("(?:[^"]|"")*"|[^,]*)')
"""A cell of CSV as it is written."""

EXACT = 2.0**53
"""Whole numbers below this are exact as float64."""


class TableSink(Protocol):
    """A table being written."""

    def add(self, image: str, place: dict[str, int], ids: Any, table: Table) -> None:  # noqa: ANN401
        """Append objects of one plane: its `place` has ``t`` and ``z`` if there are."""
        ...

    def commit(self) -> None:
        """Make the complete file appear."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        ...


class CsvTable(StreamedText):
    """A table as CSV text.

    Parameters
    ----------
    path
        Where it is to appear.
    columns
        Names of its columns behind those that say where an object is found.
    texts
        Those of them that hold text, besides `TEXTS`.
    places
        Names of those that say where an object is found.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        texts: Sequence[str] = (),
        places: Sequence[str] = PLACES,
    ) -> None:
        del texts  # which any cell of CSV may hold
        self._columns = tuple(columns)
        header = ",".join(map(quoted, (*places, *columns)))
        super().__init__(path, f"{header}\n", "utf-8")

    def add(self, image: str, place: dict[str, int], ids: Any, table: Table) -> None:  # noqa: ANN401
        """Append objects of one plane."""
        first = quoted(safe_path(image)), *(str(place.get(a, "")) for a in ("t", "z"))
        front = ",".join(first)
        columns = [_texts(table[name]) for name in self._columns if name in table]
        if len(columns) != len(self._columns):
            raise ValueError(f"columns {sorted(table)}, expected {self._columns}")
        rows = zip(ids.tolist(), *columns, strict=True)
        self.write(f"{front},{n},{','.join(r)}\n" for n, *r in rows)


class ParquetTable(StreamedFile):
    """A table as Parquet, one row group a batch; see `CsvTable`.

    ``image`` is text, whole numbers are int64, all else float64; what is not known is
    null, and paths are as they are.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], texts: Sequence[str] = ()
    ) -> None:
        self._arrow = optional("pyarrow", "parquet", "A Parquet table")
        parquet = optional("pyarrow.parquet", "parquet", "A Parquet table")
        if unicode(str(path)) != str(path):
            raise OutputError(
                f"{path} is a name that is not UTF-8, which the library of Parquet "
                "does not write.",
                hint="Rename the file or the folder, or write the table as CSV: "
                "--table-format csv.",
            )
        self._texts = texts
        self._schema = table_schema(self._arrow, (*PLACES, *columns), texts)
        super().__init__(
            path,
            lambda temporary: parquet.ParquetWriter(
                str(temporary), self._schema, compression="zstd"
            ),
        )

    def add(self, image: str, place: dict[str, int], ids: Any, table: Table) -> None:  # noqa: ANN401
        """Append objects of one plane."""
        if not len(ids):
            return
        given: dict[str, Any] = {"image": [image] * len(ids), "id": ids, **table}
        given |= {a: [place.get(a)] * len(ids) for a in ("t", "z")}
        # Of a text that is not known nothing is there, as of a number.
        given |= {
            n: [unicode(v) or None for v in given[n].tolist()] for n in self._texts
        }
        arrays = [
            self._arrow.array(given[f.name], f.type, from_pandas=True)
            for f in self._schema
        ]
        batch = self._arrow.record_batch(arrays, schema=self._schema)
        with writing(self._pending.path):
            self._file.write_batch(batch)


def table_schema(
    arrow: Any,  # noqa: ANN401 - a library
    names: Iterable[str],
    texts: Iterable[str] = (),
) -> Any:  # noqa: ANN401 - of it
    """Return the schema of columns of these names, of which `texts` hold text, too."""
    kinds = dict.fromkeys((*TEXTS, *texts), arrow.string())
    kinds |= dict.fromkeys(INTEGERS, arrow.int64())
    return arrow.schema([(name, kinds.get(name, arrow.float64())) for name in names])


TABLES: dict[str, Callable[..., TableSink]] = {
    "csv": CsvTable,
    "parquet": ParquetTable,
}
"""Format, which is the suffix too, to writer."""


def safe_path(path: str) -> str:
    """Return a path that no spreadsheet takes for a formula.

    Examples
    --------
    >>> safe_path("a/b.tif"), safe_path("=1+1.tif")
    ('a/b.tif', './=1+1.tif')
    """
    return f"./{path}" if path.startswith(FORMULA) else path


def unicode(text: str) -> str:
    """Return text as any file holds it, bytes that are no text by their numbers.

    Names that are not Unicode (PEP 383) must not stop the table of all others.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(text: str) -> str:
    """Return text as a cell of CSV."""
    text = unicode(text)
    return '"' + text.replace('"', '""') + '"'


def _texts(values: Any) -> list[str]:  # noqa: ANN401 - an array of any real type
    if values.dtype.kind == "U":
        return [quoted(value) for value in values.tolist()]
    if np.issubdtype(values.dtype, np.integer):
        return list(map(str, values.tolist()))
    # Whole numbers of up to nine digits come out as such; adding 0 makes 0 of -0.
    texts = list(map("{:.9g}".format, (values + 0.0).tolist()))
    for k in np.flatnonzero(~(np.abs(values) < 1e9)).tolist():
        texts[k] = _number(float(values[k]))
    return texts


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    if value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    return f"{value:.9g}"


def join(parts: Sequence[Path], path: Path) -> None:
    """Write one table of several of the same format, one after the other.

    Columns that a table does not have are empty in its rows; channels make them differ.
    Nothing is kept but the names of columns and one row group or line.

    Parameters
    ----------
    parts
        Tables that this module wrote, suffix ``.csv`` or ``.parquet``; at least one.
    path
        Where the joined table is to appear.

    Raises
    ------
    OutputError
        If one cannot be read, or the joined one not be written.
    """
    choose(_JOINS, path.suffix, "suffix of a table")(parts, path)


def _merged(headers: Iterable[Iterable[str]]) -> list[str]:
    """Return the columns of all tables, in the order in which a table has them.

    Tables of an earlier version lack columns, and channels differ: a column that is not
    known here comes before the one that follows it in its own table.
    """
    # Of thousands of images, most have the same.
    distinct = dict.fromkeys(tuple(header) for header in headers)
    given = {name for header in distinct for name in header}
    merged = [name for name in KNOWN if name in given]
    for header in distinct:
        place = len(merged)
        for name in reversed(header):
            if name in merged:
                place = merged.index(name)
            else:
                merged.insert(place, name)
    return merged


def _join_csv(parts: Sequence[Path], path: Path) -> None:
    columns = _merged(map(_csv_names, parts))
    with write_atomically(path) as temporary, open_text(temporary, "utf-8") as file:
        head = ",".join(map(quoted, columns)) + "\n"
        file.write(head)
        for part in parts:
            if not _copy_rows(part, head, file):
                file.writelines(_rows_in(part, _csv_names(part), columns))


def _copy_rows(part: Path, head: str, file: TextIO) -> bool:
    """Copy what lies below a header that is the joined one, and say whether it is."""
    try:
        with part.open(encoding="utf-8", newline="") as own:
            same = own.read(len(head)) == head
            if same:
                shutil.copyfileobj(own, file)
            return same
    except (OSError, ValueError) as error:
        raise _unreadable(part, error) from error


def _rows_in(
    part: Path, header: Sequence[str], columns: Sequence[str]
) -> Iterator[str]:
    """Yield the rows of a table with other columns as text, cells as they are there.

    What is text and what a number is known by the quotes alone.
    """
    for row in _rows(part, header):
        yield ",".join(row.get(name, "") for name in columns) + "\n"


def _rows(path: Path, header: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the cells of each row by name, text in its quotes."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for record in itertools.islice(_records(file), 1, None):
                yield dict(zip(header, _CELL.findall(record), strict=True))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _records(lines: Iterable[str]) -> Iterator[str]:
    """Yield the records of CSV without their ends; text in quotes may hold lines."""
    record = ""
    for line in lines:
        record += line
        if record.count('"') % 2 == 0:
            yield record.rstrip("\r\n")
            record = ""
    if record:
        raise ValueError("a quote is not closed")


def is_ours(path: Path) -> bool:
    """Return whether a file begins as a table of this module does."""
    try:
        names = choose(_NAMES, path.suffix, "suffix of a table")(path)
    except (ConfigError, OutputError):
        # Nor can be told where the library of the format is not there.
        return False
    return tuple(names[: len(PLACES)]) == PLACES


def is_linked(path: Path) -> bool:
    """Return whether the objects of a table go on over planes."""
    names = choose(_NAMES, path.suffix, "suffix of a table")(path)
    return VOLUME_COLUMNS[0] in names


def _csv_names(path: Path) -> list[str]:
    return next(_lines(path), [])


def _parquet_names(path: Path) -> list[str]:
    return list(_parquet_kinds(path))


def _parquet_kinds(path: Path) -> dict[str, str]:
    """Return the names of the columns, with what they hold in the library's words."""
    arrow = optional("pyarrow", "parquet", "A Parquet table")
    parquet = optional("pyarrow.parquet", "parquet", "A Parquet table")
    try:
        return {field.name: str(field.type) for field in parquet.read_schema(path)}
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file, strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"{path} cannot be joined to the table of the run ({error}).",
        hint="Delete it and run the same command again.",
    )


def _join_parquet(parts: Sequence[Path], path: Path) -> None:
    arrow = optional("pyarrow", "parquet", "A Parquet table")
    parquet = optional("pyarrow.parquet", "parquet", "A Parquet table")
    kinds = {tuple(_parquet_kinds(part).items()): None for part in parts}
    names = _merged(dict(own) for own in kinds)
    texts = {n for own in kinds for n, kind in own if kind == "string"}
    schema = table_schema(arrow, names, texts)
    with (
        write_atomically(path) as temporary,
        parquet.ParquetWriter(str(temporary), schema, compression="zstd") as file,
    ):
        for part in parts:
            for batch in parquet.ParquetFile(part).iter_batches():
                arrays = [
                    batch.column(field.name).cast(field.type)
                    if field.name in batch.schema.names
                    else arrow.nulls(len(batch), field.type)
                    for field in schema
                ]
                file.write_batch(arrow.record_batch(arrays, schema=schema))


_NAMES: dict[str, Callable[[Path], list[str]]] = {
    ".csv": _csv_names,
    ".parquet": _parquet_names,
}

_JOINS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".csv": _join_csv,
    ".parquet": _join_parquet,
}


def columns_of_image(path: Path) -> list[str]:
    """Return the columns of a table that are the same for all objects of an image.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    names = choose(_NAMES, path.suffix, "suffix of a table")(path)
    end = names.index(FROM) + 1 if FROM in names else len(names)
    return [name for name in names[end:] if name not in AFTER]


def refresh(path: Path, known: Mapping[str, str | float]) -> None:
    """Have a table say what is known of its image now, and nothing else of that kind.

    Parameters
    ----------
    path
        A table that this module wrote, suffix ``.csv`` or ``.parquet``.
    known
        Name of a column behind `FROM` to what it holds in every row.

    Raises
    ------
    OutputError
        If it cannot be read, or not be written anew.
    """
    choose(_REFRESHERS, path.suffix, "suffix of a table")(path, known)


def _refreshed(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the columns of a table with others of whole images."""
    end = names.index(FROM) + 1 if FROM in names else len(names)
    return [*names[:end], *known, *(n for n in names[end:] if n in AFTER)]


def _refresh_csv(path: Path, known: Mapping[str, str | float]) -> None:
    names = _csv_names(path)
    columns = _refreshed(names, known)
    cells = {
        k: quoted(v) if isinstance(v, str) else _number(v) for k, v in known.items()
    }
    first = next(_rows(path, names), cells)
    if columns == names and cells.items() <= first.items():
        return
    with write_atomically(path) as temporary, open_text(temporary, "utf-8") as file:
        file.write(",".join(map(quoted, columns)) + "\n")
        for row in _rows(path, names):
            own = row | cells
            file.write(",".join(own[name] for name in columns) + "\n")


def _refresh_parquet(path: Path, known: Mapping[str, str | float]) -> None:
    arrow = optional("pyarrow", "parquet", "A Parquet table")
    parquet = optional("pyarrow.parquet", "parquet", "A Parquet table")
    names = _parquet_names(path)
    columns = _refreshed(names, known)
    known = {k: unicode(v) if isinstance(v, str) else v for k, v in known.items()}
    texts = [name for name, value in known.items() if isinstance(value, str)]
    schema = table_schema(arrow, columns, texts)
    pending = PendingFile(path)
    try:
        with writing(path):
            count = parquet.read_metadata(path).num_rows
            given = {
                name: arrow.array(
                    [value if is_given(value) else None] * count,
                    schema.field(name).type,
                )
                for name, value in known.items()
            }
            if columns == names and (
                not known
                or parquet.read_table(path, columns=[*known]).equals(arrow.table(given))
            ):
                return
            old = parquet.read_table(path)
            new = arrow.table(
                [given[n] if n in given else old.column(n) for n in columns],
                schema=schema,
            )
            parquet.write_table(new, str(pending.temporary), compression="zstd")
            pending.commit()
    except arrow.ArrowException as error:
        raise _unreadable(path, error) from error
    finally:
        pending.abort()


_REFRESHERS: dict[str, Callable[[Path, Mapping[str, str | float]], None]] = {
    ".csv": _refresh_csv,
    ".parquet": _refresh_parquet,
}

INTENSITY = "intensity_mean"


def mean_intensities(path: Path) -> dict[str, tuple[float, int]]:
    """Return the sum of the objects' mean intensities and their number, by channel.

    Parameters
    ----------
    path
        A table that this module wrote; the name of an only channel is empty.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    columns = choose(_COLUMNS, path.suffix, "suffix of a table")(path, INTENSITY)
    return {
        name.removeprefix(INTENSITY).removeprefix("_"): (sum(values), len(values))
        for name, values in columns.items()
    }


def _csv_columns(path: Path, start: str) -> dict[str, list[float]]:
    rows = _lines(path)
    names = next(rows, [])
    places = {k: name for k, name in enumerate(names) if name.startswith(start)}
    found: dict[str, list[float]] = {name: [] for name in places.values()}
    for row in rows:
        for place, name in places.items():
            if row[place]:
                found[name].append(float(row[place]))
    return found


def _parquet_columns(path: Path, start: str) -> dict[str, list[float]]:
    parquet = optional("pyarrow.parquet", "parquet", "A Parquet table")
    names = [name for name in _parquet_names(path) if name.startswith(start)]
    table = parquet.read_table(path, columns=names)
    return {n: table.column(n).drop_null().to_pylist() for n in names}


_COLUMNS: dict[str, Callable[[Path, str], dict[str, list[float]]]] = {
    ".csv": _csv_columns,
    ".parquet": _parquet_columns,
}
