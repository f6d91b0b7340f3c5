"""Annotations of every kind come out as the instance labels that were meant."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cellunet.annotations.pairs import find_pairs
from cellunet.annotations.pixels import decode_colored, recognize
from cellunet.annotations.read import (
    ANNOTATIONS,
    read_annotation,
    read_object_folder,
)
from cellunet.errors import AnnotationError, ConfigError
from tests.conftest import read_labels

IDS = np.array([[0, 7, 7], [0, 0, 300], [5, 5, 300]], np.uint16)


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def write_tiff(path: Path, pixels: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


def rgba(red: list[list[int]]) -> np.ndarray:
    """The published coding of BBBC039: red carries all, alpha is full."""
    pixels = np.zeros((len(red), len(red[0]), 4), np.uint8)
    pixels[..., 0] = red
    pixels[..., 3] = 255
    return pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_ids_of_a_label_image_are_kept(tmp_path, dtype):
    ids = np.where(IDS == 300, 90, IDS).astype(dtype)
    labels = read_labels(write_tiff(tmp_path / "a.tif", ids))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, ids)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
def test_compressed_label_tiffs_are_read(tmp_path, compression):
    path = write_tiff(tmp_path / "a.tif", IDS, compression=compression)
    np.testing.assert_array_equal(read_labels(path), IDS)


def test_a_16_bit_png_keeps_its_ids(tmp_path):
    np.testing.assert_array_equal(read_labels(write_png(tmp_path / "a.png", IDS)), IDS)


def test_axes_of_length_one_do_not_count_as_planes(tmp_path):
    path = write_tiff(tmp_path / "a.tif", IDS[None, None], metadata={"axes": "TZYX"})
    np.testing.assert_array_equal(read_labels(path), IDS)


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint8, 1), (np.uint16, 65535), (bool, 1)]
)
def test_a_two_valued_image_becomes_pieces_also_across_corners(tmp_path, dtype, top):
    drawn = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 1]]) * top
    found = read_annotation(write_tiff(tmp_path / "a.tif", drawn.astype(dtype)))
    assert found.kind == "binary"
    np.testing.assert_array_equal(
        found.labels, [[1, 1, 0, 0], [0, 0, 1, 0], [2, 0, 1, 1]]
    )


def black_on_white(value=255, dtype=np.uint8):
    """Two objects of 0, 4 and 6 px."""
    pixels = np.full((12, 14), value, dtype)
    pixels[2:4, 2:4], pixels[6:9, 8:10] = 0, 0
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [
        black_on_white(),
        black_on_white(1),
        black_on_white(65535, np.uint16),
        black_on_white(1, np.float32),
        np.repeat(black_on_white()[..., None], 3, axis=2),
    ],
    ids=["255", "1", "16 bits", "float", "color"],
)
def test_a_mask_on_white_is_refused_until_it_is_said_what_is_drawn(tmp_path, pixels):
    path = write_tiff(tmp_path / "a.tif", pixels)
    with pytest.raises(AnnotationError, match="background seems to be white") as found:
        read_labels(path)
    assert "--kind inverted" in found.value.hint
    labels = read_labels(path, kind="inverted")
    assert np.bincount(labels.ravel())[1:].tolist() == [4, 6]
    assert read_labels(path, kind="binary").max() == 1


def test_files_of_one_object_on_white_are_refused(tmp_path):
    folder = tmp_path / "masks"
    for name in "ab":
        write_png(folder / f"{name}.png", black_on_white())
    with pytest.raises(AnnotationError, match="seems to be white"):
        read_object_folder(folder)


def test_large_objects_are_no_white_background(tmp_path):
    one = np.zeros((12, 14), np.uint8)
    one[1:11, 1:13] = 255
    one[5, 5] = 0  # a hole
    filled = np.full((12, 14), 255, np.uint8)
    cut = filled.copy()
    cut[:, :3] = 0  # a cell that three sides of the frame cut
    halves = filled.copy()
    halves[:, 7] = 0
    for pixels, objects in ((one, 1), (filled, 1), (cut, 1), (halves, 2)):
        assert read_labels(write_tiff(tmp_path / "a.tif", pixels)).max() == objects


def palette_png(path, indices, palette, bits=8):
    image = Image.fromarray(np.asarray(indices, np.uint8), "P")
    image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    image.save(path, bits=bits)
    return path


COLORS = np.array([(0, 0, 0), (9, 8, 200), (9, 8, 200), (255, 0, 0)])


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_of_a_png_with_a_palette_the_index_is_the_id(tmp_path, bits):
    # Two ids share a color; color 0 is black, as of labelme and Pascal VOC.
    ids = np.array([[0, 1, 2], [3, 3, 0], [0, 0, 1]])
    path = palette_png(tmp_path / "a.png", ids, COLORS, bits)
    assert read_annotation(path).kind == "labels"
    np.testing.assert_array_equal(read_labels(path), ids)


def test_an_inverting_palette_of_imagej_does_not_swap_mask_and_background(tmp_path):
    mask = np.zeros((8, 9), np.uint8)
    mask[1:3, 1:4], mask[5:7, 5:8] = 255, 255
    gray = np.repeat(np.arange(255, -1, -1)[:, None], 3, axis=1)
    path = palette_png(tmp_path / "a.png", mask, gray)
    assert Image.open(path).convert("L").getpixel((0, 0)) == 255
    assert np.bincount(read_labels(path).ravel())[1:].tolist() == [6, 6]


@pytest.mark.parametrize("background", [(255, 255, 255), (40, 40, 90)])
def test_of_any_palette_0_is_the_background_that_is_around_objects(
    tmp_path, background
):
    ids = np.zeros((6, 7), np.uint8)
    ids[1:3, 1:3], ids[3:5, 4:6] = 1, 2
    colors = [background, (0, 0, 0), (250, 20, 20)]
    path = palette_png(tmp_path / "a.png", ids, colors)
    np.testing.assert_array_equal(read_labels(path), ids)


def test_a_palette_in_which_black_is_not_the_first_color_is_read_by_color(tmp_path):
    # Sorted by color, as programs that make files smaller leave it.
    ids = np.full((6, 7), 2, np.uint8)
    ids[1:3, 1:3], ids[3:5, 4:6] = 1, 0
    path = palette_png(tmp_path / "a.png", ids, [(250, 9, 9), (9, 250, 9), (0, 0, 0)])
    assert np.bincount(read_labels(path).ravel()).tolist() == [42 - 8, 4, 4]


def test_the_void_of_pascal_voc_does_not_count(tmp_path):
    ids = np.zeros((6, 7), np.uint8)
    ids[1:5, 1:6], ids[2:4, 2:5] = 255, 3
    palette = np.zeros((256, 3), np.uint8)
    palette[3], palette[255] = (128, 128, 0), (224, 224, 192)
    path = palette_png(tmp_path / "a.png", ids, palette)
    found = read_annotation(path)
    np.testing.assert_array_equal(found.labels, np.where(ids == 255, 0, ids))
    np.testing.assert_array_equal(found.annotated, ids != 255)
    assert "Pascal VOC" in found.notes[0]
    palette[255] = 7  # an object of that number
    found = read_annotation(palette_png(path, ids, palette))
    assert found.annotated is None
    assert found.labels.max() == 255


def test_nan_is_the_background_where_nothing_is_0(tmp_path):
    stored = np.full((20, 30), np.nan, np.float32)
    stored[3:9, 4:10], stored[12:18, 15:25] = 7, 9
    tifffile.imwrite(tmp_path / "a.tif", stored)
    found = read_annotation(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.labels, np.nan_to_num(stored))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers_in_floating_point_are_ids(tmp_path, dtype):
    ids = np.array([[0, 1, 1], [70_000, 0, 2**24]])
    path = write_tiff(tmp_path / "a.tif", ids.astype(dtype))
    np.testing.assert_array_equal(read_labels(path), ids)
    mask = write_tiff(tmp_path / "b.tif", np.array([[0, 1], [1, 0]], dtype))
    assert read_annotation(mask).kind == "binary"


def test_one_object_of_another_id_is_not_binary(tmp_path):
    found = read_annotation(write_tiff(tmp_path / "a.tif", np.uint16([[7, 0, 7]])))
    assert found.kind == "labels"
    np.testing.assert_array_equal(found.labels, [[7, 0, 7]])


def test_kind_decides_where_pixels_do_not(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.uint8([[1, 0, 1]]))
    np.testing.assert_array_equal(read_labels(path, kind="labels"), [[1, 0, 1]])
    np.testing.assert_array_equal(read_labels(path, kind="binary"), [[1, 0, 2]])


def test_a_graph_coloring_becomes_pieces_within_each_color(tmp_path):
    red = [[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0, 0, 0, 0, 1], [3, 3, 0, 1, 1]]
    found = read_annotation(write_png(tmp_path / "a.png", rgba(red)))
    assert found.kind == "colored"
    np.testing.assert_array_equal(
        found.labels,
        [[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0, 0, 0, 0, 3], [4, 4, 0, 3, 3]],
    )


def test_arbitrary_colors_are_told_apart_in_every_channel(tmp_path):
    pixels = np.zeros((1, 4, 3), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[0, 3] = (9, 0, 0), (0, 9, 0), (0, 0, 9)
    labels = read_labels(write_png(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(labels, [[1, 2, 0, 3]])


def test_transparent_pixels_are_background(tmp_path):
    pixels = np.full((1, 3, 4), 200, np.uint8)
    pixels[0, :, 0] = 10
    pixels[0, 1, 3] = 0
    labels = read_labels(write_png(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(labels, [[1, 0, 2]])


def test_gray_saved_as_color_is_read_as_gray(tmp_path):
    gray = np.repeat(np.uint8([[0, 3, 3, 4]])[..., None], 3, axis=2)
    found = read_annotation(write_png(tmp_path / "a.png", gray))
    assert found.kind == "labels"
    np.testing.assert_array_equal(found.labels, [[0, 3, 3, 4]])


def test_planar_color_tiffs_are_read(tmp_path):
    planes = np.zeros((3, 2, 20), np.uint8)
    planes[0, :, 2:5], planes[2, :, 9:12] = 8, 8
    path = tmp_path / "a.tif"
    write_tiff(path, planes, photometric="rgb", planarconfig="separate")
    assert read_labels(path).max() == 2


def test_an_empty_annotation_is_no_object(tmp_path):
    path = write_png(tmp_path / "a.png", rgba([[0, 0], [0, 0]]))
    assert not read_labels(path).any()


@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
        elements=st.integers(0, 3),
    )
)
@settings(max_examples=60)
def test_decoded_pieces_are_the_classes_of_equal_connected_neighbors(red):
    """Against a flood fill in plain Python."""
    labels = decode_colored(rgba(red.tolist()), Path("a.png"))
    expected = np.zeros(red.shape, int)
    for start in np.ndindex(red.shape):
        if not red[start] or expected[start]:
            continue
        number, todo = expected.max() + 1, [start]
        while todo:
            y, x = todo.pop()
            expected[y, x] = number
            for v, u in itertools.product((y - 1, y, y + 1), (x - 1, x, x + 1)):
                inside = 0 <= v < red.shape[0] and 0 <= u < red.shape[1]
                if inside and red[v, u] == red[start] and not expected[v, u]:
                    todo.append((v, u))
    np.testing.assert_array_equal(labels, expected)


def test_recognize_takes_a_boolean_image_as_binary():
    assert recognize(np.zeros((2, 2), bool)) == "binary"


def write_objects(folder: Path, *objects: list[list[int]]) -> Path:
    for number, drawn in enumerate(objects):
        write_png(folder / f"{number}.png", np.uint8(drawn) * 255)
    return folder


def test_a_folder_of_objects_is_numbered_by_file_name(tmp_path):
    masks = write_objects(tmp_path / "a" / "masks", [[0, 0, 1]], [[1, 0, 0]])
    for path in (masks, masks.parent):
        found = read_annotation(path)
        assert (found.kind, found.overlap_px, found.hidden) == ("objects", 0, 0)
        np.testing.assert_array_equal(found.labels, [[2, 0, 1]])


def test_overlap_goes_to_the_smallest_object_then_to_the_first(tmp_path):
    masks = write_objects(
        tmp_path / "masks", [[1, 1, 1, 1, 0]], [[0, 1, 0, 0, 0]], [[0, 0, 0, 1, 1]]
    )
    found = read_object_folder(masks)
    np.testing.assert_array_equal(found.labels, [[1, 2, 1, 3, 3]])
    assert found.overlap_px == 2
    same = write_objects(tmp_path / "same", [[1, 1]], [[1, 1]], [[0, 0]])
    found = read_object_folder(same)
    np.testing.assert_array_equal(found.labels, [[1, 1]])
    assert (found.overlap_px, found.hidden) == (2, 2)


def test_objects_in_several_pieces_stay_one(tmp_path):
    found = read_object_folder(write_objects(tmp_path / "masks", [[1, 0, 1]]))
    np.testing.assert_array_equal(found.labels, [[1, 0, 1]])


def test_objects_of_different_frames_are_refused(tmp_path):
    masks = write_objects(tmp_path / "masks", [[1, 0]], [[1, 0, 0]])
    with pytest.raises(AnnotationError, match=r"1\.png has shape \(1, 3\), 0\.png"):
        read_object_folder(masks)


def test_a_folder_without_objects_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="holds no PNG or TIFF file"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("pixels", "found", "hint"),
    [
        (np.float32([[0, 1.5]]), "floating-point values .*float32, 0 to 1.5", "image"),
        (np.float32([[0, 2**25]]), "ids above 16,777,216 are rounded", "integers"),
        (np.float32([[0, np.nan]]), "floating-point values", "image or a prob"),
        (np.float32([[np.nan, np.nan]]), "none finite", "image or a prob"),
        (np.int16([[0, -1]]), "negative values, down to -1", "--ignore-value -1"),
        (np.uint32([[0, 2**31]]), "holds the id 2147483648", "Number the objects"),
        (np.ones((2, 5, 5), np.uint8), "more than one plane", "of the same planes"),
        (np.complex64([[0, 2]]), "floating-point values .*complex64", ""),
    ],
)
def test_what_cannot_be_labels_is_refused_with_what_was_found(
    tmp_path, pixels, found, hint
):
    path = write_tiff(tmp_path / "ü 1.tif", pixels, photometric="minisblack")
    with pytest.raises(AnnotationError, match=found) as caught:
        read_labels(path)
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


def test_several_series_are_several_planes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(IDS, metadata=None)
        tiff.write(IDS[:2], metadata=None)
    with pytest.raises(AnnotationError, match="YX 3 x 3; YX 2 x 3"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["auto", "colored"])
def test_an_intensity_image_in_place_of_labels_is_refused(tmp_path, nuclei_image, kind):
    image, _ = nuclei_image()
    with pytest.raises(AnnotationError, match="looks like an intensity image") as found:
        read_labels(write_tiff(tmp_path / "a.tif", image), kind=kind)
    # `train`, which reads annotations too, has no such option.
    assert "make-labels --kind binary" in found.value.hint
    assert read_labels(tmp_path / "a.tif", kind="binary").max() == 1


def test_many_single_pixel_objects_are_labels(tmp_path):
    ids = np.zeros((32, 32), np.uint16)
    ids[::2, ::2] = np.arange(1, 257).reshape(16, 16)
    np.testing.assert_array_equal(read_labels(write_tiff(tmp_path / "a.tif", ids)), ids)


def test_color_on_white_is_refused_and_full_coverage_is_not(tmp_path):
    pixels = np.full((3, 3, 3), 255, np.uint8)
    pixels[0, 0] = (200, 0, 0)
    with pytest.raises(AnnotationError, match="mostly white; black is background"):
        read_labels(write_png(tmp_path / "a.png", pixels))
    full = write_png(tmp_path / "b.png", rgba([[1, 2], [1, 2]]))
    np.testing.assert_array_equal(read_labels(full), [[1, 2], [1, 2]])


def test_ids_are_not_read_from_colors(tmp_path):
    path = write_png(tmp_path / "a.png", rgba([[1, 0]]))
    with pytest.raises(AnnotationError, match="make-labels --kind colored"):
        read_labels(path, kind="labels")


def test_wide_colors_are_refused(tmp_path):
    pixels = np.zeros((4, 20, 3), np.uint32)
    pixels[0, 0] = (1, 2, 3)
    path = write_tiff(tmp_path / "a.tif", pixels, photometric="rgb")
    with pytest.raises(AnnotationError, match="3 channels of uint32"):
        read_labels(path)


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="Known: auto, binary, coco, colored"):
        read_labels(tmp_path, kind="coloured")
    pixels = ["labels", "binary", "inverted", "colored", "outlines", "objects"]
    drawn = ["scribbles", "rois", "geojson", "coco", "labelme", "via", "napari"]
    assert list(ANNOTATIONS) == ["auto", *pixels, *drawn]


def huge_png() -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", 10**6, 10**6, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def huge_tiff() -> bytes:
    tags = ((256, 10**6), (257, 10**6), (258, 8), (259, 1), (262, 1), (273, 8))
    tags = (*tags, (277, 1), (278, 10**6), (279, 4))
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    body = struct.pack("<H", len(tags)) + rows + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + body


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", r"is empty \(0 bytes"),
        (b"plain text", "neither an image nor shapes; label images are read as"),
        (imagecodecs.jpeg8_encode(np.zeros((8, 8), np.uint8)), "holds JPEG, whose"),
        (imagecodecs.png_encode(IDS)[:20], "cannot be read"),
        (imagecodecs.png_encode(IDS)[:60], "cannot be read"),
        (b"II*\0\x08\0", "cannot be read"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "without an image"),
        (huge_png(), "claims 1000000 x 1000000 pixels in a file of"),
        (huge_tiff(), "claims 1000000 x 1000000 pixels in a file of"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, content, found):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=found) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
def test_a_truncated_tiff_is_refused(tmp_path, compression, rng):
    ids = rng.integers(0, 900, (64, 64)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", ids, compression=compression)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AnnotationError, match=r"cannot be read|is truncated"):
        read_labels(path)


def test_lossy_compression_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, np.zeros((64, 64), np.uint8), compression="jpeg")
    with pytest.raises(AnnotationError, match="lossy JPEG compression"):
        read_labels(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="does not exist"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.slow
@pytest.mark.data
def test_objects_of_bbbc039_are_counted(data_dir):
    pairs = find_pairs(data_dir / "bbbc039")
    counts = {p.name: int(read_labels(p.annotation).max()) for p in pairs.pairs}
    # Of 12,001 pieces side by side, two of 1 and 2 px touch another at a corner.
    assert sum(counts[name] for name in pairs.train) == 11_999
    assert sum(counts[name] for name in pairs.validation) == 5_896


@pytest.mark.slow
@pytest.mark.data
def test_every_instance_image_of_dsb2018_comes_out_as_it_is(data_dir):
    pairs = find_pairs(data_dir / "dsb2018-fluorescence").pairs
    assert len(pairs) == 360
    for pair in pairs:
        ids = tifffile.imread(pair.annotation)
        np.testing.assert_array_equal(read_labels(pair.annotation), ids)


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.uint16, 65535), (np.int16, -1), (np.uint8, 255)]
)
def test_a_chosen_value_marks_what_is_not_annotated(tmp_path, dtype, value):
    pixels = np.zeros((4, 6), dtype)
    pixels[1, 1:3], pixels[:, 4:] = 7, value
    found = read_annotation(write_tiff(tmp_path / "a.tif", pixels), ignore_value=value)
    assert found.annotated.tolist() == [[True] * 4 + [False] * 2] * 4
    assert np.argwhere(found.labels == 7).tolist() == [[1, 1], [1, 2]]
    assert np.count_nonzero(found.labels) == 2


def test_a_value_that_does_not_occur_leaves_all_annotated(tmp_path):
    found = read_annotation(write_tiff(tmp_path / "a.tif", IDS), ignore_value=99)
    assert found.annotated is None
    np.testing.assert_array_equal(found.labels, IDS)


def test_a_binary_image_may_have_a_third_value_to_ignore(tmp_path):
    pixels = np.array([[1, 1, 0, 255], [0, 0, 0, 255], [1, 0, 0, 0]], np.uint8)
    found = read_annotation(write_tiff(tmp_path / "a.tif", pixels), ignore_value=255)
    assert (found.kind, found.labels.max()) == ("binary", 2)


def test_background_cannot_be_ignored_and_colors_have_no_value(tmp_path):
    path = write_tiff(tmp_path / "a.tif", IDS)
    with pytest.raises(ConfigError, match="cannot be 0") as caught:
        read_annotation(path, ignore_value=0)
    assert "'region'" in caught.value.hint
    colored = write_png(tmp_path / "a.png", rgba([[1, 2], [0, 3]]))
    with pytest.raises(AnnotationError, match="is colored"):
        read_annotation(colored, ignore_value=9)


def test_an_image_beside_says_what_is_annotated(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.where(IDS == 300, 9, IDS))
    part = np.array([[255, 255, 0], [255, 0, 0], [0, 0, 0]], np.uint8)
    sidecar = write_tiff(tmp_path / "part.tif", part)
    found = read_annotation(path, annotated=sidecar)
    np.testing.assert_array_equal(found.annotated, part > 0)
    # Both count: what one of them leaves out is out.
    found = read_annotation(path, annotated=sidecar, ignore_value=7)
    expected = [[True, False, False], [True, False, False], [False] * 3]
    assert found.annotated.tolist() == expected
    everything = write_tiff(tmp_path / "all.tif", np.ones((3, 3), np.uint8))
    assert read_annotation(path, annotated=everything).annotated is None


def test_an_annotated_part_of_another_size_or_of_nothing_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", IDS)
    other = write_tiff(tmp_path / "other.tif", np.ones((3, 4), np.uint8))
    with pytest.raises(AnnotationError, match=r"other\.tif has 3 x 4 .* has 3 x 3"):
        read_annotation(path, annotated=other)
    nothing = write_tiff(tmp_path / "nothing.tif", np.zeros((3, 3), np.uint8))
    with pytest.raises(AnnotationError, match="marks no pixel"):
        read_annotation(path, annotated=nothing)


class Trap:
    """Does harm when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("shape", [(3, 3), (1, 3, 3, 1)])
def test_a_plain_array_of_numpy_is_a_label_image(tmp_path, shape):
    np.save(tmp_path / "a.npy", IDS.reshape(shape))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.npy"), IDS)
    np.save(tmp_path / "b.npy", IDS.astype(bool))
    assert read_annotation(tmp_path / "b.npy").kind == "binary"


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 5, 5), int), "array of 2 x 5 x 5"),
        (np.array([["a"]]), "holds <U1"),
        (np.array([[Trap()]], object), "no plain array"),
    ],
)
def test_other_arrays_are_refused(tmp_path, pixels, message):
    np.save(tmp_path / "a.npy", pixels, allow_pickle=True)
    with pytest.raises(AnnotationError, match=message):
        read_labels(tmp_path / "a.npy")


@pytest.mark.parametrize("kind", ["auto", "labels"])
def test_what_cellpose_pickles_is_refused_unopened_with_the_way_out(tmp_path, kind):
    path = tmp_path / "a_seg.npy"
    np.save(path, np.array([{"masks": Trap()}], object), allow_pickle=True)
    with pytest.raises(AnnotationError, match="NumPy file of Cellpose") as caught:
        read_annotation(path, kind=kind)
    assert "--save_png" in caught.value.hint


def test_json_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"fps": 3}')
    with pytest.raises(AnnotationError, match="neither GeoJSON nor of COCO, labelme"):
        read_annotation(tmp_path / "a.json")


def own_name(xml: str) -> str:
    """Return the identity that OME metadata give their file."""
    return xml.split('UUID="')[1].split('"')[0]


def test_what_the_metadata_of_labels_name_elsewhere_is_not_opened(tmp_path):
    labels = np.zeros((2, 20, 20), np.uint16)
    labels[0, 2:8, 2:8], labels[1, 10:15, 10:15] = 1, 2
    xml = []
    for name, plane in zip(("a", "b"), labels, strict=True):
        path = tmp_path / f"{name}.ome.tif"
        tifffile.imwrite(path, plane[np.newaxis], metadata={"axes": "TYX"}, ome=True)
        with tifffile.TiffFile(path) as tiff:
            xml.append(tiff.ome_metadata)
    parts = "".join(
        f'<TiffData IFD="0" FirstT="{number}"><UUID FileName="{name}.ome.tif">'
        f"{own_name(text)}</UUID></TiffData>"
        for number, (name, text) in enumerate(zip(("a", "b"), xml, strict=True))
    )
    before, _, after = xml[0].partition("<TiffData")
    named = before.replace('SizeT="1"', 'SizeT="2"') + parts
    named += after[after.index("</Pixels>") :]
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, labels[0], description=named, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].shape == labels.shape
    assert np.array_equal(read_labels(path), labels[0])


@pytest.mark.parametrize("named", ["s1", "s1/masks"])
def test_the_only_file_of_a_folder_of_objects_may_be_a_label_image(tmp_path, named):
    write_png(tmp_path / "s1/masks/a.png", np.uint8([[1, 0, 2], [1, 0, 2]]))
    labels = read_labels(tmp_path / named)
    np.testing.assert_array_equal(labels, [[1, 0, 2], [1, 0, 2]])


def test_the_only_file_of_a_folder_may_be_a_mask_of_all_objects(tmp_path):
    folder = write_objects(tmp_path / "masks", [[1, 0, 1]])
    np.testing.assert_array_equal(read_labels(folder), [[1, 0, 2]])
    np.testing.assert_array_equal(read_labels(folder, kind="objects"), [[1, 0, 1]])
