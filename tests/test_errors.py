"""The errors: one tree, a hint, and the built-in kinds that callers may know."""

from __future__ import annotations

import inspect
import pickle

import pytest

from cellunet import errors
from cellunet.errors import CellunetError, ImageReadError, ModelNotFoundError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, CellunetError)
]


def test_the_drawing_shows_every_error() -> None:
    drawing = errors.__doc__ or ""
    assert all(kind.__name__ in drawing for kind in KINDS)
    assert len(KINDS) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_its_message_and_its_hint(kind: type[CellunetError]) -> None:
    error = kind("a.tif is 0 bytes.", hint="Copy it again.")
    assert (error.message, error.hint) == ("a.tif is 0 bytes.", "Copy it again.")
    assert str(error) == "a.tif is 0 bytes. Copy it again."
    assert str(kind("a.tif is 0 bytes.")) == "a.tif is 0 bytes."


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ImageReadError, OSError),
        (errors.OutputError, OSError),
        (ModelNotFoundError, FileNotFoundError),
    ],
)
def test_errors_of_files_are_the_built_in_ones_too(
    kind: type[CellunetError], builtin: type[Exception]
) -> None:
    with pytest.raises(builtin, match="is gone"):
        raise kind("a.tif is gone.")


def test_a_message_crosses_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(ImageReadError("a.tif is cut off.")))
    assert isinstance(error, ImageReadError)
    assert error.message == "a.tif is cut off."


def test_a_message_is_one_line_that_can_be_printed_whatever_a_file_is_called() -> None:
    error = CellunetError("a\nb\udcff \x1b[31m µ😀 is gone.", hint="Look\r\nfor it.")
    assert str(error) == "a\\nb\\udcff \\x1b[31m µ😀 is gone. Look\\r\\nfor it."
    str(error).encode("utf-8")


def test_what_can_be_seen_or_joins_letters_stays_so_that_a_name_can_be_copied() -> None:
    # An ideographic space, a narrow one, and a joiner within a word.
    name = "細胞\u3000A 10.00\u202fAM क्\u200dष"
    assert errors.printable(name) == name
    assert errors.printable("a\u202eb\u2028c") == "a\\u202eb\\u2028c"
