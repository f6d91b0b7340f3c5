"""Opening by suffix, what files really are, provenance and the log."""

from __future__ import annotations

import logging

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellunet.errors import ConfigError, ImageReadError
from cellunet.io.images import READERS, WRITERS, create_labels, open_image
from cellunet.io.label_tiff import ImageSpec, read_provenance
from cellunet.io.source import READ_FAILURES, Region, reading

GRAY = np.arange(20, dtype=np.uint8).reshape(4, 5)


def labels(path, planes=1):
    spec = ImageSpec(
        shape=(40, 50),
        plane_axes="T",
        plane_shape=(planes,),
        dtype=np.dtype(np.uint16),
        provenance={"model": "nuclei"},
    )
    with create_labels(path, spec) as sink:
        for plane in range(planes):
            rows = np.arange(2000, dtype=np.uint16).reshape(40, 50)
            sink.write(plane, 0, rows)
        sink.commit()
    return path


def test_suffixes_are_lower_case_and_labels_can_be_read_back():
    assert all(s == s.lower() and s.startswith(".") for s in [*READERS, *WRITERS])
    assert set(WRITERS) <= set(READERS)


def test_gray_and_a_channel_at_once_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"gray and channel '0'"):
        open_image(tmp_path / "a.tif", channel="0", gray=True)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.czi"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ImageReadError, match=rf"{name} does not exist"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.b"])
def test_a_folder_is_no_image(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ImageReadError, match=r"is a folder"):
        open_image(tmp_path / name)


MICROSCOPES = {
    "a.czi": (b"ZISRAWFILE", "Zeiss CZI"),
    "a.nd2": (b"\xda\xce\xbe\x0a", "Nikon ND2"),
    "a.lif": (b"\x70\0\0\0", "Leica LIF"),
    "a.oir": (b"OLYMPUSRAWFORMAT", "Olympus OIR"),
    "a.ims": (b"\x89HDF\r\n", "HDF5"),
    "a.dv": (bytes(96) + b"\xa0\xc0", "DeltaVision"),
    "a.oib": (b"\xd0\xcf\x11\xe0", "Olympus OIB"),
}


@pytest.mark.parametrize("name", MICROSCOPES)
def test_a_file_of_a_microscope_under_another_name_is_known(tmp_path, name):
    head, kind = MICROSCOPES[name]
    path = tmp_path / f"{name}.tif"
    path.write_bytes(head + bytes(60))
    rename = rf"Rename it to \.{name[2:]}"
    with pytest.raises(ImageReadError, match=rf"{kind}.*{rename}"):
        open_image(path)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.tif", b"", r"a\.tif is empty \(0 bytes\)"),
        ("a.png", b"", r"a\.png is empty \(0 bytes\)"),
        (
            "a.tif",
            imagecodecs.jpeg_encode(GRAY),
            r"a\.tif is named.*is JPEG\. Rename.*export",
        ),
        ("a.tif", imagecodecs.png_encode(GRAY), r"is PNG\. Rename it to \.png\."),
        ("a.tif", b"version https://git-lfs.github.com", r"Git LFS.*git lfs pull"),
        ("a.tif", b"PK\x03\x04....", "is ZIP. Unpack"),
        ("a.tif", b"just some text", "it is not an image"),
        ("a.png", b"II*\0" + bytes(60), r"is TIFF\. Rename it to \.tif\."),
        ("a.dat", b"MM\0+" + bytes(60), r"reads \.tif.*Rename it to \.tif"),
        ("a.dat", b"\x89PNG\r\n\x1a\n", r"Rename it to \.png"),
        ("a.zvi", b"\xd0\xcf\x11\xe0", r"'\.zvi' .*Zeiss ZVI\); .*bfconvert"),
    ],
)
def test_content_that_its_name_does_not_tell_is_recognized(
    tmp_path, name, content, match
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageReadError, match=match):
        open_image(tmp_path / name)


@pytest.mark.parametrize(
    "failure",
    [f for f in READ_FAILURES if f not in (MemoryError, NameError, ImportError)],
)
def test_every_known_failure_becomes_one_line_that_names_the_file(tmp_path, failure):
    path = tmp_path / "a.tif"
    with (
        pytest.raises(ImageReadError, match=r"a\.tif cannot be read.*why not") as info,
        reading(path),
    ):
        raise failure("why\nnot")
    assert "\n" not in str(info.value)
    assert isinstance(info.value.__cause__, failure)


@pytest.mark.parametrize(
    ("error", "match"),
    [(MemoryError, "does not fit into memory"), (PermissionError, "permission denied")],
)
def test_no_memory_and_no_permission_are_said_plainly(tmp_path, error, match):
    with pytest.raises(ImageReadError, match=match), reading(tmp_path / "a.tif"):
        raise error


def test_warnings_of_tifffile_stay_out_of_sight_while_we_read(tmp_path, caplog):
    path = tmp_path / "a.tif"
    with caplog.at_level(logging.DEBUG), reading(path):
        logging.getLogger("tifffile").warning("odd tag")
        logging.getLogger("imagecodecs").warning("odd chunk")
    assert {(r.name, r.levelname) for r in caplog.records} == {
        ("cellunet.io.source", "DEBUG")
    }
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("tifffile").warning("heard")
    assert caplog.records[-1].name == "tifffile"


def test_provenance_of_labels_is_found(tmp_path):
    assert read_provenance(labels(tmp_path / "a.tif", 3)) == {"model": "nuclei"}


def test_files_of_others_have_no_provenance(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", GRAY)
    tifffile.imwrite(tmp_path / "a.ome.tif", GRAY)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(GRAY))
    (tmp_path / "empty.tif").touch()
    (tmp_path / "broken.tif").write_bytes(b"II*\0 broken")
    for path in tmp_path.iterdir():
        assert read_provenance(path) is None


def test_provenance_of_a_missing_file_or_folder_is_an_error(tmp_path):
    with pytest.raises(ImageReadError, match="does not exist"):
        read_provenance(tmp_path / "a.tif")
    with pytest.raises(ImageReadError, match="is a folder"):
        read_provenance(tmp_path)


@pytest.mark.parametrize("planes", [1, 3])
def test_a_truncated_result_is_not_taken_for_a_finished_one(tmp_path, planes):
    path = labels(tmp_path / "a.tif", planes)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageReadError, match="truncated"):
        read_provenance(path)


def test_provenance_that_is_no_object_is_none(tmp_path):
    path = tmp_path / "a.tif"
    xml = '<OME><M K="provenance">1</M></OME>'.replace(
        "<M", '<A Namespace="cellunet.provenance"><M'
    ).replace("</M>", "</M></A>")
    tifffile.imwrite(path, GRAY, description=xml, metadata=None)
    assert read_provenance(path) is None


def test_a_source_is_closed_until_it_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY)
    # A handle left open would be a ResourceWarning, which is an error here.
    assert open_image(path).shape == (4, 5)
    with open_image(path) as source:
        source.read(Region(0, 0, 4, 0, 5))
