"""Image formats that cellunet does not read, microscopes' own first: named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.imaging.reading import HEAD_BYTES, MICROSCOPES, kind_by_content

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIXES = {
    ".czi",
    ".nd2",
    ".lif",
    ".lof",
    ".xlif",
    ".zvi",
    ".oib",
    ".oir",
    ".vsi",
    ".ims",
    ".dv",
    ".r3d",
    ".jpg",
    ".jpeg",
    ".jp2",
    ".gif",
    ".bmp",
}
"""Suffixes of files that are looked into: a folder may hold many other files."""
PICTURES = {"JPEG", "JPEG 2000", "GIF", "BMP"}
MOST_NAMED = 3


def unread_kind(path: Path) -> str:
    """Return the kind of an image file that is not read; empty for any other file."""
    if path.suffix.lower() not in SUFFIXES:
        return ""
    try:
        with path.open("rb") as file:
            kind = kind_by_content(file.read(HEAD_BYTES))
    except OSError:
        return ""
    return kind if kind in MICROSCOPES | PICTURES else ""


def unread_note(files: Sequence[tuple[Path, str]]) -> tuple[str, ...]:
    """Return one line on files that were passed over; none without any.

    Parameters
    ----------
    files
        Each with its kind.
    """
    if not files:
        return ()
    kinds: dict[str, list[str]] = {}
    for path, kind in files:
        kinds.setdefault(kind, []).append(path.name)
    parts = []
    for kind, names in kinds.items():
        more = (
            f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        )
        parts.append(f"{len(names):,} {kind} ({', '.join(names[:MOST_NAMED])}{more})")
    count = "1 file was" if len(files) == 1 else f"{len(files):,} files were"
    return (
        f"{count} passed over, in formats that cellunet does not read: "
        f"{'; '.join(parts)}. Export the originals as OME-TIFF",
    )
