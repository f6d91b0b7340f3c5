"""Compressed bytes, decoded in pieces: the same as decoded whole."""

from __future__ import annotations

import lzma
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.io import tiff_strips as decoders
from cellunet.io.tiff_strips import Inflate, Stored, Unlzw, Unpack, Unxz

FORMS = {
    Stored: bytes,
    Inflate: zlib.compress,
    Unxz: lambda data: lzma.compress(data, preset=0),
    Unpack: imagecodecs.packbits_encode,
    Unlzw: imagecodecs.lzw_encode,
}


def opened(form, data: bytes):
    encoded = bytes(FORMS[form](data))
    return form(lambda start, count: encoded[start : start + count])


def rest(decoder) -> bytes:
    return b"".join(iter(decoder.step, b""))


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    size = draw(st.integers(1, 200_000))
    values = draw(st.sampled_from([1, 2, 5, 256]))
    data = rng.integers(0, values, size).astype(np.uint8)
    return np.repeat(data, draw(st.sampled_from([1, 1, 3])))[:size].tobytes()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25)
@given(data=contents())
def test_pieces_are_the_whole(form, data):
    assert rest(opened(form, data)) == data


@pytest.mark.parametrize("form", [f for f in FORMS if f is not Unxz])
@settings(max_examples=15)
@given(data=contents(), steps=st.integers(0, 5))
def test_a_fork_goes_on_from_where_it_was_made(form, data, steps):
    decoder = opened(form, data)
    before = b"".join(decoder.step() for _ in range(steps))
    fork = decoder.fork()
    assert before + rest(decoder) == data
    assert before + rest(fork) == data


def test_lzma_states_cannot_be_copied():
    assert opened(Unxz, b"a").fork() is None


def test_no_step_holds_much_more_than_was_asked_for():
    # 100 MB of zeros in 100 kB.
    decoder = opened(Inflate, bytes(10**8))
    assert max(map(len, iter(decoder.step, b""))) <= decoders.MOST_BYTES


def test_lzw_without_an_end_code_is_read_to_its_last_code():
    data = bytes(range(256)) * 40
    encoded = imagecodecs.lzw_encode(data)[:-2]
    decoder = Unlzw(lambda start, count: encoded[start : start + count])
    got = rest(decoder)
    assert data.startswith(got)
    assert len(got) > len(data) - 300


@pytest.mark.parametrize("form", [Inflate, Unxz])
def test_a_wrong_checksum_is_an_error(form):
    encoded = bytearray(FORMS[form](b"cells" * 1000))
    encoded[-1 if form is Inflate else -30] ^= 1
    with pytest.raises((zlib.error, lzma.LZMAError)):
        rest(form(lambda start, count: bytes(encoded[start : start + count])))


def test_lzw_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="clear code"):
        Unlzw(lambda start, count: b"\0\1"[start : start + count]).step()


def test_packets_cut_short_are_an_error():
    with pytest.raises(ValueError, match="within a packet"):
        rest(Unpack(lambda start, count: b"\x05ab"[start : start + count]))
