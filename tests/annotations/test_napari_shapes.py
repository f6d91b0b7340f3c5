"""Shapes that napari saves as CSV are filled where they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.annotations.pairs import find_annotations
from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError
from cellunet.io.paths import is_drawn_file

HEAD = "index,shape-type,vertex-index,axis-0,axis-1\n"


def corners(index, kind, *points):
    rows = (f"{index},{kind},{n},{y},{x}\n" for n, (y, x) in enumerate(points))
    return "".join(rows)


BOX = ((1.5, 2.5), (1.5, 8.5), (5.5, 8.5), (5.5, 2.5))


@pytest.fixture
def read(tmp_path):
    """``read(text)``: the annotation of an image of 30 x 40 px."""

    def call(text, **known):
        (tmp_path / "a.csv").write_text(text)
        return read_annotation(tmp_path / "a.csv", shape=(30, 40), **known)

    return call


def test_pixels_count_from_the_center_of_the_first(read):
    found = read(HEAD + corners(0, "polygon", *BOX))
    assert found.kind == "napari"
    rows, columns = np.nonzero(found.labels)
    assert (rows.min(), rows.max()) == (2, 5)
    assert (columns.min(), columns.max()) == (3, 8)


def test_shapes_of_all_kinds(read):
    turned = [(20, 14), (14, 20), (16, 22), (22, 16)]
    text = (
        corners(0, "rectangle", *BOX)
        + corners(1, "ellipse", (9.5, 19.5), (9.5, 29.5), (13.5, 29.5), (13.5, 19.5))
        + corners(2, "ellipse", *turned)
        + corners(3, "path", (1, 30), (5, 33), (9, 30))
        + corners(4, "line", (1, 30), (5, 33))
    )
    found = read(HEAD + text)
    assert np.bincount(found.labels.ravel())[1] == 24
    # An ellipse of 10 x 4, and one turned by half a right angle.
    rows, columns = np.nonzero(found.labels == 2)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (4, 10)
    rows, columns = np.nonzero(found.labels == 3)
    assert np.corrcoef(rows, columns)[0, 1] < -0.8
    assert found.labels.max() == 3
    (note,) = found.notes
    assert "shape 3 (path), shape 4 (line)" in note


def test_shapes_of_one_plane_of_a_stack_are_read_and_of_several_refused(read):
    head = "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n"
    plane = "".join(f"0,polygon,{n},4.0,{y},{x}\n" for n, (y, x) in enumerate(BOX))
    assert (read(head + plane).labels > 0).sum() == 24
    with pytest.raises(AnnotationError, match="2 planes of a stack"):
        read(head + plane + plane.replace("4.0", "5.0").replace("0,pol", "1,pol"))


@pytest.mark.parametrize("row", ["0,polygon,0,1", "0,polygon,0,1,x", "7"])
def test_a_row_that_is_no_corner_is_named(read, row):
    with pytest.raises(AnnotationError, match=r"a\.csv: line 2 is"):
        read(HEAD + row + "\n")


@pytest.mark.parametrize(
    "name", ["a.csv", "Shapes.csv", "a - Shapes.csv", "labels/a.CSV"]
)
def test_it_is_found_by_the_names_that_napari_proposes(tmp_path, name):
    at = tmp_path / ("images" if "/" in name else ".")
    at.mkdir(exist_ok=True)
    tifffile.imwrite(at / "a.tif", np.arange(1200, dtype="u2").reshape(30, 40))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(HEAD + corners(0, "polygon", *BOX))
    (one,) = find_annotations(tmp_path).drawn
    assert (one.name, one.image.name) == ("a", "a.tif")
    assert one.annotation.name == name.rpartition("/")[2]


def test_a_table_of_measurements_is_no_annotation(tmp_path):
    (tmp_path / "a.csv").write_text("image,id,area_px\n")
    (tmp_path / "b.csv").write_text("\ufeff" + HEAD, encoding="utf-8")
    assert not is_drawn_file(tmp_path / "a.csv")
    assert is_drawn_file(tmp_path / "b.csv")


@pytest.mark.parametrize("blank", ["\n", ",,,,\n"])
def test_blank_rows_are_passed_over(read, blank):
    found = read(HEAD + blank + corners(0, "polygon", *BOX) + blank)
    assert (found.labels > 0).sum() == 24
    with pytest.raises(AnnotationError, match=r"line 3 is"):
        read(HEAD + blank + "7\n")


def test_a_quote_that_is_not_closed_is_one_clear_error(read):
    text = HEAD + '0,polygon,0,"1,2' + "\n0,polygon,1,1,2" * 10_000
    with pytest.raises(
        AnnotationError, match=r"a\.csv is no CSV after line 1; a quote"
    ) as caught:
        read(text)
    assert "napari" in caught.value.hint


def test_rows_of_a_shape_that_lie_apart_are_refused(read):
    first, second = corners(0, "polygon", *BOX), corners(1, "polygon", *BOX)
    for text in (first + second + first, first + first.replace("polygon", "path")):
        with pytest.raises(AnnotationError, match=r"several kinds; shape 0\. "):
            read(HEAD + text)


def test_a_table_that_is_read_as_shapes_and_holds_none_is_refused(read):
    with pytest.raises(AnnotationError, match="holds no shapes of napari") as caught:
        read("image,id,area_px\n", kind="napari")
    assert "save the layer of shapes" in caught.value.hint
    with pytest.raises(AnnotationError, match="VGG Image Annotator, which is not read"):
        read("filename,file_size,file_attributes\n", kind="napari")
