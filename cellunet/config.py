"""All settings and all defaults: one frozen dataclass per concern.

This is the only home of a default value. The command line takes its defaults from
here and core functions take a configuration whole. Standard library only, so that
``cellunet --help`` stays quick.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from cellunet.errors import ConfigError, choose

Target = Literal["three-class", "boundary"]

Side = Literal["inner", "outer"]

FOREGROUND_LIMIT = 2.0
"""In fields of U2OS nuclei (BBBC039) the range is 1.25 to 1.72 times the contrast of
the foreground (5th and 95th percentile of 147), and 5.9 and 6.3 times in the two that
show bright dirt."""

TARGET: Target = "three-class"
"""What a network learns where nothing else is asked for."""

MODEL = "nuclei"
"""The model that ships."""

SCRATCH = "scratch"
"""Where training may start from instead of a model: random weights."""

FEW_IMAGES = 20
"""Up to so many annotated images, and without any that are set aside for validation,
a training that starts from a model takes the preset ``few``."""

FOLDS = 3
"""Parts that few images are dealt into; two images, or the halves of one, make two."""

ENGINE: Literal["auto"] = "auto"
"""ONNX Runtime on a CPU, torch on CUDA and MPS."""

DEVICE = "auto"
"""CUDA, else MPS, else CPU."""

THREADS = 0
"""CPU threads; 0: all usable cores."""

PROTOCOL = "standard"
"""How predictions are scored."""

PROTOCOLS = ("standard", "caicedo2019")
"""Rows of `cellunet.metrics.matching.PROTOCOLS`, which needs numpy."""

ANNOTATION_KIND = "auto"
"""How annotations are read, a row of `cellunet.annotations.read.ANNOTATIONS`."""


class Config:
    """Round trip through plain dictionaries, for headers of weights and run files."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as nested dictionaries and lists."""
        return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(self)))  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict` output; unknown keys are refused by name.

        Raises
        ------
        ConfigError
            If a key is unknown, a value has the wrong type or a check fails.
        """
        hints = typing.get_type_hints(cls)
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no setting {', '.join(map(repr, unknown))}.",
                hint=f"Known: {', '.join(sorted(known))}.",
            )
        built = {
            k: _typed(v, hints[k], f"{cls.__name__}.{k}") for k, v in values.items()
        }
        return cls(**built)

    def replace(self, **changes: Any) -> Self:  # noqa: ANN401
        """Return a copy with some settings changed, checks included."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _typed(value: Any, hint: Any, where: str) -> Any:  # noqa: ANN401
    """Return `value` as the type that `hint` names, or raise ConfigError."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Config):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r}; a group of settings is expected.")
        return hint.from_dict(value)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [a for a in args if a is not type(None)]
        return _typed(value, rest[0], where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(
                f"{where} is {value!r}.", hint=f"Known: {', '.join(map(str, args))}."
            )
        return value
    if origin is tuple:
        return _typed_tuple(value, args, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}; {hint.__name__} is expected.")
    return value


def _typed_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} is {value!r}; a list is expected.")
    variadic = len(args) == 2 and args[1] is Ellipsis
    if not variadic and len(value) != len(args):
        raise ConfigError(f"{where} has {len(value)} values, {len(args)} expected.")
    kinds = [args[0]] * len(value) if variadic else list(args)
    return tuple(_typed(v, k, where) for v, k in zip(value, kinds, strict=True))


def _check(ok: bool, message: str, hint: str = "") -> None:
    if not ok:
        raise ConfigError(message, hint=hint)


@dataclass(frozen=True, kw_only=True)
class NormalizationConfig(Config):
    """How intensities become the network's float32 input."""

    kind: Literal["percentile", "standard"] = "percentile"
    """``percentile``: two channels, linear and logarithmic, between two percentiles
    of the whole image. ``standard``: one channel of zero mean and unit variance."""
    low_percentile: float = 1.0
    """Percentile of the image mapped to 0."""
    high_percentile: float = 99.8
    """Percentile of the image mapped to 1."""
    noise_floor: float = 24.0
    """The range mapped to 0..1 is at least this many standard deviations of the pixel
    noise, so that an empty field does not become a field of amplified noise."""
    foreground_limit: float = FOREGROUND_LIMIT
    """The range mapped to 0..1 is at most this many times the contrast of the
    foreground, so that bright dirt does not dim all else; 0: no limit."""
    invert: bool = False
    """Dark objects on a bright background: what is scaled is the negative image."""

    def __post_init__(self) -> None:
        _check(
            0 <= self.low_percentile < self.high_percentile <= 100,
            f"Percentiles {self.low_percentile} and {self.high_percentile} do not rise "
            "within 0 to 100.",
        )
        _check(self.noise_floor >= 0, f"noise_floor is {self.noise_floor}, below 0.")
        _check(
            self.foreground_limit == 0 or self.foreground_limit >= 1,
            f"foreground_limit is {self.foreground_limit}, neither 0 nor 1 or more.",
        )

    @property
    def needs_foreground(self) -> bool:
        """Whether images are scaled by the contrast of their foreground."""
        return self.kind == "percentile" and self.foreground_limit > 0

    @property
    def channels(self) -> int:
        """Network input channels made from one image channel."""
        return 2 if self.kind == "percentile" else 1


@dataclass(frozen=True, kw_only=True)
class EncodingConfig(Config):
    """How instance labels become a class map."""

    target: Target = "three-class"
    """``three-class``: 0 background, 1 interior, 2 boundary. ``boundary``: 0 rest,
    1 boundary."""
    boundary_side: Side = "inner"
    """``inner``: the boundary lies on the object's own pixels. ``outer``: on the
    background around it. Pixels next to another label are boundary either way."""
    boundary_px: int = 2
    """Thickness of the boundary in pixels."""

    def __post_init__(self) -> None:
        _check(
            1 <= self.boundary_px <= 8,
            f"boundary_px is {self.boundary_px}; 1 to 8 pixels are possible.",
        )
        _check(
            self.target != "boundary" or self.boundary_side == "inner",
            "The boundary target needs boundary_side 'inner'.",
            hint="Only an inner boundary says on which side of it the object lies.",
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        if self.target == "three-class":
            return ("background", "interior", "boundary")
        return ("rest", "boundary")


@dataclass(frozen=True, kw_only=True)
class WeightConfig(Config):
    """How much each pixel counts in the loss (Ronneberger et al. 2015, eq. 2)."""

    class_weights: tuple[float, ...] = (1.0, 1.0, 3.0)
    """One weight per class, in the order of the class numbers."""
    border_weight: float = 10.0
    """w0: the added weight where two objects touch; 0 switches the border map off."""
    border_sigma_px: float = 5.0
    """sigma: how quickly the border weight falls off, in pixels."""
    small_object_px: float = 0.0
    """Objects of fewer pixels, and what lies close around them, count for more: by
    sqrt(small_object_px / area). 0, which scored better (`docs/experiments.md`),
    switches it off."""
    small_object_gain: float = 4.0
    """By how much they count for more at most."""

    def __post_init__(self) -> None:
        _check(
            all(w > 0 for w in self.class_weights),
            f"class_weights are {self.class_weights}; each must be above 0.",
        )
        _check(
            self.border_weight >= 0, f"border_weight is {self.border_weight}, below 0."
        )
        _check(
            self.border_sigma_px > 0,
            f"border_sigma_px is {self.border_sigma_px}; it must be above 0.",
        )
        _check(
            self.small_object_px >= 0,
            f"small_object_px is {self.small_object_px}, below 0.",
        )
        _check(
            self.small_object_gain >= 1,
            f"small_object_gain is {self.small_object_gain}, below 1.",
        )


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(Config):
    """How class probabilities become instance labels; travels with the model."""

    class_odds: tuple[float, ...] = (1.0, 1.0, 3.0)
    """a_c: by how much the weighted loss multiplied the odds of each class. The decoder
    divides by it: p_c is proportional to q_c / a_c."""
    seed_threshold: float = 0.4
    """Corrected probability of interior above which a pixel seeds an object."""
    min_area_px: int = 20
    """Objects of fewer pixels are dropped."""
    growth_px: int = 10
    """Objects grow from their seeds by at most this many steps."""
    max_hole_px: int = 40
    """Holes of at most this many pixels inside an object are filled."""
    max_core_px: int = 20_000
    """Boundary target only: a closed region of more pixels is background."""

    def __post_init__(self) -> None:
        _check(
            all(a > 0 for a in self.class_odds),
            f"class_odds are {self.class_odds}; each must be above 0.",
        )
        _check(
            0 < self.seed_threshold < 1,
            f"seed_threshold is {self.seed_threshold}; it must lie between 0 and 1.",
        )
        _check(self.min_area_px >= 0, f"min_area_px is {self.min_area_px}, below 0.")
        _check(
            0 <= self.growth_px <= 64,
            f"growth_px is {self.growth_px}; 0 to 64 are possible.",
        )
        _check(self.max_hole_px >= 0, f"max_hole_px is {self.max_hole_px}, below 0.")
        _check(self.max_core_px > 0, f"max_core_px is {self.max_core_px}, not above 0.")


MOST_LEVELS = 8
"""Levels of a network; at eight, windows of 7,168 px and more would be needed."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """Shape of the network."""

    in_channels: int = 2
    """Channels of the normalised image: `NormalizationConfig.channels` of each channel
    of the image that is looked at."""
    classes: int = 3
    """Classes of the target."""
    channels: tuple[int, ...] = (32, 64, 128)
    """Feature channels per level, finest first."""
    stem_stride: Literal[1, 2] = 2
    """2: the finest level works on 2 x 2 pixel groups and the head writes each
    group's four pixels, which costs about half of the operations of 1."""

    def __post_init__(self) -> None:
        _check(
            2 <= len(self.channels) <= MOST_LEVELS
            and all(1 <= c <= 4096 for c in self.channels),
            f"channels are {self.channels[: MOST_LEVELS + 1]}; 2 to {MOST_LEVELS} "
            "levels of 1 to 4096 each are possible.",
        )
        _check(1 <= self.in_channels <= 64, f"in_channels is {self.in_channels}.")
        _check(2 <= self.classes <= 16, f"classes is {self.classes}.")

    @property
    def stride_px(self) -> int:
        """Sides of the input must be multiples of this many pixels."""
        return int(self.stem_stride * 2 ** (len(self.channels) - 1))

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field in pixels, rounded up to the stride.

        Two 3 x 3 convolutions per level on the way down and, but for the coarsest, on
        the way up reach one pixel of that level each; pooling adds where a pixel lies
        in its coarsest group.
        """
        strides = [self.stem_stride * 2**i for i in range(len(self.channels))]
        radius = 2 * sum(strides) + 2 * sum(strides[:-1]) + strides[-1] - 1
        return int(-(-radius // self.stride_px) * self.stride_px)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Config):
    """How training crops are varied."""

    flips: bool = True
    """Random flips and quarter turns."""
    warp_probability: float = 0.5
    """Share of crops that are scaled, turned and stretched."""
    scale_range: tuple[float, float] = (0.7, 1.4)
    """Smallest and largest magnification."""
    elastic_px: float = 1.0
    """Standard deviation of the elastic displacement in pixels; 0 switches it off."""
    gain_sigma: float = 0.25
    """Standard deviation of the logarithm of a random intensity gain."""
    offset_sigma: float = 0.05
    """Standard deviation of a random offset, in units of the normalised range."""
    gamma_sigma: float = 0.2
    """Standard deviation of the logarithm of a random gamma."""
    noise_sigma: float = 0.03
    """Largest standard deviation of added noise, in units of the normalised range."""
    blur_sigma_px: float = 1.0
    """Largest standard deviation of a random blur in pixels."""
    dim_probability: float = 0.15
    """Share of crops that are dimmed, as nuclei are where an artefact sets the
    intensity range."""
    dim_range: tuple[float, float] = (0.1, 1.0)
    """Smallest and largest gain of a dimmed crop."""
    intensity_probability: float = 0.5
    """Share of crops to which each of gamma, noise and blur is applied."""

    def __post_init__(self) -> None:
        low, high = self.scale_range
        _check(
            0.1 <= low <= high <= 10,
            f"scale_range is {self.scale_range}; it must rise within 0.1 to 10.",
        )
        dimmest, brightest = self.dim_range
        _check(
            0.001 <= dimmest <= brightest <= 1,
            f"dim_range is {self.dim_range}; it must rise within 0.001 to 1.",
        )
        for name in ("warp_probability", "intensity_probability", "dim_probability"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"{name} is {value}; it must lie within 0 and 1.")
        for name in (
            "elastic_px",
            "gain_sigma",
            "offset_sigma",
            "gamma_sigma",
            "noise_sigma",
            "blur_sigma_px",
        ):
            value = getattr(self, name)
            _check(value >= 0, f"{name} is {value}, below 0.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Everything that decides the weights, the data and the seed aside."""

    preset: str = "default"
    """Name of the preset that this configuration started from."""
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    weights: WeightConfig = field(default_factory=WeightConfig)
    network: UNetConfig = field(default_factory=UNetConfig)
    scale: float = 1.0
    """Images are magnified by this factor before the network; where training starts
    from a model, the one that brings the objects near the size that it knows."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    loss: str = "cross-entropy"
    """Name of the loss in `cellunet.core.losses.LOSSES`."""
    sampling: Literal["area", "images"] = "area"
    """Which image the next crop comes from: ``area`` by its share of all pixels,
    ``images`` each in turn, in an order drawn anew every time round."""
    crop_px: int = 192
    """Side of the square training crops in pixels."""
    batch: int = 8
    """Crops per step."""
    epochs: int = 30
    """Epochs; each ends with a validation."""
    steps_per_epoch: int = 400
    """Optimiser steps of an epoch; 0: as many as there are batches of images."""
    optimizer: Literal["adamw", "adam-amsgrad"] = "adamw"
    """Optimiser."""
    learning_rate: float = 3e-3
    """Largest learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW only)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """``cosine``: linear warm-up, then a half cosine down to 0."""
    warmup_steps: int = 200
    """Steps of the linear warm-up of the cosine schedule."""
    average_decay: float = 0.998
    """Decay per step of the exponential average of the weights that is kept as the
    model; 0 keeps the weights themselves."""
    patience_epochs: int = 0
    """Stop after this many epochs without a better validation loss; 0 never stops."""
    keep: Literal["last", "best"] = "last"
    """``best`` keeps the weights of the epoch with the lowest validation loss."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the convolutions in training; ``auto`` takes bfloat16 where the
    device computes with it natively."""
    seed: int = 0
    """Seed of the split, of the initial weights, of crops and of augmentation."""

    @property
    def image_channels(self) -> int:
        """Channels of an image that the network looks at."""
        return max(self.network.in_channels // self.normalization.channels, 1)

    def __post_init__(self) -> None:
        for name in ("crop_px", "batch", "epochs"):
            value = getattr(self, name)
            _check(value >= 1, f"{name} is {value}; at least 1 is needed.")
        for name in ("steps_per_epoch", "warmup_steps", "patience_epochs", "seed"):
            value = getattr(self, name)
            _check(value >= 0, f"{name} is {value}, below 0.")
        stride = self.network.stride_px
        near = max(stride, round(self.crop_px / stride) * stride)
        _check(
            self.crop_px % stride == 0,
            f"crop_px is {self.crop_px}, not a multiple of the network's {stride}.",
            hint=f"The nearest that fits: --crop {near}.",
        )
        _check(
            self.learning_rate > 0,
            f"learning_rate is {self.learning_rate}; it must be above 0, as .003 is.",
        )
        _check(
            0.05 <= self.scale <= 20,
            f"scale is {self.scale}; 0.05 to 20 are possible.",
        )
        _check(0 <= self.average_decay < 1, f"average_decay is {self.average_decay}.")
        classes = len(self.encoding.classes)
        for what, count in (
            ("network.classes", self.network.classes),
            ("weights.class_weights", len(self.weights.class_weights)),
            ("decode.class_odds", len(self.decode.class_odds)),
        ):
            _check(
                count == classes,
                f"{what} is for {count} classes; "
                f"target {self.encoding.target} has {classes}.",
            )


ALL_IMAGES = "all"
"""What `PredictConfig.image` is for every image of a file."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Config):
    """How a model is applied. None stands for "as trained"."""

    channel: str | None = None
    """Number (from 0) or name of the image channel; needed if there are several. For a
    model that looks at several: theirs, with commas between."""
    gray: bool = False
    """Use the luminance of RGB images."""
    z: Literal["keep", "max"] = "keep"
    """``keep`` segments every Z plane by itself, ``max`` the maximum projection."""
    scale: float | None = None
    """Magnify images by this factor before the network, on top of the magnification
    that the model was trained with; labels come back at the image's own size."""
    diameter_px: float | None = None
    """Median diameter of the objects in pixels, from which `scale` follows."""
    pixel_size_um: float | None = None
    """Side of a pixel, in micrometres, at which the model is to see images; `scale`
    follows for each image from its own pixel size."""
    level: int = 0
    """Which level of a pyramid to segment; 0 is the image at full size. Labels are of
    that level's size."""
    image: str | None = None
    """Which image of a file of several: its number (from 0), its name, or ``all``, each
    with a result of its own; None: the largest."""
    keep_going: bool = False
    """Let zeros stand where a part of an image cannot be read, and say so."""
    min_area_px: int | None = None
    """Drop smaller objects."""
    seed_threshold: float | None = None
    """Interior probability that seeds an object; higher splits more and finds less."""
    flips: bool = False
    """Average the probabilities of the image and its three mirror images, for four
    times the work of the network."""
    exclude_border: bool = False
    """Drop objects that touch the edge of the image."""
    tile_px: int = 1024
    """Longest side of the tiles that are decoded at once; it changes memory and time,
    never a label."""
    max_memory_mb: int | None = None
    """Bound on the memory of the process in megabytes; it changes time, never a
    label."""
    scratch: str | None = None
    """Folder of the temporary files; None: that of the results."""
    save: tuple[
        Literal[
            "classes",
            "probabilities",
            "outlines",
            "rois",
            "geojson",
            "table",
            "report",
        ],
        ...,
    ] = ()
    """What to write beside the labels; ``report``: one page for all images."""
    table_format: Literal["csv", "parquet"] = "csv"
    """Format of tables."""
    measure: Literal["basic", "all"] = "basic"
    """What is measured of objects; ``all``: medians, background, Feret diameters, ...
    as well (docs/measurements.md)."""
    segment_channel: str | None = None
    """Of images that are stored as a file per channel, segment those of this one, by
    the mark (``w1``) or name of the channel, and measure the others under its labels;
    None: every file by itself."""
    link_planes: bool = False
    """Give an object of several Z planes one number, and one row in the table."""
    include: tuple[Literal["thumbs", "projections", "labels"], ...] = ()
    """What is segmented all the same where a folder holds it: thumbnails of a plate,
    projections and copies of planes, label images and pictures of results."""
    part: tuple[int, int] | None = None
    """(i, n): take every n-th image, from the i-th on; both from 1. What is made of
    all images together (table, report) is left to a call without it."""
    overwrite: bool = False
    """Replace results that other settings or another model made."""

    def __post_init__(self) -> None:
        sizes = {
            "scale": self.scale,
            "diameter": self.diameter_px,
            "pixel size": self.pixel_size_um,
        }
        given = [name for name, value in sizes.items() if value is not None]
        _check(
            len(given) < 2,
            f"{'Both' if len(given) == 2 else 'All of'} {' and '.join(given)} were "
            "given.",
            hint="Give one of them: the scale follows from each of the others.",
        )
        _check(
            self.pixel_size_um is None or 0.001 <= self.pixel_size_um <= 1000,
            f"pixel_size is {self.pixel_size_um}; 0.001 to 1000 micrometres are "
            "possible.",
        )
        _check(self.level >= 0, f"level is {self.level}, below 0.")
        _check(
            self.scale is None or 0.05 <= self.scale <= 20,
            f"scale is {self.scale}; 0.05 to 20 are possible.",
        )
        _check(
            self.diameter_px is None or 2 <= self.diameter_px <= 2000,
            f"diameter is {self.diameter_px}; 2 to 2000 pixels are possible.",
        )
        _check(
            self.min_area_px is None or self.min_area_px >= 0,
            f"min_area is {self.min_area_px}, below 0.",
        )
        _check(
            self.seed_threshold is None or 0 < self.seed_threshold < 1,
            f"seed_threshold is {self.seed_threshold}; it must lie between 0 and 1.",
        )
        _check(
            self.tile_px >= 64, f"tile is {self.tile_px} px; at least 64 are needed."
        )
        _check(
            self.part is None or 1 <= self.part[0] <= self.part[1],
            f"part is {self.part}; it must be i of n, 1 <= i <= n.",
            hint="For example --part 2/8.",
        )
        _check(
            self.max_memory_mb is None or self.max_memory_mb > 0,
            f"max_memory is {self.max_memory_mb} MB; it must be above 0.",
        )
        _check(
            self.measure == "basic" or bool({"table", "geojson"} & set(self.save)),
            f"Measuring {self.measure} was asked for, but nothing is saved that holds "
            "it.",
            hint="Add: --save table.",
        )
        _check(
            self.segment_channel is None or self.image != ALL_IMAGES,
            "A file per channel holds one image, not all of several.",
            hint="Leave out --segment-channel, or --image all.",
        )
        _check(
            not self.link_planes or self.z == "keep",
            "A maximum projection has no planes to link.",
            hint="Leave out --link-planes, or --z max.",
        )
        _check(
            self.table_format == "csv" or "table" in self.save,
            f"The table format {self.table_format} was given, but no table is saved.",
            hint="Add: --save table.",
        )


@dataclass(frozen=True, kw_only=True)
class SplitConfig(Config):
    """Which annotated images are kept out of training."""

    validation_fraction: float = 0.2
    """Share of the images drawn for validation where no list is given."""
    folds: int = 0
    """2 or more: no image is spared. Where no list is given the images are dealt into
    as many parts, a network is trained without each of them and scored on it, and the
    mean of the networks' weights is kept. 0: one training, one part kept out."""

    def __post_init__(self) -> None:
        _check(
            self.folds == 0 or 2 <= self.folds <= 10,
            f"folds is {self.folds}; 0, or 2 to 10, are possible.",
        )
        _check(
            0 < self.validation_fraction < 1,
            f"validation_fraction is {self.validation_fraction}; it must lie between "
            "0 and 1.",
        )


@dataclass(frozen=True, kw_only=True)
class SuggestConfig(Config):
    """Which crops are suggested for annotation."""

    crops: int = 8
    """How many."""
    side_px: int = 256
    """Their side in pixels."""
    annotations: Literal["labels", "rois", "geojson"] = "labels"
    """What the model's annotation is written as, to be corrected: label images, ROI
    sets of Fiji, GeoJSON of QuPath."""
    most_windows: int = 4096
    """Windows that are compared with each other at most. Of more, only the most
    doubtful of each neighbourhood are."""

    def __post_init__(self) -> None:
        _check(
            1 <= self.crops <= 1000,
            f"crops is {self.crops}; 1 to 1000 are possible.",
        )
        _check(
            32 <= self.side_px <= 4096,
            f"The crops' side is {self.side_px} px; 32 to 4096 are possible.",
        )
        _check(self.most_windows >= 1, f"most_windows is {self.most_windows}.")


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig(Config):
    """How intervals are drawn."""

    resamples: int = 2000
    """Draws of as many images as there are, with replacement."""
    confidence: float = 0.95
    """Share of the draws that the interval holds."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        _check(
            self.resamples >= 1,
            f"resamples is {self.resamples}; 1 or more are needed.",
        )
        _check(
            0 < self.confidence < 1,
            f"confidence is {self.confidence}; it must lie between 0 and 1.",
        )


@dataclass(frozen=True, kw_only=True)
class CheckConfig(Config):
    """From when on a person should look at an annotation."""

    fragment_share: float = 0.05
    """An object is a fragment if its area is below this share of the median area of
    its image, unless the frame cuts it."""
    several_area: float = 1.5
    """An object may be several if its area is above this many medians of its image
    and its solidity below `several_solidity`."""
    several_solidity: float = 0.8
    """Area of the object over that of its convex hull."""
    shift_px: float = 2.0
    """Labels are shifted if they fit this far away better than in place."""
    shift_gain: float = 0.02
    """By how much, in correlation of brightness and labels."""
    least_correlation: float = 0.3
    """Labels do not fit their image if no shift gives this correlation."""
    reach_px: int = 24
    """Largest shift that is tried along each axis."""
    other_gain: float = 0.1
    """Labels belong to another image if they correlate with it better by this."""

    def __post_init__(self) -> None:
        for name in ("fragment_share", "several_solidity", "least_correlation"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"{name} is {value}; 0 to 1 are possible.")
        _check(
            0 < self.shift_px <= self.reach_px,
            f"shift_px is {self.shift_px}; above 0, up to reach_px is possible.",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
    """How predictions are scored."""

    protocol: str = PROTOCOL
    """Name of a row of `cellunet.metrics.matching.PROTOCOLS`."""
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    """How intervals are drawn."""
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    """Classes whose pixels are told apart in precision and recall."""

    def __post_init__(self) -> None:
        choose(dict.fromkeys(PROTOCOLS), self.protocol, "protocol")


def default_preset() -> TrainConfig:
    """Return the settings measured best within 30 minutes on two CPU cores."""
    return TrainConfig()


def few_preset() -> TrainConfig:
    """Return the settings for up to `FEW_IMAGES` images that start from a model.

    Short enough for three folds in five minutes on two CPU cores; measured in
    `docs/experiments.md`.
    """
    return TrainConfig(
        preset="few",
        epochs=2,
        steps_per_epoch=75,
        learning_rate=3e-3,
        warmup_steps=20,
        average_decay=0.99,
    )


def classic_preset() -> TrainConfig:
    """Return the settings of the original study.

    Stated by the study: a U-Net, 3 classes, weighted cross-entropy, random crops of
    256 x 256, learning rate 0.01, batch 5, 160 training and 40 validation images (32
    and 8 iterations an epoch). Taken from its author's published code: 64 to 1024
    channels (31,036,611 parameters), normal initialisation, images standardised to
    zero mean and unit variance, Adam with AMSGrad, 50 epochs, early stop after 10.
    """
    return TrainConfig(
        preset="classic",
        normalization=NormalizationConfig(kind="standard"),
        weights=WeightConfig(small_object_px=0.0),
        network=UNetConfig(
            in_channels=1, channels=(64, 128, 256, 512, 1024), stem_stride=1
        ),
        augment=AugmentConfig(
            flips=False,
            warp_probability=0.0,
            gain_sigma=0.0,
            offset_sigma=0.0,
            intensity_probability=0.0,
            dim_probability=0.0,
        ),
        sampling="images",
        crop_px=256,
        batch=5,
        epochs=50,
        steps_per_epoch=0,
        optimizer="adam-amsgrad",
        learning_rate=0.01,
        weight_decay=0.0,
        schedule="constant",
        warmup_steps=0,
        average_decay=0.0,
        patience_epochs=10,
        keep="best",
        precision="float32",
    )


PRESETS = {
    "default": default_preset,
    "few": few_preset,
    "classic": classic_preset,
}


def for_target(config: TrainConfig, target: Target) -> TrainConfig:
    """Return `config` with everything that depends on the target set for `target`."""
    weights = (1.0, 1.0, 3.0) if target == "three-class" else (1.0, 3.0)
    encoding = config.encoding.replace(target=target)
    return config.replace(
        encoding=encoding,
        network=config.network.replace(classes=len(encoding.classes)),
        weights=config.weights.replace(class_weights=weights),
        decode=config.decode.replace(class_odds=weights),
    )
