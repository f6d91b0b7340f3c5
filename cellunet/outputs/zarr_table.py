"""Write the table of objects into the OME-Zarr of their labels, as ngio reads it.

A group ``tables/NAME`` holds the rows as CSV, with the number of the object as
``label``, and in its attributes what they are a table of. It appears whole, and is
listed in ``tables`` after that.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from cellunet.errors import OutputError
from cellunet.io.files import partial_path, writing
from cellunet.io.label_zarr import is_within, list_in, unlist_in, write_group
from cellunet.io.zarr_store import read_attributes, read_provenance, zarr_format
from cellunet.outputs.tables import CsvTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.imaging.measure import Table

COLUMNS = ("image", "t", "z", "label")
"""What stands first in a row."""

OWN = "objects"
"""Name of the table in a store that holds labels alone."""

KIND = "feature_table"

ROWS = "table.csv"
"""The rows in the group of a table."""


def table_path(labels: Path) -> Path:
    """Return where the table of labels lies: beside ``labels``, or in their store."""
    if is_within(labels):
        return labels.parent.parent / "tables" / labels.name
    return labels / "tables" / OWN


class ZarrTable:
    """A table as ngio's feature table, its rows as CSV; see `CsvTable`.

    Parameters
    ----------
    path
        The group: ``.../tables/NAME``.
    columns
        Names of its columns behind `COLUMNS`.
    texts
        As of `CsvTable`.

    Raises
    ------
    OutputError
        If another program's table is there, or nothing can be written.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], texts: Sequence[str] = ()
    ) -> None:
        self._path = path
        store = path.parent.parent
        # The store of labels alone is not there yet, or is replaced meanwhile.
        own = not store.exists() or read_provenance(store) is not None
        if not own:
            # Before work, though another program may write one meanwhile.
            refuse_other(path)
        self._partial = partial_path((store.parent if own else store) / "t")
        with writing(path):
            self._partial.mkdir(parents=True)
        self._rows = CsvTable(self._partial / ROWS, columns, texts, COLUMNS)

    def add(self, image: str, place: dict[str, int], ids: Any, table: Table) -> None:  # noqa: ANN401
        """Append objects of one plane."""
        self._rows.add(image, place, ids, table)

    def commit(self) -> None:
        """Make the complete table appear, and have its store list it.

        Raises
        ------
        OutputError
            If it cannot be written, or another program's table is there.
        """
        path, name = self._path, self._path.name
        try:
            self._rows.commit()
            store = path.parent.parent
            within = (store / "labels" / name).exists()
            region = {"region": {"path": f"../labels/{name}"}} if within else {}
            number = zarr_format(store) or 3
            attributes = {
                "type": KIND,
                "table_version": "1",
                "backend": "csv",
                "index_key": "label",
                "index_type": "int",
                "instance_key": "label",
                "cellunet": True,
                **region,
            }
            write_group(self._partial, number, attributes)
            refuse_other(path)
            with writing(path):
                path.parent.mkdir(exist_ok=True)
                if path.exists():
                    shutil.rmtree(path)
                self._partial.rename(path)
            list_in(path.parent, "tables", name)
        finally:
            self.abort()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        self._rows.abort()
        shutil.rmtree(self._partial, ignore_errors=True)


def remove_table(path: Path) -> None:
    """Remove a table of cellunet, if it is there, from its store and its store's list.

    Raises
    ------
    OutputError
        If it cannot be removed.
    """
    if not read_attributes(path).get("cellunet"):
        return
    # It is gone at once, or there.
    gone = partial_path(path.parent.parent / "t")
    with writing(path):
        path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    unlist_in(path.parent, "tables", path.name)


def refuse_other(path: Path) -> None:
    """Refuse to replace a table of another program.

    Raises
    ------
    OutputError
        If one is there.
    """
    if path.exists() and not read_attributes(path).get("cellunet"):
        raise OutputError(
            f"{path} exists and is no table of cellunet.",
            hint="Choose another name with --into-source NAME.",
        )
