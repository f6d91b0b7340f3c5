"""The versions of the libraries in use, and those that cellunet was tested with."""

from __future__ import annotations

import platform

TESTED = {
    "tifffile": ("2024.1.30", "2026.11.8"),
    "imagecodecs": ("2024.6.1", "2026.10.10"),
    "numpy": ("1.26.0", "2.5.5"),
    "scipy": ("1.12.0", "1.18.1"),
    "scikit-image": ("0.22.0", "0.26.0"),
    "onnxruntime": ("1.17.0", "1.32.0"),
    "torch": ("2.4.0", "2.13.0"),
    "typer": ("0.19.2", "0.29.2"),
    "rich": ("13.7.0", "15.0.0"),
    "safetensors": ("0.4.3", "0.8.0"),
    "platformdirs": ("4.0.0", "4.14.8"),
    "roifile": ("2024.5.24", "2026.11.6"),
    "pyarrow": ("16.0.0", "26.0.1"),
    "openvino": ("2025.0.0", "2026.4.1"),
}
"""Package to the oldest and the newest version that tests passed with. The oldest is
the lower bound in ``pyproject.toml``; ``.ci/matrix`` tests both."""


def installed(package: str) -> str | None:
    """Return the version of an installed package, None if it is not there."""
    # Here, because it takes a while to load and most commands never ask.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def outside_tested() -> list[str]:
    """Return a sentence for each library that is older or newer than those tested."""
    told = []
    for package, (oldest, newest) in TESTED.items():
        version = installed(package)
        if version is None:
            continue
        if not _numbers(oldest) <= _numbers(version) <= _numbers(newest):
            told.append(
                f"cellunet was tested with {package} {oldest} to {newest}; this is "
                f"{version}."
            )
    return told


def in_use() -> dict[str, str | None]:
    """Return the version of Python and of each library; None if it is not there."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    return found | {package: installed(package) for package in TESTED}


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version to compare by.

    Examples
    --------
    >>> _numbers("2.13.0+cpu"), _numbers("0.27.0rc1"), _numbers("4.0")
    ((2, 13), (0, 27), (4,))
    """
    parts = []
    for part in version.partition("+")[0].split("."):
        digits = part[: next((i for i, c in enumerate(part) if not c.isdigit()), 99)]
        parts.append(int(digits or 0))
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
