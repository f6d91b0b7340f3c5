"""All settings that travel with a model: one frozen dataclass per concern.

This and `cellunet.command_config` are the only homes of a default value. The command
line takes its defaults from them and core functions take a configuration whole.
Standard library only, so that ``cellunet --help`` stays quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cellunet.settings import Config, check, group, setting

Target = Literal["three-class", "boundary"]

Side = Literal["inner", "outer"]

EDGES = (0.05, 0.95)
"""Fractions of the way from background to nucleus at which an outline may lie."""

FOREGROUND = 0.5
"""Probability of object from which on a pixel may belong to one."""

TARGET: Target = "three-class"
"""What a network learns where nothing else is asked for."""

FEW_IMAGES = 20
"""Up to so many annotated images, and without any that are set aside for validation,
a training that starts from a model takes the preset ``few``."""


@dataclass(frozen=True, kw_only=True)
class NormalizationConfig(Config):
    """How intensities become the network's float32 input."""

    kind: Literal["percentile", "standard"] = setting(
        "percentile",
        "``percentile``: two channels, linear and logarithmic, between two "
        "percentiles of the whole image. ``standard``: one channel of zero mean and "
        "unit variance.",
    )
    low_percentile: float = setting(
        1.0, "Percentile of the image mapped to 0.", within=(0, 100)
    )
    high_percentile: float = setting(
        99.8, "Percentile of the image mapped to 1.", within=(0, 100)
    )
    noise_floor: float = setting(
        24.0,
        "The range mapped to 0..1 is at least this many standard deviations of the "
        "pixel noise, so that an empty field does not become a field of amplified "
        "noise.",
        low=0,
    )
    # In fields of U2OS nuclei (BBBC039) the range is 1.25 to 1.72 times the contrast of
    # the foreground (5th and 95th percentile of 147), and 5.9 and 6.3 times in the two
    # that show bright dirt.
    foreground_limit: float = setting(
        2.0,
        "The range mapped to 0..1 is at most this many times the contrast of the "
        "foreground, so that bright dirt does not dim all else; 0: no limit.",
    )
    curve: Literal["linear", "square-root"] = setting(
        "linear",
        "``square-root``: the root of what lies above the low percentile, so that dim "
        "objects beside bright ones stand out.",
    )
    invert: bool = setting(
        False,
        "Dark objects on a bright background: what is scaled is the negative image.",
        derived=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.low_percentile < self.high_percentile,
            f"Percentiles {self.low_percentile} and {self.high_percentile} do not "
            "rise.",
        )
        check(
            self.curve == "linear" or self.kind == "percentile",
            f"The {self.curve} curve needs intensities scaled by percentiles.",
        )
        check(
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

    target: Target = setting(
        "three-class",
        "``three-class``: 0 background, 1 interior, 2 boundary. ``boundary``: 0 "
        "rest, 1 boundary.",
    )
    boundary_side: Side = setting(
        "inner",
        "``inner``: the boundary lies on the object's own pixels. ``outer``: on the "
        "background around it. Pixels next to another label are boundary either way.",
    )
    boundary_px: int = setting(2, "Thickness of the boundary in pixels.", within=(1, 8))

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
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

    class_weights: tuple[float, ...] = setting(
        (1.0, 1.0, 3.0),
        "One weight per class, in the order of the class numbers.",
        above=0,
    )
    border_weight: float = setting(
        10.0,
        "w0: the added weight where two objects touch; 0 switches the border map off.",
        low=0,
    )
    border_sigma_px: float = setting(
        5.0, "sigma: how quickly the border weight falls off, in pixels.", above=0
    )


def check_edge(edge: float | None) -> None:
    """Refuse an edge that no outline can lie at.

    Raises
    ------
    ConfigError
        If so.
    """
    low, high = EDGES
    check(
        not edge or low <= edge <= high,
        f"edge is {edge}; {low} to {high} are possible, or 0 for outlines as the "
        "network draws them.",
    )


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(Config):
    """How class probabilities become instance labels; travels with the model."""

    class_odds: tuple[float, ...] = setting(
        (1.0, 1.0, 3.0),
        "a_c: by how much the weighted loss multiplied the odds of each class. The "
        "decoder divides by it: p_c is proportional to q_c / a_c.",
        above=0,
        label="Odds of the classes",
    )
    seed_threshold: float = setting(
        0.4,
        "Corrected probability of interior above which a pixel seeds an object.",
        between=(0, 1),
        label="Seed threshold",
    )
    min_area_px: int = setting(
        20, "Objects of fewer pixels are dropped.", low=0, label="Smallest object"
    )
    growth_px: int = setting(
        10,
        "Objects grow from their seeds by at most this many steps.",
        within=(0, 64),
        label="Growth from seeds",
    )
    max_hole_px: int = setting(
        40,
        "Holes of at most this many pixels inside an object are filled.",
        low=0,
        label="Largest filled hole",
    )
    max_core_px: int = setting(
        20_000,
        "Boundary target only: a closed region of more pixels is background.",
        above=0,
    )
    min_confidence: float = setting(
        0.0,
        "Objects whose confidence, the mean probability of the likeliest class of "
        "their pixels, is below this are dropped.",
        within=(0, 1),
        label="Least confidence",
    )
    edge: float = setting(
        0.0,
        "Outlines lie where the image has come this fraction of the way from the "
        "background around an object to its inside; 0: as the network draws them.",
        label="Edge",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_edge(self.edge)


MOST_LEVELS = 8
"""Levels of a network; at eight, windows of 7,168 px and more would be needed."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """Shape of the network."""

    in_channels: int = setting(
        2,
        "Channels of the normalized image: `NormalizationConfig.channels` of each "
        "channel of the image that is looked at.",
        within=(1, 64),
        derived=True,
    )
    classes: int = setting(3, "Classes of the target.", within=(2, 16), derived=True)
    channels: tuple[int, ...] = setting(
        (32, 64, 128), "Feature channels per level, finest first.", within=(1, 4096)
    )
    stem_stride: Literal[1, 2] = setting(
        2,
        "2: the finest level works on 2 x 2 pixel groups and the head writes each "
        "group's four pixels, which costs about half of the operations of 1.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            2 <= len(self.channels) <= MOST_LEVELS,
            f"channels are {self.channels[: MOST_LEVELS + 1]}; 2 to {MOST_LEVELS} "
            "levels are possible.",
        )

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

    flips: bool = setting(True, "Random flips and quarter turns.")
    warp_probability: float = setting(
        0.5, "Share of crops that are scaled, turned and stretched.", within=(0, 1)
    )
    scale_range: tuple[float, float] = setting(
        (0.7, 1.4), "Smallest and largest magnification.", within=(0.1, 10)
    )
    elastic_px: float = setting(
        1.0,
        "Standard deviation of the elastic displacement in pixels; 0 switches it off.",
        low=0,
    )
    gain_sigma: float = setting(
        0.25, "Standard deviation of the logarithm of a random intensity gain.", low=0
    )
    offset_sigma: float = setting(
        0.05,
        "Standard deviation of a random offset, in units of the normalized range.",
        low=0,
    )
    gamma_sigma: float = setting(
        0.2, "Standard deviation of the logarithm of a random gamma.", low=0
    )
    noise_sigma: float = setting(
        0.03,
        "Largest standard deviation of added noise, in units of the normalized range.",
        low=0,
    )
    blur_sigma_px: float = setting(
        1.0, "Largest standard deviation of a random blur in pixels.", low=0
    )
    dim_probability: float = setting(
        0.15,
        "Share of crops that are dimmed, as nuclei are where an artifact sets the "
        "intensity range.",
        within=(0, 1),
    )
    dim_range: tuple[float, float] = setting(
        (0.1, 1.0), "Smallest and largest gain of a dimmed crop.", within=(0.001, 1)
    )
    appearance_probability: float = setting(
        0.0,
        "Share of crops shown as other samples would be: objects of unlike brightness "
        "and texture, haze, uneven light, defocus, noise, coarse steps.",
        within=(0, 1),
    )
    intensity_probability: float = setting(
        0.5,
        "Share of crops to which each of gamma, noise and blur is applied.",
        within=(0, 1),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale_range", "dim_range"):
            low, high = getattr(self, name)
            check(low <= high, f"{name} is {low}, {high}; it must rise.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Everything that decides the weights, the data and the seed aside."""

    preset: str = setting(
        "default",
        "Settings to begin with: default, few, classic; --config and the options "
        "below change single ones.",
        otherwise=f"few for up to {FEW_IMAGES} images from a model, else default",
        option="Options: NAME",
    )
    normalization: NormalizationConfig = group(NormalizationConfig)
    encoding: EncodingConfig = group(EncodingConfig)
    weights: WeightConfig = group(WeightConfig)
    network: UNetConfig = group(UNetConfig)
    scale: float = setting(
        1.0,
        "Images are magnified by this factor before the network; where training "
        "starts from a model, the one that brings the objects near the size that it "
        "knows.",
        within=(0.05, 20),
        derived=True,
    )
    augment: AugmentConfig = group(AugmentConfig)
    decode: DecodeConfig = group(DecodeConfig, derived=True)
    loss: str = setting(
        "cross-entropy", "Name of the loss in `cellunet.core.trainer.LOSSES`."
    )
    sampling: Literal["area", "images"] = setting(
        "area",
        "Which image the next crop comes from: ``area`` by its share of all pixels, "
        "``images`` each in turn, in an order drawn anew every time round.",
    )
    crop_px: int = setting(192, "Side of the square training crops in pixels.", low=1)
    batch: int = setting(8, "Crops per step.", low=1)
    epochs: int = setting(
        30, "Epochs; each ends with a validation.", low=1, option="Schedule: N"
    )
    steps_per_epoch: int = setting(
        400,
        "Steps of an epoch; 0: as many as there are batches of images.",
        low=0,
        option="Schedule: N",
    )
    optimizer: Literal["adamw", "adam-amsgrad"] = setting("adamw", "Optimizer.")
    learning_rate: float = setting(3e-3, "Largest learning rate.", above=0)
    weight_decay: float = setting(0.01, "Decoupled weight decay (AdamW only).", low=0)
    schedule: Literal["cosine", "constant"] = setting(
        "cosine", "``cosine``: linear warm-up, then a half cosine down to 0."
    )
    warmup_steps: int = setting(
        200, "Steps of the linear warm-up of the cosine schedule.", low=0
    )
    average_decay: float = setting(
        0.998,
        "Decay per step of the exponential average of the weights that is kept as "
        "the model; 0 keeps the weights themselves.",
        low=0,
        below=1,
    )
    patience_epochs: int = setting(
        0,
        "Stop after this many epochs without a better validation loss; 0 never stops.",
        low=0,
    )
    keep: Literal["last", "best"] = setting(
        "last",
        "``best`` keeps the weights of the epoch with the lowest validation loss.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Precision of the convolutions in training; ``auto`` takes bfloat16 where "
        "the device computes with it natively.",
    )
    seed: int = setting(
        0,
        "Seed of the split, of the initial weights, of crops and of augmentation.",
        low=0,
    )

    @property
    def image_channels(self) -> int:
        """Channels of an image that the network looks at."""
        return max(self.network.in_channels // self.normalization.channels, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        stride = self.network.stride_px
        near = max(stride, round(self.crop_px / stride) * stride)
        check(
            self.crop_px % stride == 0,
            f"crop_px is {self.crop_px}, not a multiple of the network's {stride}.",
            hint=f"The nearest that fits: crop_px = {near}.",
        )
        classes = len(self.encoding.classes)
        for what, count in (
            ("network.classes", self.network.classes),
            ("weights.class_weights", len(self.weights.class_weights)),
            ("decode.class_odds", len(self.decode.class_odds)),
        ):
            check(
                count == classes,
                f"{what} is for {count} classes; "
                f"target {self.encoding.target} has {classes}.",
            )
