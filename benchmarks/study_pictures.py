"""Draw the pictures of docs/study.md, and print the figures of its tables.

    python benchmarks/study_pictures.py training-set DATA --out FOLDER
    python benchmarks/study_pictures.py fields DATA
    python benchmarks/study_pictures.py network
    python benchmarks/study_pictures.py weights DATA
    python benchmarks/study_pictures.py curves --model NAME
    python benchmarks/study_pictures.py classes DATA --model NAME [--boundary NAME]
    python benchmarks/study_pictures.py class-scores DATA --model NAME [--boundary NAME]
    python benchmarks/study_pictures.py instances DATA --model NAME [--boundary NAME]
    python benchmarks/study_pictures.py scores DATA --model NAME [--boundary NAME]
    python benchmarks/study_pictures.py mosaic DATA --model NAME

A model may be a training that is not finished: then it is the best epoch so far, with
the decode constants that it began with (`mosaic` needs a finished one).
DATA holds `bbbc039`. `training-set` copies its 100 official training images with their
masks: what the models of the study are trained on, 80 of them, and stopped by, the
other 20. All others show or score the 50 official validation images.
"""

from __future__ import annotations

import argparse
import csv
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import few_labels
import numpy as np
import tables
import torch
from accuracy import by_model, by_otsu, measured, otsu_watershed
from operations import operations_per_pixel
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import center_of_mass
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label

from cellunet import store
from cellunet.core.checkpoint import load_network, load_state, read_state
from cellunet.core.dataset import prepare
from cellunet.core.device import TorchEngine, choose_device
from cellunet.core.trainer import Trainer
from cellunet.core.unet import UNet
from cellunet.imaging.decode import decode_plane
from cellunet.imaging.targets import INTERIOR, encode, weight_map
from cellunet.metrics.matching import match, overlaps
from cellunet.outputs import charts
from cellunet.outputs.pictures import TRUTH, color_objects, outlines, stretch
from cellunet.presets import PRESETS, for_target
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.train.data import ChannelChoice, read_sample
from cellunet.tasks.train.finish import truth_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from cellunet.annotations.pairs import Pair
    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Sample

    Options = argparse.Namespace
    Panel = tuple[str, np.ndarray]
    Slots = dict[str, tuple[slice, slice]]

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
COLORS = {
    "three-class": np.array([(30, 30, 30), (0, 114, 178), (230, 159, 0)], np.uint8),
    "boundary": np.array([(30, 30, 30), (230, 159, 0)], np.uint8),
}
"""Of the classes, in the order of their numbers."""
TITLE_PX, GAP_PX = 22, 6
COLUMNS = 7
"""Of the mosaic, and its rows."""
UPPER_ROWS = 20
"""At the top of a field, where nuclei are dimmer."""
VIEW_PX = 160
"""Side of the parts of it that are shown."""
ARROWS = {
    "#333333": "two 3 x 3 convolutions, each with batch normalization and ReLU",
    "#0072b2": "2 x 2 maximum, then the same",
    "#d55e00": "2 x 2 transposed convolution, joined with the copy, then the same",
    "#888888": "copy",
    "#009e73": "1 x 1 convolution",
}
"""What the arrows of the network mean, by color."""
FOUND, MISSED = (0, 114, 178), (213, 94, 0)


def validation(options: Options) -> list[Pair]:
    return few_labels.sample_of(options.data, few_labels.BBBC039).held


def sample_of(options: Options, start: str) -> Sample:
    """Return the validation image whose name begins so."""
    (pair,) = [p for p in validation(options) if p.name.startswith(f"IXMtest_{start}_")]
    return read_sample(pair, ChannelChoice())


def sheet(rows: Sequence[Sequence[Panel]], width: int) -> Image.Image:
    """Return rows of panels with a title each, every panel `width` pixels wide."""
    font = ImageFont.load_default(14)
    drawn = []
    for row in rows:
        height = max(round(width * p.shape[0] / p.shape[1]) for _, p in row)
        strip = Image.new(
            "RGB", ((width + GAP_PX) * len(row), height + TITLE_PX + GAP_PX), "white"
        )
        for number, (title, panel) in enumerate(row):
            x = number * (width + GAP_PX)
            size = (width, round(width * panel.shape[0] / panel.shape[1]))
            larger = panel.shape[1] < width
            way = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
            strip.paste(Image.fromarray(panel).resize(size, way), (x, TITLE_PX))
            ImageDraw.Draw(strip).text((x, 2), title, fill="black", font=font)
        drawn.append(np.asarray(strip))
    return Image.fromarray(np.vstack(drawn))


def outlined(image: np.ndarray, labels: np.ndarray, width: int) -> np.ndarray:
    """Return an image with the outlines of objects, one pixel wide at `width`."""
    size = (width, round(width * image.shape[0] / image.shape[1]))
    gray = Image.fromarray(stretch(image)).resize(size, Image.Resampling.BICUBIC)
    large = Image.fromarray(labels.astype(np.int32)).resize(
        size, Image.Resampling.NEAREST
    )
    rgb = np.array(gray.convert("RGB"))
    rgb[outlines(np.asarray(large))] = TRUTH
    return rgb


def save(picture: Image.Image, name: str) -> None:
    """Write a picture in 256 colors."""
    picture.quantize(256).save(PICTURES / f"{name}.png", optimize=True)


def save_chart(figure: Any, name: str, title: str) -> None:  # noqa: ANN401
    text = charts.svg(figure, title)
    (PICTURES / f"{name}.svg").write_text(text, encoding="utf-8")


def training_set(options: Options) -> None:
    """Copy the 100 official training images with their masks."""
    sample = few_labels.sample_of(options.data, few_labels.BBBC039)
    few_labels.write_subset(options.out, sample.training)


def fields(options: Options) -> None:
    """Draw parts of three fields and their annotation."""
    panels = []
    for start, view, title in (
        ("N12_s7", np.s_[20:170, 420:620], "N12 site 7: a bright nucleus"),
        ("E06_s3", np.s_[20:170, 380:580], "E06 site 3: debris is annotated"),
        ("L11_s4", np.s_[330:480, 180:380], "L11 site 4: a bright artifact"),
    ):
        sample = sample_of(options, start)
        drawn = outlined(sample.image[0][view], sample.labels[view], 420)
        panels.append((title, drawn))
    save(sheet([panels], 420), "study-fields")


def shapes_of(config: TrainConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape (channels, Y, X) of what each part of a network returns."""
    found: dict[str, tuple[int, ...]] = {}
    with torch.device("meta"):
        network = UNet(config.network)
        parts: dict[str, torch.nn.Module] = {"in 0": network.stem, "head": network.head}
        parts |= {f"in {i + 1}": part for i, part in enumerate(network.down)}
        coarsest = len(network.merge)
        parts |= {f"out {coarsest - 1 - i}": p for i, p in enumerate(network.merge)}
        for name, part in parts.items():
            part.register_forward_hook(
                lambda _, __, out, name=name: found.update({name: tuple(out.shape[1:])})
            )
        network(
            torch.empty(1, config.network.in_channels, config.crop_px, config.crop_px)
        )
    return found


def network(options: Options) -> None:
    """Draw the U-Net of the study from its modules: levels, channels, sizes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    config = PRESETS["classic"]
    shapes = shapes_of(config)
    levels = len(config.network.channels)
    weights = sum(p.numel() for p in UNet(config.network).parameters())
    kflop = operations_per_pixel(config.network) / 1000
    with mpl.rc_context(charts.SETTINGS):
        figure = Figure(figsize=(11, 1 + 0.9 * levels), layout="constrained")
        axes = figure.subplots()
        size = f"{config.network.in_channels} x {config.crop_px} x {config.crop_px}"
        place(axes, -0.3, 0, f"image\n{size}", "#e5e5e5")
        for level in range(levels):
            place(axes, 1 + level, level, words(shapes, f"in {level}"), "#9fd0ee")
            if level < levels - 1:
                right = 2 * levels - 1 - level
                place(axes, right, level, words(shapes, f"out {level}"), "#f5d08a")
                arrow(axes, (1 + level, level), (right, level), "#888888")
                arrow(axes, (1 + level, level), (2 + level, level + 1), "#0072b2")
                arrow(axes, (right - 1, level + 1), (right, level), "#d55e00")
        place(axes, 2 * levels + 0.3, 0, f"classes\n{words(shapes, 'head')}", "#e5e5e5")
        arrow(axes, (-0.3, 0), (1, 0), "#333333")
        arrow(axes, (2 * levels - 1, 0), (2 * levels + 0.3, 0), "#009e73")
        axes.set(xlim=(-0.9, 2 * levels + 0.9), ylim=(levels + 0.1, -0.6))
        axes.set_title(f"{weights:,} weights, {kflop:,.0f} kFLOP per pixel")
        axes.axis("off")
        for row, (color, text) in enumerate(ARROWS.items()):
            height = levels - 1.1 + 0.25 * row
            axes.text(-0.5, height, f"\u2192  {text}", color=color, fontsize=9)
    save_chart(figure, "study-unet", "U-Net")


def words(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return " x ".join(map(str, shapes[name]))


def place(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    box = {"boxstyle": "round", "facecolor": color, "edgecolor": "none"}
    axes.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str
) -> None:
    level = start[1] == end[1]
    style = {"arrowstyle": "->", "color": color, "shrinkB": 44 if level else 14}
    axes.annotate("", end, start, arrowprops=style, zorder=1)


def weights(options: Options) -> None:
    """Draw touching nuclei, both targets, and the weight map of the loss."""
    from matplotlib import colormaps

    config = PRESETS["classic"]
    sample = sample_of(options, "K12_s7")
    view = np.s_[250:370, 205:325]
    image, labels = sample.image[0][view], sample.labels
    classes = {t: encode(labels, for_target(config, t).encoding) for t in COLORS}
    map_ = weight_map(labels, classes["three-class"], config.weights)[view]
    colored = colormaps["viridis"](map_ / map_.max(), bytes=True)[..., :3]
    panels = [
        ("image and annotation", outlined(image, labels[view], 310)),
        ("three classes", COLORS["three-class"][classes["three-class"][view]]),
        ("boundary alone", COLORS["boundary"][classes["boundary"][view]]),
        (f"weights, {map_.min():.0f} (dark) to {map_.max():.1f}", colored),
    ]
    save(sheet([panels], 310), "study-weights")


def curves(options: Options) -> None:
    """Draw loss, precision and recall of a training, both sides, from its history."""
    with (store.model_folder(options.model) / "history.csv").open() as file:
        history = [
            {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)
        ]
    names = [
        k.removeprefix("train_recall_") for k in history[0] if "train_recall_" in k
    ]
    figure = charts.learning_curves(history, names)
    save_chart(figure, f"study-curves-{options.model}", "Learning curves")


@cache
def network_of(name: str) -> tuple[UNet, TrainConfig]:
    """Return the network of a model, or the best so far of a training that goes on."""
    device = choose_device("cpu")
    state = store.model_folder(name) / store.STATE_FILE
    if not state.is_file():
        model = store.find_model(name)
        return load_network(model.weights), model.card.config
    config = store.read_config(read_state(state)["config"])
    best = load_state(state, config, device)
    print(f"{name}: not finished, epoch {best.best_epoch + 1} of {config.epochs}")
    return best.best.eval(), config


def predicted(name: str, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return the class probabilities (KYX) of a sample, and the labels they make."""
    network, config = network_of(name)
    engine = TorchEngine(network, choose_device("cpu"))
    truth = truth_of(engine, prepare(sample, config), config)
    found = truth.probabilities.astype(np.float32)
    return found, decode_plane(found, config.encoding, config.decode)


def classes(options: Options) -> None:
    """Draw true and predicted classes of both targets."""
    rows = []
    for start, view in (
        ("K12_s7", np.s_[150:400, 200:450]),
        ("L11_s4", np.s_[270:520, 100:350]),
    ):
        sample = sample_of(options, start)
        row: list[Panel] = [("image", stretch_rgb(sample.image[0][view]))]
        for name in models_of(options):
            _, config = network_of(name)
            target = config.encoding.target
            true = encode(sample.labels, config.encoding)
            found = predicted(name, sample)[0].argmax(0)
            row.append((f"{target}: true", COLORS[target][true[view]]))
            row.append((f"{target}: predicted", COLORS[target][found[view]]))
        rows.append(row)
    save(sheet(rows, 250), "study-classes")


def stretch_rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(stretch(image)[..., None], 3, 2)


def class_scores(options: Options) -> None:
    """Print precision and recall of each class on the validation images."""
    lines = []
    for model in models_of(options):
        network, config = network_of(model)
        held = [
            prepare(read_sample(pair, ChannelChoice()), config)
            for pair in validation(options)
        ]
        trainer = Trainer(held[:1], held, config, choose_device("cpu"))
        tally = trainer.validate(network)
        assert tally is not None  # noqa: S101
        summary = tally.summary("", config.encoding.classes)
        for name in config.encoding.classes:
            values = (summary[f"_{what}_{name}"] for what in ("precision", "recall"))
            lines.append([f"`{model}`", name, *(f"{v:.3f}" for v in values)])
    print(tables.table(["model", "class", "precision", "recall"], lines))


def models_of(options: Options) -> list[str]:
    return [options.model, options.boundary] if options.boundary else [options.model]


def decoders(options: Options) -> dict[str, Callable[[Sample], np.ndarray]]:
    """Return the ways from an image to instances, by name."""
    ways: dict[str, Callable[[Sample], np.ndarray]] = {
        "interior, connected": lambda s: interiors(options.model, s),
        "three classes, decoded": lambda s: predicted(options.model, s)[1],
    }
    if options.boundary:
        ways["boundary alone, decoded"] = lambda s: predicted(options.boundary, s)[1]
    return ways | {
        "Otsu, connected": lambda s: connected(s.image[0]),
        "Otsu and watershed": lambda s: otsu_watershed(s.image[0]),
    }


def instances(options: Options) -> None:
    """Draw the instances that each decoder makes of one field."""
    sample = sample_of(options, "K12_s7")
    view = np.s_[150:320, 230:400]
    drawn = {"annotation": sample.labels}
    drawn |= {name: way(sample) for name, way in decoders(options).items()}
    panels = [
        (name, color_objects(one[view], image=sample.image[0][view]))
        for name, one in drawn.items()
    ]
    save(sheet([panels[:3], panels[3:]], 340), "study-instances")


def scores(options: Options) -> None:
    """Print the scores of each decoder on the validation images."""
    found = {}
    for name, way in decoders(options).items():
        found[name] = measured(
            validation(options),
            lambda pair, way=way: way(read_sample(pair, ChannelChoice())),
        )
    print(score_table(found))


def interiors(model: str, sample: Sample) -> np.ndarray:
    """Return the connected regions in which interior is the likeliest class."""
    return label(predicted(model, sample)[0].argmax(0) == INTERIOR, connectivity=1)


def connected(plane: np.ndarray) -> np.ndarray:
    smooth = gaussian(plane.astype(np.float32), 1)
    return label(smooth > threshold_otsu(smooth), connectivity=1)


def score_table(by_name: dict[str, dict[str, Any]]) -> str:
    columns = {
        "mean_ap": "mean AP",
        "f1_50": "F1 at .50",
        "average_f1": "average F1",
        "missed": "missed",
        "extra": "extra",
        "merges": "merges",
        "splits": "splits",
    }
    lines = []
    for name, found in by_name.items():
        values = [found[key] for key in columns]
        cells = [f"{v[0]:.3f}" if isinstance(v, list) else f"{v:,}" for v in values]
        lines.append([name, *cells])
    return tables.table(["", *columns.values()], lines)


def mosaic(options: Options) -> None:
    """Segment 49 fields as one image, draw what is missed, and print the scores."""
    pairs = validation(options)[: COLUMNS**2]
    samples = [read_sample(pair, ChannelChoice()) for pair in pairs]
    image = tiled([sample.image[0] for sample in samples])
    true = tiled([s.labels + 1000 * i * (s.labels > 0) for i, s in enumerate(samples)])
    found = {
        "Otsu and watershed, mosaic": otsu_watershed(image),
        f"{options.model}, mosaic": load_model(options.model).segment(image).labels,
    }
    height, width = samples[0].labels.shape
    slots = {
        pair.name: np.s_[y : y + height, x : x + width]
        for pair, y, x in zip(
            pairs,
            np.repeat(np.arange(COLUMNS) * height, COLUMNS),
            np.tile(np.arange(COLUMNS) * width, COLUMNS),
            strict=True,
        )
    }
    figures = {
        name: measured(pairs, lambda p, one=one: one[slots[p.name]])
        for name, one in found.items()
    }
    figures |= {
        "Otsu and watershed, field by field": measured(pairs, by_otsu),
        f"{options.model}, field by field": measured(
            pairs, by_model(options.model, flips=False)
        ),
    }
    print(score_table(figures))
    for sample in samples:
        threshold = threshold_otsu(gaussian(sample.image[0].astype(np.float32), 1))
        objects = otsu_watershed(sample.image[0]).max()
        annotated = len(np.unique(sample.labels)) - 1
        print(sample.name[:16], f"threshold {threshold:.0f}, {objects} of {annotated}")
    lost = {name: matched(true, one) for name, one in found.items()}
    print_reasons(image, true, lost["Otsu and watershed, mosaic"])
    overview = [(name, outcome(image, true, one)) for name, one in lost.items()]
    save(sheet([overview], 600), "study-mosaic")
    save(sheet(failures(image, true, found, slots), 280), "study-mosaic-failures")


def tiled(planes: Sequence[np.ndarray]) -> np.ndarray:
    rows = [planes[i : i + COLUMNS] for i in range(0, len(planes), COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])


def matched(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the numbers of the true objects that are found at an IoU of .50."""
    pairs = overlaps(true, found, annotated=None)
    return pairs.true_ids[pairs.pair_true[match(pairs, 10)]]


def outcome(image: np.ndarray, true: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return true objects, found or missed, over the image."""
    rgb = stretch_rgb(image)
    rgb[true > 0] = MISSED
    rgb[np.isin(true, kept)] = FOUND
    return rgb


def print_reasons(image: np.ndarray, true: np.ndarray, kept: np.ndarray) -> None:
    """Print how many missed objects are dim, small, at a seam, or touch another."""
    smooth = gaussian(image.astype(np.float32), 1)
    threshold = threshold_otsu(smooth)
    ids, place = np.unique(true, return_inverse=True)
    place = place.reshape(true.shape)
    area = np.bincount(place.ravel())
    rows = np.arange(len(true)) % (len(true) // COLUMNS)
    row = np.bincount(place.ravel(), np.repeat(rows, true.shape[1])) / area
    above = np.bincount(place.ravel(), smooth.ravel() > threshold) / area
    lost = ~np.isin(ids, [0, *kept])
    dim = above < 0.5
    upper = (row < UPPER_ROWS) & (ids > 0)
    other, seam = lost & ~dim, np.isin(ids, at_seams(true))
    touching = np.isin(ids, touching_others(true))
    for words, which in {
        "missed": lost,
        "missed, more than half below the threshold": lost & dim,
        f"of them in the upper {UPPER_ROWS} rows of a field": lost & dim & upper,
        "of them under 25 px": lost & dim & (area < 25),
        f"all in the upper {UPPER_ROWS} rows": upper,
        "found, more than half below the threshold": ~lost & dim & (ids > 0),
        "missed, not dim": other,
        "of them at a seam": other & seam,
        "of them touching another, not at a seam": other & touching & ~seam,
    }.items():
        print(f"threshold {threshold:.0f}, {words}: {which.sum():,}")


def at_seams(true: np.ndarray) -> np.ndarray:
    """Return the numbers of the objects that reach the edge of a field."""
    found = []
    for lines in (true, true.T):
        fields = lines.reshape(COLUMNS, -1, lines.shape[1])
        found.append(np.unique(fields[:, [0, -1]]))
    return np.unique(np.concatenate(found))


def touching_others(true: np.ndarray) -> np.ndarray:
    """Return the numbers of the objects with another one beside a pixel of theirs."""
    found = []
    for lines in (true, true.T):
        a, b = lines[1:], lines[:-1]
        beside = (a != b) & (a > 0) & (b > 0)
        found += [a[beside], b[beside]]
    return np.unique(np.concatenate(found))


def failures(
    image: np.ndarray, true: np.ndarray, found: dict[str, np.ndarray], slots: Slots
) -> list[list[Panel]]:
    """Return where the threshold misses most in three fields: a row of panels each."""
    thresholded = next(iter(found.values()))
    rows = []
    for start, why in (
        ("G22_s5", "dim field"),
        ("K12_s7", "touching nuclei"),
        ("N18_s2", "haze"),
    ):
        (slot,) = [
            s for name, s in slots.items() if name.startswith(f"IXMtest_{start}_")
        ]
        own = true[slot]
        lost = np.setdiff1d(own, [0, *matched(own, thresholded[slot])])
        centers = np.array(center_of_mass(own > 0, own, lost))
        views = [
            np.s_[y : y + VIEW_PX, x : x + VIEW_PX]
            for y in range(0, own.shape[0] - VIEW_PX, 20)
            for x in range(0, own.shape[1] - VIEW_PX, 20)
        ]
        view = max(views, key=lambda view: held(centers, view))
        row = [(f"{why}: annotation", true), *found.items()]
        panels = [(name, one[slot][view]) for name, one in row]
        shown = image[slot][view]
        rows.append([(name, color_objects(one, image=shown)) for name, one in panels])
    return rows


def held(centers: np.ndarray, view: tuple[slice, slice]) -> int:
    """Return how many points lie in a view."""
    low, high = ([getattr(part, end) for part in view] for end in ("start", "stop"))
    return int(((centers >= low) & (centers < high)).all(1).sum())


FIGURES: dict[str, Callable[[Options], None]] = {
    "training-set": training_set,
    "fields": fields,
    "network": network,
    "weights": weights,
    "curves": curves,
    "classes": classes,
    "class-scores": class_scores,
    "instances": instances,
    "scores": scores,
    "mosaic": mosaic,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--model", default="nuclei", help="of three classes")
    parser.add_argument("--boundary", help="of boundaries alone")
    parser.add_argument("--out", type=Path, help="of the training set")
    options = parser.parse_args()
    FIGURES[options.figure](options)


if __name__ == "__main__":
    main()
