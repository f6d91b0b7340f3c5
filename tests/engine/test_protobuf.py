from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.engine import onnx as protobuf
from cellunet.errors import CheckpointError


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02")],
)
def test_an_integer_is_written_seven_bits_a_byte_lowest_first(value, encoded):
    assert protobuf.varint(value).hex() == encoded


def test_fields_are_written_as_the_specification_shows():
    # Field 1 = 150 and field 2 = "testing", the examples of the encoding guide.
    assert protobuf.integer(1, 150).hex() == "089601"
    assert protobuf.text(2, "testing").hex() == "120774657374696e67"


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=9)
        )
    )
)
def test_what_is_written_is_read_back(values):
    message = b"".join(
        protobuf.integer(n, v) if isinstance(v, int) else protobuf.chunk(n, v)
        for n, v in values
    )
    read = [
        (n, v if isinstance(v, int) else bytes(v))
        for n, v in protobuf.fields(memoryview(message))
    ]
    assert read == values


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(noise):
    with contextlib.suppress(CheckpointError):
        for _, value in protobuf.fields(memoryview(noise)):
            protobuf.read_integers(value)
            protobuf.read_text(value)


def test_packed_and_single_integers_are_both_read():
    assert protobuf.read_integers(7) == [7]
    assert protobuf.read_integers(memoryview(bytes.fromhex("03ac02"))) == [3, 300]


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        ("08", "end within an integer"),
        ("12ff", "end within an integer"),
        ("120568", "only 1 follow"),
        ("0b", "tag at byte 1"),
        ("0d00000000", "tag at byte 1"),
        ("08ffffffffffffffffffff01", "more than 64 bits"),
        ("08ffffffffffffffffff7f", "more than 64 bits"),
    ],
)
def test_what_is_no_message_is_refused(encoded, words):
    with pytest.raises(CheckpointError, match=words):
        list(protobuf.fields(memoryview(bytes.fromhex(encoded))))


@pytest.mark.parametrize("value", [3, memoryview(b"\xff\xfe")])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(CheckpointError, match="text"):
        protobuf.read_text(value)
