"""ROI sets of Fiji, written by the library that knows the format."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zipfile

import numpy as np
import pytest
import roifile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellunet.annotations import imagej
from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError, CellunetError

SHAPE = (20, 24)


def outline(points, kind=ROI_TYPE.POLYGON, name="cell", **changes):
    roi = ImagejRoi.frompoints(np.array(points), name=name)
    roi.roitype = kind
    for key, value in changes.items():
        setattr(roi, key, value)
    return roi


def boxed(kind, x0, y0, x1, y1, name="cell", **changes):
    roi = ImagejRoi(roitype=kind, left=x0, top=y0, right=x1, bottom=y1, name=name)
    for key, value in changes.items():
        setattr(roi, key, value)
    return roi


def composite(name="ring"):
    square = [0, 1, 1, 1, 7, 1, 1, 7, 7, 1, 1, 7, 4]
    hole = [0, 3, 3, 1, 5, 3, 1, 5, 5, 1, 3, 5, 4]
    path = np.array(square + hole, np.float32)
    return boxed(
        ROI_TYPE.RECT,
        1,
        1,
        7,
        7,
        name,
        shape_roi_size=len(path),
        multi_coordinates=path,
    )


SQUARE = [(2, 3), (6, 3), (6, 8), (2, 8)]


@pytest.fixture
def write(tmp_path):
    def write(*rois, name="RoiSet.zip"):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        if name.endswith(".roi"):
            rois[0].tofile(path)
        else:
            names = [f"{i:04}-{r.name}" for i, r in enumerate(rois)]
            roifile.roiwrite(path, rois, name=names, mode="w")
        return path

    return write


def areas(path):
    found = read_annotation(path, shape=SHAPE)
    return np.bincount(found.labels.ravel(), minlength=2)[1:].tolist()


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_outlines_hold_the_pixels_between_their_whole_numbers(write, kind):
    path = write(outline(SQUARE, kind))
    found = read_annotation(path, shape=SHAPE)
    assert found.kind == "rois"
    expected = np.zeros(SHAPE, int)
    expected[3:8, 2:6] = 1
    assert np.array_equal(found.labels, expected)


def test_outlines_of_fractions_of_pixels_keep_them(write):
    # Centers 2.5 and 3.5 of the columns lie between 2.4 and 3.6, of rows 3.5 alone.
    points = [(2.4, 3.4), (3.6, 3.4), (3.6, 3.6), (2.4, 3.6)]
    found = read_annotation(write(outline(points)), shape=SHAPE)
    assert np.argwhere(found.labels).tolist() == [[3, 2], [3, 3]]


def test_rectangles_ovals_and_composites_are_areas(write):
    path = write(
        boxed(ROI_TYPE.RECT, 0, 0, 4, 3),
        # Of 6 x 6 centers all but the 4 corners are within 3 of the middle.
        boxed(ROI_TYPE.OVAL, 10, 0, 16, 6),
        boxed(ROI_TYPE.RECT, 0, 10, 10, 20, rounded_rect_arc_size=10),
    )
    assert areas(path) == [12, 32, 80]
    assert areas(write(composite())) == [36 - 4]


def test_rectangles_and_ovals_of_fractions_of_pixels_keep_them(write):
    # ImageJ stores these four numbers in place of those of a line.
    for kind, area in ((ROI_TYPE.RECT, 2), (ROI_TYPE.OVAL, 2)):
        roi = boxed(kind, 2, 3, 4, 4, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
        roi.xd, roi.yd, roi.widthd, roi.heightd = 2.25, 3.25, 1.5, 0.5
        assert areas(write(roi)) == [area]


def test_an_ellipse_is_the_outline_that_is_stored(write):
    roi = outline(SQUARE, ROI_TYPE.FREEHAND, subtype=ROI_SUBTYPE.ELLIPSE)
    assert areas(write(roi)) == [20]


def test_a_single_roi_is_one_object(write):
    assert areas(write(outline(SQUARE), name="a.roi")) == [20]


def test_names_say_what_does_not_count(write):
    path = write(
        outline(SQUARE),
        boxed(ROI_TYPE.RECT, 0, 0, 12, 20, "region"),
        boxed(ROI_TYPE.RECT, 0, 0, 4, 20, "Ignore-1"),
    )
    found = read_annotation(path, shape=SHAPE)
    assert found.annotated.tolist() == [[False] * 4 + [True] * 8 + [False] * 12] * 20
    assert found.labels.max() == 1


def test_what_encloses_nothing_is_left_out_by_name_and_kind(write):
    line = boxed(ROI_TYPE.LINE, 0, 0, 0, 0, "width")
    path = write(
        outline(SQUARE),
        outline(SQUARE, ROI_TYPE.POINT, "spots"),
        line,
        outline(SQUARE, ROI_TYPE.POLYLINE, "path"),
        outline(SQUARE, ROI_TYPE.ANGLE, "angle"),
    )
    found = read_annotation(path, shape=SHAPE)
    assert found.labels.max() == 1
    assert found.notes[-1] == (
        "4 of 5 shapes enclose nothing and are left out: spots (point), width (line), "
        "path (polyline) and 1 more."
    )


def test_text_is_no_area(write):
    text = boxed(ROI_TYPE.RECT, 0, 0, 4, 4, "note", subtype=ROI_SUBTYPE.TEXT)
    with pytest.raises(AnnotationError, match=r"note \(text\)"):
        read_annotation(write(text), shape=SHAPE)


def test_a_spline_is_refused_with_the_way_out(write):
    roi = outline(SQUARE, options=ROI_OPTIONS.SPLINE_FIT)
    with pytest.raises(AnnotationError, match="cell is a spline") as caught:
        read_annotation(write(roi), shape=SHAPE)
    assert "Interpolate" in caught.value.hint


def test_imagej_counts_centers_on_the_lower_and_right_side_of_an_outline(write):
    # A triangle of 3 x 3: the centers of its diagonal lie on the outline.
    corner = np.array([(0, 0), (3, 0), (0, 3)])
    drawn = {
        "upper left": corner,
        "upper right": [(3, 0), (3, 3), (0, 0)],
        "lower left": [(0, 0), (3, 3), (0, 3)],
        "lower right": [(3, 0), (3, 3), (0, 3)],
    }
    # On the diagonal from upper left, the center is on the right side of the triangle
    # to its left, which takes it in.
    expected = {"upper left": 6, "upper right": 3, "lower left": 6, "lower right": 3}
    for name, points in drawn.items():
        assert areas(write(outline(points))) == [expected[name]], name


def test_imagej_fills_rectangles_and_ovals_at_fractions_on_whole_pixels(write):
    for kind in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        roi = boxed(kind, 4, 5, 8, 7, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
        roi.xd, roi.yd, roi.widthd, roi.heightd = 4.4, 5.6, 3.3, 2.0
        expected = np.zeros(SHAPE, int)
        expected[5:7, 4:8] = 1
        found = read_annotation(write(roi), shape=SHAPE).labels
        np.testing.assert_array_equal(found, expected)


def test_rois_whose_positions_differ_by_channel_alone_are_of_one_plane(write):
    # Slices 3 and 4 of an image of two channels: both channels of the second plane.
    rois = [outline(SQUARE, position=p) for p in (3, 4)]
    rois += [boxed(ROI_TYPE.RECT, 10, 2, 12, 5, c_position=c) for c in (1, 2)]
    path = write(*rois[:2], rois[2])
    assert read_annotation(path, shape=SHAPE, channels=2).labels.max() == 3
    with pytest.raises(AnnotationError, match="lie on 2 planes"):
        read_annotation(path, shape=SHAPE)
    with pytest.raises(AnnotationError, match="lie on 2 planes"):
        read_annotation(
            write(*rois, outline(SQUARE, position=5)), shape=SHAPE, channels=2
        )
    assert read_annotation(write(*rois[2:]), shape=SHAPE).labels.max() == 1


def test_an_outline_of_two_points_is_left_out_by_name(write):
    line = outline([(2, 3), (6, 3)], name="stray")
    found = read_annotation(write(line, outline(SQUARE)), shape=SHAPE)
    assert np.bincount(found.labels.ravel())[1:].tolist() == [20]
    assert found.notes == ("1 of 2 shapes enclose nothing and are left out: stray.",)


def test_rois_of_several_planes_are_refused(write):
    planes = [outline(SQUARE, position=p) for p in (0, 1, 1)]
    assert read_annotation(write(*planes), shape=SHAPE).hidden == 2
    with pytest.raises(AnnotationError, match="lie on 2 planes"):
        read_annotation(write(*planes, outline(SQUARE, position=2)), shape=SHAPE)


def test_without_the_size_of_the_image_a_set_is_refused(write):
    with pytest.raises(AnnotationError, match="there is no image") as caught:
        read_annotation(write(outline(SQUARE)))
    assert "Put the image next to it" in caught.value.hint


def test_a_cut_off_zip_is_refused(write):
    path = write(*[outline(SQUARE)] * 5)
    whole = path.read_bytes()
    for end in (0, 3, 100, len(whole) - 10):
        path.write_bytes(whole[:end])
        with pytest.raises(AnnotationError, match="no complete zip of ROIs"):
            read_annotation(path, shape=SHAPE)


def test_a_damaged_entry_is_named(write):
    path = write(outline(SQUARE))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("short.roi", b"Iout")
    with pytest.raises(AnnotationError, match="short is damaged or no ROI"):
        read_annotation(path, shape=SHAPE)


@pytest.mark.parametrize(
    "name", ["../up.roi", "/etc/x.roi", "a/../../x.roi", "..\\x.roi", "C:\\x.roi"]
)
def test_a_name_that_leaves_the_folder_is_refused(write, name):
    path = write(outline(SQUARE))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(name, outline(SQUARE).tobytes())
    with pytest.raises(AnnotationError, match="a name that leaves its folder"):
        read_annotation(path, shape=SHAPE)


def test_what_macos_adds_to_a_zip_is_passed_over(write):
    path = write(outline(SQUARE))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("set/", b"")
        packed.writestr("__MACOSX/._0000-cell.roi", b"fork")
    assert areas(path) == [20]


def test_other_files_in_a_zip_are_refused_by_name(write):
    path = write(outline(SQUARE))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("readme.txt", b"hello")
    with pytest.raises(AnnotationError, match=r"holds 'readme\.txt', which is no ROI"):
        read_annotation(path, shape=SHAPE)


def test_an_empty_zip_is_refused(tmp_path):
    zipfile.ZipFile(tmp_path / "a.zip", "w").close()
    with pytest.raises(AnnotationError, match="holds no ROI"):
        read_annotation(tmp_path / "a.zip", shape=SHAPE)


def test_a_zip_bomb_is_refused_by_what_it_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej, "MAX_SET_BYTES", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(3):
            packed.writestr(f"{number}.roi", bytes(1 << 19))
    assert path.stat().st_size < 1 << 12
    with pytest.raises(AnnotationError, match=r"claims to hold 1,572,864 bytes"):
        read_annotation(path, shape=SHAPE)


def test_an_entry_that_claims_less_than_it_holds_is_cut_at_the_limit(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(imagej, "MAX_ROI_BYTES", 1 << 12)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("0.roi", bytes(1 << 16))
    with pytest.raises(AnnotationError, match="too large for a ROI"):
        read_annotation(path, shape=SHAPE)


def test_an_encrypted_zip_is_refused(write):
    path = write(outline(SQUARE))
    content = bytearray(path.read_bytes())
    # The first bit of the flags, of the entry itself and in the list of entries.
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match="no complete zip of ROIs"):
        read_annotation(path, shape=SHAPE)


ROI = outline(SQUARE).tobytes()


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    data=st.data(),
    changes=st.lists(
        st.tuples(st.integers(4, len(ROI) - 1), st.integers(0, 255)), max_size=4
    ),
)
def test_damaged_rois_are_read_or_refused_but_nothing_else(tmp_path, data, changes):
    content = bytearray(data.draw(st.sampled_from([ROI, composite().tobytes()])))
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "a.roi"
    path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Any other exception fails the test.
        with contextlib.suppress(CellunetError):
            assert read_annotation(path, shape=SHAPE).labels.shape == SHAPE


def test_a_coordinate_that_signals_that_it_is_none_is_refused_without_a_warning(
    tmp_path,
):
    content = bytearray(composite().tobytes())
    # Of the path of the selection, the x of a point: a signalling NaN.
    content[144:146] = b"\x7f\xa0"
    path = tmp_path / "a.roi"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AnnotationError):
            read_annotation(path, shape=SHAPE)


@pytest.mark.slow
def test_ten_thousand_rois_are_read(write, rng):
    side = 1500
    places = np.argwhere(np.ones((100, 100))) * 15
    rois = [
        outline(p + np.array([(0, 0), (10, 0), (10, 9), (0, 9)]), name=str(i))
        for i, p in enumerate(places)
    ]
    found = read_annotation(write(*rois), shape=(side, side))
    counts = np.bincount(found.labels.ravel())[1:]
    assert (len(counts), set(counts.tolist())) == (10_000, {90})


def test_the_bytes_of_a_roi_are_where_imagej_puts_them():
    # top, left, bottom, right of the header, so that the fixtures here are of the form
    # that ImageJ writes.
    assert ROI[:4] == b"Iout"
    assert struct.unpack(">hhhh", ROI[8:16]) == (3, 2, 9, 7)
