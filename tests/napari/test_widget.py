"""The napari widget: layers in, layers and models out, and one line when it cannot."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile

from cellunet.errors import CellunetError
from cellunet.tasks.models import list_models
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.session import load_model

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def image(nuclei_image):
    return nuclei_image((120, 100), 16, 3)[0]


@pytest.fixture(scope="module")
def found(image):
    """What the widget is to find."""
    return load_model(device="cpu").segment(image)


@pytest.fixture
def segmented(widget, wait):
    """``segmented()``: press the button, wait, and return the message."""

    def press() -> str:
        widget.segment.changed.emit(True)
        wait(lambda: widget._desk.job is None)
        return widget.message.value

    return press


@pytest.fixture
def trained(widget, wait):
    """``trained()``: press the button, wait, and return the message."""

    def press() -> str:
        widget.train.changed.emit(True)
        wait(lambda: widget._desk.job is None)
        return widget.message.value

    return press


def test_a_layer_becomes_the_labels_that_python_gives(
    viewer, segmented, image, found
) -> None:
    viewer.add_image(
        image, name="dapi", scale=(0.5, 0.25), translate=(7, 9), units=("um", "um")
    )
    said = segmented()
    count = len(found.table["id"])
    assert said.startswith(f"{count} objects")
    assert count > 8
    layer = viewer.layers["dapi labels"]
    np.testing.assert_array_equal(layer.data, found.labels)
    np.testing.assert_array_equal(layer.features["index"], found.table["id"])
    np.testing.assert_allclose(
        layer.features["area_um2"], found.table["area_px"] / 8, rtol=1e-12
    )
    np.testing.assert_array_equal(layer.scale, (0.5, 0.25))
    np.testing.assert_array_equal(layer.translate, (7, 9))
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]


def test_without_a_unit_of_length_nothing_is_said_in_micrometers(
    viewer, segmented, image
) -> None:
    viewer.add_image(image, scale=(2, 2))
    segmented()
    assert viewer.layers[-1].features["area_um2"].isna().all()


def test_a_rotated_and_sheared_layer_keeps_its_place(viewer, segmented, image) -> None:
    layer = viewer.add_image(image, rotate=30, shear=[0.5], affine=np.diag([2, 3, 1]))
    segmented()
    for point in ((0, 0), (50, 7)):
        np.testing.assert_allclose(
            viewer.layers[-1].data_to_world(point), layer.data_to_world(point)
        )


def test_a_diameter_in_pixels_is_taken(viewer, widget, segmented, image) -> None:
    viewer.add_image(image)
    widget.find_diameter.value = False
    widget.diameter.value = 12
    segmented()
    told = load_model(device="cpu").segment(image, diameter=12)
    np.testing.assert_array_equal(viewer.layers[-1].data, told.labels)


def test_of_a_stack_the_plane_shown_or_all(viewer, widget, segmented, image, found):
    empty = np.zeros_like(image)
    viewer.add_image(np.stack([empty, image, image]), name="z", scale=(3, 1, 1))
    viewer.dims.set_current_step(0, 1)
    segmented()
    # Labels of a whole stack may not fit into memory.
    np.testing.assert_array_equal(viewer.layers[-1].data, [found.labels])
    assert set(viewer.layers[-1].features["axis_0"]) == {1}
    assert viewer.layers[-1].get_value((3, *np.argwhere(found.labels)[0]), world=True)
    widget.image.value = viewer.layers["z"]
    widget.planes.value = "all planes, one by one"
    segmented()
    every, count = viewer.layers[-1], int(found.labels.max())
    second = np.where(found.labels, found.labels + count, 0)
    np.testing.assert_array_equal(every.data, [empty, found.labels, second])
    # Every object has a number of its own, which its row tells.
    assert list(every.features["index"]) == list(range(1, 2 * count + 1))
    assert list(every.features["axis_0"]) == [1] * count + [2] * count
    np.testing.assert_array_equal(every.scale, (3, 1, 1))


def test_labels_of_the_plane_shown_lie_in_it(qt, viewer, segmented, image) -> None:
    turned = np.eye(4)
    turned[1:3, 1:3] = [[0.8, -0.6], [0.6, 0.8]]
    layer = viewer.add_image(
        np.stack([image] * 4)[np.newaxis],
        scale=(1, 3, 0.5, 0.5),
        translate=(0, 7, 1, 2),
        rotate=turned,
        shear=[0, 0, 0, 0.1, 0.2, 0.3],
        affine=np.diag([1, 2, 3, 4, 1]),
    )
    viewer.dims.set_point(range(4), layer.data_to_world((0, 2, 60, 50)))
    planes = qt.layers.LayerPlanes(layer, qt.layers.LayerChoice(), viewer.dims.point)
    segmented()
    labels = viewer.layers[-1]
    assert labels.data.shape == (1, 1, *image.shape)
    assert planes.shown == (0, 2)
    for y, x in ((0, 0), (50, 7)):
        np.testing.assert_allclose(
            labels.data_to_world((0, 0, y, x)), layer.data_to_world((0, 2, y, x))
        )


def test_labels_of_one_plane_are_trained_on_with_that_plane(
    qt, viewer, widget, segmented, image
) -> None:
    layer = viewer.add_image(np.stack([image, image + 1, image + 2]), name="z")
    viewer.dims.set_current_step(0, 2)
    segmented()
    made = viewer.layers[-1]
    made.data[0, :5, :5] = 77
    viewer.dims.set_current_step(0, 1)
    planes = qt.layers.LayerPlanes(layer, qt.layers.LayerChoice(), viewer.dims.point)
    pairs = qt.layers.training_pairs(planes, made)
    assert list(pairs) == ["z 2"]
    np.testing.assert_array_equal(pairs["z 2"][0], image + 2)
    np.testing.assert_array_equal(pairs["z 2"][1], made.data[0])
    # Of labels that nobody knows the plane of, it is the one that is shown.
    drawn = viewer.add_labels(np.ones((1, *image.shape), int))
    assert list(qt.layers.training_pairs(planes, drawn)) == ["z 1"]
    # Another image may have no such plane.
    flat = qt.layers.LayerPlanes(
        viewer.add_image(image[np.newaxis].repeat(2, 0), name="two"),
        qt.layers.LayerChoice(),
        viewer.dims.point,
    )
    with pytest.raises(CellunetError, match="belong to this image"):
        qt.layers.training_pairs(flat, made)


def test_planes_of_a_stack_are_seen_at_one_size(
    viewer, widget, segmented, nuclei_image, tmp_path
) -> None:
    # By itself the first plane, of larger nuclei, would be seen reduced.
    large, _ = nuclei_image((256, 256), 4, 1, radius_px=(38, 45))
    usual = [nuclei_image((256, 256), 12, k, radius_px=(9, 12))[0] for k in (2, 3)]
    stack = np.stack([large, *usual])
    tifffile.imwrite(tmp_path / "z.tif", stack, metadata={"axes": "ZYX"}, ome=True)
    predict([str(tmp_path / "z.tif")], tmp_path / "out", threads=1)
    viewer.add_image(stack)
    widget.planes.value = "all planes, one by one"
    segmented()
    told = tifffile.imread(tmp_path / "out" / "z.tif")
    for own, other in zip(viewer.layers[-1].data, told, strict=True):
        np.testing.assert_array_equal(own > 0, other > 0)


def test_of_channels_the_one_that_is_named(
    viewer, widget, segmented, image, found
) -> None:
    empty = np.zeros_like(image)
    viewer.add_image(np.stack([empty, image]), name="two", scale=(1, 0.5, 0.5))
    widget.channel_axis.value = 0
    widget.channel.value = "1"
    segmented()
    layer = viewer.layers[-1]
    np.testing.assert_array_equal(layer.data, found.labels)
    np.testing.assert_array_equal(layer.scale, (0.5, 0.5))
    widget.image.value = viewer.layers["two"]
    widget.channel_axis.value = 0
    for wrong, message in (("2", "channels 0 to 1, not 2"), ("x", "is no number")):
        widget.channel.value = wrong
        assert message in segmented()
    # What is not shown any more says nothing.
    viewer.add_image(image, name="flat")
    widget.image.value = viewer.layers["flat"]
    assert segmented().startswith(f"{len(found.table['id'])} objects")


def test_of_levels_the_full_size(viewer, segmented, image, found) -> None:
    viewer.add_image([image, image[::2, ::2]], multiscale=True)
    segmented()
    np.testing.assert_array_equal(viewer.layers[-1].data, found.labels)


def test_the_layer_that_is_selected_is_taken(viewer, widget, image) -> None:
    first, second = viewer.add_image(image), viewer.add_image(image)
    viewer.layers.selection.active = first
    assert widget.image.value is first
    viewer.layers.selection.active = second
    assert widget.image.value is second
    first.name = "renamed"
    shown = widget.image.native
    assert "renamed" in [shown.itemText(i) for i in range(shown.count())]


def test_a_model_is_loaded_once(viewer, widget, segmented, image) -> None:
    viewer.add_image(image)
    segmented()
    loaded = widget._loaded[1]
    widget.find_diameter.value = False
    segmented()
    assert widget._loaded[1] is loaded


def test_bad_input_is_one_line(viewer, widget, segmented, trained, image) -> None:
    assert segmented().startswith("There is no image layer. Open an image")
    assert trained().startswith("There is no image layer.")
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), rgb=True, name="photo")
    assert segmented() == (
        "photo is an RGB picture. Right-click the layer, choose Split RGB, and take "
        "one channel."
    )
    viewer.add_image(image, name="dapi")
    assert trained().startswith("There is no labels layer.")
    viewer.add_labels(np.zeros(image.shape, int), name="none")
    assert trained().startswith("none is empty.")
    viewer.add_labels(np.ones((5, 5), int), name="other")
    assert trained().startswith(
        "other is of shape (5, 5), dapi of (120, 100). Choose the labels"
    )
    assert len(viewer.layers) == 4


def test_an_impossible_diameter_is_one_line(viewer, widget, segmented, image) -> None:
    viewer.add_image(image)
    widget.find_diameter.value = False
    widget.diameter.value = 2000
    said = segmented()
    assert said.startswith("A diameter of 2000 px is too far from")
    assert len(viewer.layers) == 1


def test_cancel_adds_no_layer(viewer, widget, segmented, image) -> None:
    viewer.add_image(np.tile(image, (4, 4)))
    loading = widget._model
    widget._model = lambda name: (widget.stop(), loading(name))[1]
    assert segmented() == "Stopped; no layer was added."
    assert len(viewer.layers) == 1
    widget._model = loading
    assert "objects" in segmented()


@pytest.mark.parametrize("how", ["destroyed", "taken out"])
def test_a_widget_closed_while_it_works_ends_its_thread(
    qt, viewer, image, wait, capsys, how
) -> None:
    window = qt.window()
    viewer.add_image(image)
    widget = qt.widget.CellunetWidget(viewer)
    widget.setParent(window)
    begun, closed = threading.Event(), threading.Event()
    loading = widget._model

    def slowly(name: str):
        begun.set()
        assert closed.wait(60)
        return loading(name)

    widget._model = slowly
    widget.segment.changed.emit(True)
    job = widget._desk.job
    assert begun.wait(60)
    if how == "destroyed":
        window.deleteLater()
    else:
        # As the cross of a dock widget does.
        widget.setParent(None)
    qt.settle()
    closed.set()
    wait(lambda: not job.running())
    assert job.stopping()
    assert len(viewer.layers) == 1
    # The viewer goes on without it.
    viewer.add_image(image)
    viewer.layers.selection.active = viewer.layers[0]
    widget.reset_choices()
    if how == "taken out":
        widget.setParent(window)
        assert widget.segment.enabled
    assert capsys.readouterr().err == ""
    assert not [t for t in threading.enumerate() if t.name == "cellunet"]


@pytest.fixture
def quickly(tiny_home, tiny_model, tmp_path, monkeypatch):
    """Trainings of a blink that start from ``tiny``, in a home of their own."""
    import shutil

    from tests.networks import few_candidates

    few_candidates(monkeypatch.setattr)
    home = tmp_path / "home"
    shutil.copytree(tiny_model.folder, home / "models" / "tiny")
    monkeypatch.setenv("CELLUNET_HOME", str(home))
    config = tiny_model.config.replace(steps_per_epoch=3, warmup_steps=1)
    monkeypatch.setattr(
        "cellunet.tasks.train.arrays.configure", lambda *_: config, raising=True
    )
    return home


def test_corrected_labels_become_a_model_in_the_list(
    viewer, widget, trained, nuclei_image, quickly
) -> None:
    image, labels = nuclei_image((64, 64), 8, 1)
    viewer.add_image(image, name="dapi")
    viewer.add_labels(labels.astype(int), name="corrected")
    widget.reset_choices()
    widget.model.value = "tiny"
    widget.new_name.value = "mine"
    assert trained().startswith("Model mine is ready and chosen above.")
    assert "mine" in widget.model.choices
    assert widget.model.value == "mine"
    (card,) = [i for i in list_models() if i.name == "mine"]
    assert card.status == "ready"
    # The name is taken now, and another one can be given here.
    assert trained().endswith("exists already. Change above: name of new model.")
    widget.new_name.value = "nuclei"
    assert trained().endswith("ships with cellunet. Change above: name of new model.")
    widget.new_name.value = "a b"
    assert trained().startswith("'a b' cannot name a model.")


def test_the_window_does_not_wait_for_planes_to_be_read(
    qt, viewer, trained, image, monkeypatch
) -> None:
    readers = []
    read = qt.layers.LayerPlanes.read

    def reading(planes, index):
        readers.append(threading.current_thread())
        read(planes, index)
        raise CellunetError("Far enough.")

    monkeypatch.setattr(qt.layers.LayerPlanes, "read", reading)
    viewer.add_image(image)
    viewer.add_labels(np.ones(image.shape, int))
    assert trained() == "Far enough."
    (reader,) = readers
    assert reader is not threading.current_thread()


def test_a_training_that_is_cancelled_leaves_no_model(
    viewer, widget, nuclei_image, quickly, wait
) -> None:
    image, labels = nuclei_image((64, 64), 8, 1)
    viewer.add_image(image)
    viewer.add_labels(labels.astype(int))
    widget.reset_choices()
    widget.model.value = "tiny"
    widget.train.changed.emit(True)
    wait(lambda: "Training" in widget.message.value or widget._desk.job is None)
    widget.cancel.changed.emit(True)
    wait(lambda: widget._desk.job is None)
    assert widget.message.value == "Stopped; no model was kept."
    assert [p.name for p in (quickly / "models").glob("[!.]*")] == ["tiny"]


def test_planes_without_objects_are_not_trained_on(qt, viewer, nuclei_image) -> None:
    image, labels = nuclei_image((64, 64), 8, 1)
    layer = viewer.add_image(np.stack([image, image + 1, image + 2]), name="z")
    drawn = np.zeros((3, 64, 64), int)
    drawn[2] = labels
    planes = qt.layers.LayerPlanes(layer, qt.layers.LayerChoice(), viewer.dims.point)
    pairs = qt.layers.training_pairs(planes, viewer.add_labels(drawn))
    assert list(pairs) == ["z 2"]
    np.testing.assert_array_equal(pairs["z 2"][0], image + 2)
    np.testing.assert_array_equal(pairs["z 2"][1], labels)
