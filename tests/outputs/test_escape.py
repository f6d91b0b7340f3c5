"""Whatever the text, no markup comes of it and nothing in it hides."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.outputs.report import environment, link, source_hash, visible


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.data = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data) -> None:
        self.data += data


TEMPLATE = environment().from_string('<p title="{{ value }}">{{ value }}</p>')


@given(st.text())
def test_any_text_comes_back_as_text_and_as_an_attribute(value) -> None:
    seen = Seen()
    seen.feed(TEMPLATE.render(value=value))
    seen.close()
    assert seen.tags == [("p", [("title", visible(value))])]
    assert seen.data == visible(value)


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u2066", "\u2028", "\u2029", "\x00", "\n", "\ufeff", "\udcff"]
)
def test_what_is_not_seen_is_spelled_out(hidden) -> None:
    shown = visible(f"a{hidden}b")
    assert shown == f"a\\u{ord(hidden):04x}b"
    shown.encode("utf-8")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_an_address_is_a_path_below_and_comes_back(path) -> None:
    address = link(path)
    assert address.startswith("./")
    assert set(address) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%/_.-~"
    )
    assert unquote_to_bytes(address[2:]) == path.encode()


def test_a_hash_is_that_of_the_policy() -> None:
    digest = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert source_hash("x") == f"'sha256-{digest}'"
