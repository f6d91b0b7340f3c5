"""Microscopes' own files are known by their first bytes, and named."""

from __future__ import annotations

import pytest

from cellunet.errors import ImageReadError
from cellunet.io.images import open_image

HEADS = {
    "a.czi": (b"ZISRAWFILE", "Zeiss CZI"),
    "a.nd2": (b"\xda\xce\xbe\x0a", "Nikon ND2"),
    "a.lif": (b"\x70\0\0\0", "Leica LIF"),
    "a.oir": (b"OLYMPUSRAWFORMAT", "Olympus OIR"),
    "a.ims": (b"\x89HDF\r\n", "HDF5"),
    "a.dv": (bytes(96) + b"\xa0\xc0", "DeltaVision"),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("suffix", ["", ".tif"])
def test_a_file_of_a_microscope_is_named_and_not_to_be_renamed(tmp_path, name, suffix):
    head, kind = HEADS[name]
    path = tmp_path / (name + suffix)
    path.write_bytes(head + bytes(60))
    with pytest.raises(ImageReadError) as caught:
        open_image(path)
    assert kind in str(caught.value)
    assert "bfconvert" in str(caught.value)
    assert "ename" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "hint"),
    [(b"II*\0", "Rename it to .tif"), (b"\x89PNG\r\n\x1a\n", "Rename it to .png")],
)
def test_an_image_under_another_suffix_is_to_be_renamed(tmp_path, head, hint):
    path = tmp_path / "a.dat"
    path.write_bytes(head + bytes(60))
    with pytest.raises(ImageReadError, match=hint):
        open_image(path)
