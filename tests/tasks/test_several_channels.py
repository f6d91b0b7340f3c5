"""Models that look at several channels: made from those of fewer, and applied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile
from scipy import ndimage

from cellunet import store
from cellunet.command_config import PredictConfig, SplitConfig, SuggestConfig
from cellunet.config import NormalizationConfig
from cellunet.errors import CellunetError, ConfigError, ImageReadError, InputError
from cellunet.io.images import open_image
from cellunet.presets import PRESETS
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.learning_curve import learning_curve
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.plane import plane_statistics
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.quantize import calibrate
from cellunet.tasks.suggest.request import SuggestRequest
from cellunet.tasks.suggest.suggest import suggest
from cellunet.tasks.train.request import Hooks, Trained, TrainRequest
from cellunet.tasks.train.train import train
from tests.conftest import TinyModel, draw_nuclei
from tests.tasks.conftest import stop_at

pytestmark = pytest.mark.slow

NAMES = ("DAPI", "GFP")
FOLDS = SplitConfig(folds=3)


def drawn(seed: int, shape: tuple[int, int] = (64, 64)) -> tuple[np.ndarray, ...]:
    """Return (channels CYX, labels): of the nuclei in DAPI those that GFP shows too."""
    rng = np.random.default_rng(seed)
    dapi, every = draw_nuclei(shape, shape[0] * shape[1] // 500, seed)
    chosen = np.flatnonzero(rng.random(every.max()) < 0.5) + 1
    labels = np.where(np.isin(every, chosen), every, 0)
    lit = ndimage.gaussian_filter(np.where(labels > 0, 900.0, 50.0), 1)
    gfp = np.rint(lit + rng.normal(0, 8, shape)).clip(0).astype(np.uint16)
    return np.stack([dapi, gfp]), labels.astype(np.uint16)


def save(path: Path, image: np.ndarray, names: tuple[str, ...] = NAMES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"axes": "CYX", "Channel": {"Name": list(names)}}
    options = {"tile": (32, 32), "compression": "zlib"}
    tifffile.imwrite(path, image, metadata=about, photometric="minisblack", **options)
    return path


def write(folder: Path, count: int, first_seed: int = 0) -> Path:
    for number in range(count):
        image, labels = drawn(first_seed + number)
        save(folder / "images" / f"a{number}.ome.tif", image)
        (folder / "labels").mkdir(exist_ok=True)
        tifffile.imwrite(folder / "labels" / f"a{number}.tif", labels)
    return folder


@dataclass(frozen=True, kw_only=True)
class TwoChannels:
    """A model of two channels, from one of one channel, and what it was trained on."""

    folder: Path
    data: Path
    trained: Trained
    alone: Trained
    """The same training, but of the first channel."""

    @property
    def model(self) -> str:
        return str(self.folder)

    @property
    def card(self) -> store.ModelCard:
        return store.find_model(self.model).card


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> TwoChannels:
    data = write(tmp_path_factory.mktemp("two") / "data", 6, first_seed=200)

    def trained(channel: str, name: str) -> Trained:
        return train(
            TrainRequest(
                data=(data,),
                name=name,
                config=tiny_model.config,
                start=str(tiny_model.folder),
                channel=channel,
                threads=1,
            )
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLUNET_HOME", str(tmp_path_factory.mktemp("home")))
        both, alone = trained("DAPI,GFP", "two"), trained("DAPI", "alone")
    return TwoChannels(folder=both.folder, data=data, trained=both, alone=alone)


@pytest.fixture
def quick_two(quick, tiny_model, tmp_path) -> Callable[..., TrainRequest]:
    """``quick_two(...)``: a blink of a training on two channels, from one."""
    data = write(tmp_path / "data", 4, first_seed=300)
    config = tiny_model.config.replace(epochs=2, steps_per_epoch=3)

    def make(**changes: object) -> TrainRequest:
        usual = {
            "config": config,
            "start": str(tiny_model.folder),
            "channel": "DAPI,GFP",
        }
        return quick(*changes.pop("data", (data,)), **usual | changes)

    return make


def labels_of(path: Path, two: TwoChannels, out: Path, **options: object) -> np.ndarray:
    config = PredictConfig(**options)
    done = predict([str(path)], out, model=two.model, threads=1, config=config)
    (result,) = done.images
    assert result.output is not None, result.message
    return tifffile.imread(result.output)


def refusal(path: Path, model: str, out: Path, **options: object) -> str:
    config = PredictConfig(**options)
    (result,) = predict([str(path)], out, model=model, threads=1, config=config).images
    assert result.status == "failed"
    return result.message


def test_a_second_channel_shows_what_the_first_does_not(two) -> None:
    scores, alone = two.trained.scores, two.alone.scores
    assert scores is not None
    assert alone is not None
    assert scores["f1_50"] > 0.8 > 0.7 > alone["f1_50"]
    assert two.trained.expected.gain.value > 0.1
    image, labels = drawn(7, (160, 160))
    model = load_model(two.model, threads=1)
    found, swapped = (
        model.segment(channels).labels > 0 for channels in (image, image[::-1])
    )
    truth = labels > 0
    assert (found & truth).sum() > 0.8 * (found | truth).sum()
    assert (swapped & truth).sum() < 0.6 * (swapped | truth).sum()


def test_the_card_remembers_the_channels(two, tiny_model) -> None:
    assert (two.card.channels, two.card.config.image_channels) == (NAMES, 2)
    assert two.card.config.network.in_channels == 4
    known = store.find_model(str(tiny_model.folder)).card
    assert (known.channels, known.config.image_channels) == ((), 1)
    assert set(known.training.values()) < set(two.card.training.values())


def test_a_start_that_nothing_is_gained_over_is_kept_as_it_was(
    quick_two, tiny_model, tmp_path, home
) -> None:
    # Nuclei that the start finds, and a rate at which nothing that it knew survives.
    data = write(tmp_path / "every nucleus", 4, first_seed=300)
    for number in range(4):
        _, every = draw_nuclei((64, 64), 8, 300 + number)
        path = data / "labels" / f"a{number}.tif"
        tifffile.imwrite(path, every.astype(np.uint16))
    spoiled = quick_two().config.replace(
        epochs=1, steps_per_epoch=5, learning_rate=30.0, warmup_steps=0
    )
    trained = train(quick_two(config=spoiled, data=(data,)))
    assert trained.kept_start
    image, _ = drawn(1, (90, 70))
    start = load_model(str(tiny_model.folder), threads=1)
    kept = load_model("quick", threads=1)
    assert kept.card.channels == NAMES
    expected = start.segment(image[0])
    found = kept.segment(image)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert expected.labels.max() > 0


def test_tiles_and_memory_change_no_label(two, tmp_path) -> None:
    path = save(tmp_path / "wide.ome.tif", drawn(7, (160, 700))[0])
    whole = labels_of(path, two, tmp_path / "whole")
    assert whole.max() > 10
    for name, options in {
        "tiles": {"tile_px": 64},
        "memory": {"max_memory_mb": 260},
        "named": {"channel": "DAPI,GFP"},
        "numbered": {"channel": "0,1"},
    }.items():
        found = labels_of(path, two, tmp_path / name, **options)
        np.testing.assert_array_equal(found, whole, err_msg=name)


def test_arrays_and_files_of_any_form_give_the_same(two, tmp_path) -> None:
    image, _ = drawn(8, (90, 70))
    model = load_model(two.model, threads=1)
    labels, table = model.segment(image)
    assert labels.max() > 0
    other, _ = drawn(9, (90, 70))
    three = np.stack([image[1], other[0], image[0]])
    save(tmp_path / "three.ome.tif", three, ("GFP", "RFP", "dapi"))
    stack = {"axes": "CYX", "Labels": list(NAMES)}
    tifffile.imwrite(tmp_path / "imagej.tif", image, imagej=True, metadata=stack)
    colors = np.stack([*image, other[0]], axis=-1)
    tifffile.imwrite(tmp_path / "rgb.tif", colors, photometric="rgb")
    for name, channel in {
        "three.ome.tif": None,
        "imagej.tif": None,
        "rgb.tif": "red,green",
    }.items():
        out = tmp_path / "out"
        found = labels_of(tmp_path / name, two, out, channel=channel, save=("table",))
        np.testing.assert_array_equal(found, labels, err_msg=name)
    header = (out / "three_table.csv").read_text().splitlines()[0]
    assert "intensity_mean_RFP" in header
    mean = [image[1][labels == k].mean() for k in table["id"]]
    np.testing.assert_allclose(table["intensity_mean_1"], mean)


def test_arrays_of_other_channels_are_refused(two) -> None:
    model = load_model(two.model, threads=1)
    for shape in ((64, 64), (1, 64, 64), (3, 64, 64), (64, 64, 2)):
        with pytest.raises(ImageReadError, match="2 channels are expected"):
            model.segment(np.zeros(shape, np.uint16))
    image = np.zeros((2, 64, 64), np.uint16)
    with pytest.raises(ImageReadError, match="a name other than '0', '1'"):
        model.segment(image, others={"1": image[0]})


@pytest.mark.parametrize(
    ("names", "channel", "message", "hint"),
    [
        (("Hoechst", "FITC"), None, "no channel was chosen", "--channel Hoechst,FITC"),
        (("", ""), None, "no channel was chosen", "training DAPI,GFP"),
        (("DAPI",), None, "has one channel, but", "as one OME-TIFF"),
        (NAMES, "DAPI", "DAPI alone is asked for", "--channel DAPI,GFP"),
        (("a", "b", "c"), "0,1,2", "3 channels are named", "--channel a,b"),
        (NAMES, "GFP,DAPI", "in this order", "--channel DAPI,GFP"),
    ],
)
def test_images_of_other_channels_are_refused_with_the_way_out(
    names, channel, message, hint, two, tmp_path
) -> None:
    image = np.stack([drawn(3)[0][0]] * len(names))
    path = save(tmp_path / "in.ome.tif", image, names)
    text = refusal(path, two.model, tmp_path / "out", channel=channel)
    assert message in text
    assert hint in text
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_by_number_channels_come_in_any_order(two, tmp_path) -> None:
    image, _ = drawn(3)
    path = save(tmp_path / "swapped.ome.tif", image[::-1])
    found = labels_of(path, two, tmp_path / "out", channel="1,0")
    expected = load_model(two.model, threads=1).segment(image).labels
    np.testing.assert_array_equal(found, expected)


def test_a_model_of_one_channel_is_shown_no_more(tiny_model, tmp_path) -> None:
    path = save(tmp_path / "in.ome.tif", drawn(3)[0])
    model = str(tiny_model.folder)
    text = refusal(path, model, tmp_path / "out", channel="DAPI,GFP")
    assert "2 channels are named (DAPI, GFP)" in text
    assert "Try: --channel DAPI." in text


def test_engines_agree_and_ranges_are_of_both_channels(two, tmp_path) -> None:
    image, _ = drawn(8, (90, 70))
    onnx, torch = (
        load_model(two.model, engine=name, threads=1).segment(image).labels
        for name in ("onnxruntime", "torch")
    )
    assert (onnx != torch).mean() < 1e-3
    copied = tmp_path / "copied"
    shutil.copytree(two.folder, copied)
    found = []
    # It is calibrated on what it is shown: swapped channels give other ranges.
    for channel in (None, "1,0"):
        calibrate(
            str(copied),
            [str(two.data / "images")],
            channel=channel,
            threads=1,
            overwrite=True,
        )
        found.append(store.find_model(str(copied)).card.int8_ranges)
    assert found[0] != found[1]


def test_images_that_made_it_are_known_by_all_channels(
    two, tiny_model, tmp_path
) -> None:
    data = write(tmp_path / "data", 2, first_seed=500)
    for name in ("a0.ome.tif", "a1.ome.tif"):
        shutil.copy(two.data / "images" / name, data / "images" / f"b{name}")
    for name in ("a0.tif", "a1.tif"):
        shutil.copy(two.data / "labels" / name, data / "labels" / f"b{name}")
    found = evaluate_model(data, model=two.model, threads=1)
    assert found.unseen is not None
    assert set(found.unseen.names) == {"a0", "a1"}
    # What the start was trained on made this model, whatever else is shown of it.
    seen = tifffile.imread(tiny_model.data / "images" / "a0.tif")
    save(data / "images" / "a0.ome.tif", np.stack([seen, drawn(0)[0][1]]))
    found = evaluate_model(data, model=two.model, threads=1)
    assert set(found.unseen.names) == {"a1"}


def test_a_stopped_training_goes_on_with_its_channels(quick_two) -> None:
    whole = train(quick_two(name="whole", split=FOLDS))
    stopped = train(quick_two(split=FOLDS), stop_at(13))
    assert not stopped.finished
    resumed = train(quick_two(split=FOLDS, channel=None, resume=True))
    ours, theirs = (
        (t.folder / store.WEIGHTS_FILE).read_bytes() for t in (resumed, whole)
    )
    assert ours.replace(b"quick", b"whole") == theirs


def test_resuming_with_other_channels_is_refused(quick_two) -> None:
    train(quick_two(), stop_at(3))
    with pytest.raises(ConfigError, match=r"other settings \(channel\)"):
        train(quick_two(channel="DAPI", resume=True))


def test_from_scratch_and_on_from_two_channels(quick_two, two, home) -> None:
    trained = train(quick_two(start="scratch", channel="1,0", name="scratch"))
    card = store.find_model("scratch").card
    assert trained.finished
    assert (card.channels, card.config.image_channels) == (("GFP", "DAPI"), 2)
    # Its channels are found by name, none need be named.
    train(quick_two(start=two.model, channel=None, name="on"))
    card = store.find_model("on").card
    assert (card.channels, card.config.image_channels) == (NAMES, 2)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"channel": "DAPI"}, r"looks at 2 channels \(DAPI, GFP\)", "--from scratch"),
        ({"channel": "GFP,DAPI"}, "in this order", "--channel DAPI,GFP"),
        (
            {"start": "scratch", "config": PRESETS["classic"], "channel": "DAPI,GFP"},
            "classic looks at one channel",
            "Leave out --preset",
        ),
    ],
)
def test_starts_that_do_not_fit_are_refused(
    changes, message, hint, quick_two, two
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(quick_two(**{"start": two.model} | changes))
    assert hint in caught.value.hint


def test_an_image_is_a_copy_if_all_its_channels_are(quick_two, tmp_path) -> None:
    data = write(tmp_path / "copies", 3, first_seed=400)
    first = data / "images" / "a0.ome.tif"
    image = tifffile.imread(first)
    save(data / "images" / "a1.ome.tif", np.stack([image[0], drawn(9)[0][1]]))
    train(quick_two(data=(data,), split=FOLDS, name="apart"))
    shutil.copy(first, data / "images" / "a1.ome.tif")
    with pytest.raises(InputError, match="a0 = a1"):
        train(quick_two(data=(data,), split=FOLDS, name="copies"))


def test_files_that_call_channels_differently_are_told(quick_two, tmp_path) -> None:
    data = write(tmp_path / "named", 3, first_seed=400)
    save(data / "images" / "a0.ome.tif", drawn(400)[0], ("GFP", "DAPI"))
    notes: list[str] = []
    train(quick_two(data=(data,), channel="0,1"), Hooks(on_note=notes.append))
    assert any("DAPI, GFP in 2; GFP, DAPI in 1" in note for note in notes)
    # By no name can they be found, then.
    assert store.find_model("quick").card.channels == ("0", "1")


def test_a_learning_curve_begins_with_the_widened_start(quick_two, tmp_path) -> None:
    config = quick_two().config.replace(epochs=1, steps_per_epoch=2)
    request = quick_two(config=config, split=FOLDS)
    curve = learning_curve(request, tmp_path / "out", Hooks())
    assert [p.images for p in curve.points][:2] == [0, 1]


def crops_of(path: Path, out: Path, **changes: object) -> Path:
    usual = {"config": SuggestConfig(crops=2, side_px=64), "threads": 1}
    suggest(SuggestRequest(images=(str(path),), out=out, **usual | changes))
    return out


@pytest.mark.parametrize("channel", ["DAPI,GFP", "2,0", None])
def test_suggested_crops_hold_every_channel(
    channel, two, tiny_model, quick_two, tmp_path
) -> None:
    image, labels = drawn(11, (200, 200))
    three = np.stack([image[1], drawn(12, (200, 200))[0][0], image[0]])
    field = tmp_path / "fields" / "images" / "f.ome.tif"
    save(field, three, ("GFP", "RFP", "DAPI"))
    model = two.model if channel is None else str(tiny_model.folder)
    out = crops_of(field, tmp_path / "out", model=model, channel=channel)
    for path in sorted((out / "images").iterdir()):
        y, x = (int(part[1:]) for part in path.stem.split("_")[-2:])
        pixels = tifffile.imread(path)
        np.testing.assert_array_equal(pixels, image[:, y : y + 64, x : x + 64])
    # They are training data, alone and beside the field that they are of.
    (tmp_path / "fields" / "labels").mkdir()
    tifffile.imwrite(tmp_path / "fields" / "labels" / "f.tif", labels)
    start = two.model if channel is None else str(tiny_model.folder)
    asked = {"channel": channel, "start": start, "split": FOLDS}
    train(quick_two(data=(out, tmp_path / "fields"), **asked))


def test_crops_are_scaled_as_their_field_in_every_channel(two, tmp_path) -> None:
    field = save(tmp_path / "f.ome.tif", drawn(11, (200, 200))[0])
    out = crops_of(field, tmp_path / "out", model=two.model)
    files = [field, *(out / "images").iterdir()]
    for config in (NormalizationConfig(), NormalizationConfig(invert=True)):
        found = set()
        for path in files:
            with open_image(path, known=NAMES) as source:
                found.add(plane_statistics(source, 0, 16, config))
        (both,) = found
        assert both[0] != both[1]


def test_no_crops_are_suggested_of_images_that_lack_a_channel(two, tmp_path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", drawn(3)[0][0])
    with pytest.raises(CellunetError, match="looks at 2 channels at once"):
        crops_of(tmp_path / "one.tif", tmp_path / "out", model=two.model)


def test_a_channel_of_nothing_finite_is_not_trained_on(quick_two, tmp_path) -> None:
    data = write(tmp_path / "nan", 2, first_seed=400)
    image = drawn(400)[0].astype(np.float32)
    image[1] = np.nan
    save(data / "images" / "a0.ome.tif", image)
    with pytest.raises(ImageReadError, match=r"a0\.ome\.tif.* no finite pixel"):
        train(quick_two(data=(data,)))
