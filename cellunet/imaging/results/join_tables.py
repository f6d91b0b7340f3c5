"""The tables of a run's images joined to one; one table: `write_tables`."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from cellunet.errors import OutputError
from cellunet.imaging.atomic import PendingFile, writing
from cellunet.imaging.optional import optional
from cellunet.imaging.results.write_tables import PLACES, TEXTS, quoted, table_schema
from cellunet.registry import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


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


def _join_csv(parts: Sequence[Path], path: Path) -> None:
    headers = [_csv_names(part) for part in parts]
    columns = list(dict.fromkeys(name for header in headers for name in header))
    pending = PendingFile(path)
    try:
        with writing(path), pending.temporary.open("w", encoding="utf-8") as file:
            file.write(",".join(map(quoted, columns)) + "\n")
            for part, header in zip(parts, headers, strict=True):
                place = {name: k for k, name in enumerate(header)}
                for row in list_rows(part):
                    cells = [row[place[c]] if c in place else "" for c in columns]
                    texts = [
                        quoted(cell) if name in TEXTS else cell
                        for name, cell in zip(columns, cells, strict=True)
                    ]
                    file.write(",".join(texts) + "\n")
        pending.commit()
    finally:
        pending.abort()


def is_ours(path: Path) -> bool:
    """Return whether a file begins as a table of this module does."""
    try:
        names = choose(_NAMES, path.suffix, "suffix of a table")(path)
    except OutputError:
        return False
    return tuple(names[: len(PLACES)]) == PLACES


def _csv_names(path: Path) -> list[str]:
    return next(_lines(path), [])


def _parquet_names(path: Path) -> list[str]:
    arrow = optional("pyarrow", "parquet", "A Parquet table")
    parquet = optional("pyarrow.parquet", "parquet", "A Parquet table")
    try:
        return list(parquet.read_schema(path).names)
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def list_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV table below its header, as text."""
    rows = _lines(path)
    next(rows, None)
    yield from rows


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
    names = dict.fromkeys(name for part in parts for name in _parquet_names(part))
    schema = table_schema(arrow, names)
    pending = PendingFile(path)
    try:
        with (
            writing(path),
            parquet.ParquetWriter(
                str(pending.temporary), schema, compression="zstd"
            ) as file,
        ):
            for part in parts:
                for batch in parquet.ParquetFile(part).iter_batches():
                    arrays = [
                        batch.column(field.name)
                        if field.name in batch.schema.names
                        else arrow.nulls(len(batch), field.type)
                        for field in schema
                    ]
                    file.write_batch(arrow.record_batch(arrays, schema=schema))
        pending.commit()
    finally:
        pending.abort()


_NAMES: dict[str, Callable[[Path], list[str]]] = {
    ".csv": _csv_names,
    ".parquet": _parquet_names,
}
_JOINS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".csv": _join_csv,
    ".parquet": _join_parquet,
}
