"""All settings of one call: how a model is applied, and what commands are asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from cellunet.config import (
    FEW_IMAGES,
    FOREGROUND,
    EncodingConfig,
    check_edge,
)
from cellunet.errors import choose
from cellunet.settings import Config, check, group, setting

MODEL = "nuclei"
"""The model that ships."""

SCRATCH = "scratch"
"""Where training may start from instead of a model: random weights."""

FOLDS = 3
"""Parts that few images are dealt into; two images, or the halves of one, make two."""

ENGINE: Literal["auto"] = "auto"
DEVICE = "auto"
THREADS = 0

PROTOCOL = "standard"
PROTOCOLS = ("standard", "caicedo2019")
"""Rows of `cellunet.metrics.matching.PROTOCOLS`, which needs numpy."""

KINDS = (
    *("auto", "labels", "binary", "inverted", "colored", "outlines", "objects"),
    *("scribbles", "rois", "geojson", "coco", "labelme", "via", "napari"),
)
"""Rows of `cellunet.annotations.read.ANNOTATIONS`, which needs numpy: imports point
down, so tests/cli/test_options.py compares the two, as those of `PROTOCOLS`."""

MEASURED = {"table", "zarr-table", "geojson"}
"""Kinds of files of `PredictConfig.save` that hold what is measured."""

ALL_IMAGES = "all"
"""What `PredictConfig.image` is for every image of a file."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Config):
    """How a model is applied. None stands for "as trained"."""

    channel: str | None = setting(
        None,
        "Channel of the images, by name or by number from 0; needed where there are "
        "several. For a model that looks at several: all of them, with commas; "
        "warnings, pictures and suggestions are of the first.",
        otherwise="those that the model was trained on, if they have its names",
        label="Channel",
        option="Images: NAME|N[,...]",
    )
    segment_channel: str | None = setting(
        None,
        "For images stored as one file per channel (..._w1, -ch2): segment this "
        "channel, given by its mark or name, and measure the others under its labels.",
        otherwise="every file by itself",
        option="Images: NAME",
    )
    plate_pattern: str | None = setting(
        None,
        "Plate, well, field, ... by the names of files: imagexpress, operetta, "
        "micro-manager, cellvoyager or incell, or a regular expression with named "
        "groups: well (or row and column), plate, field, channel, z, time "
        "(docs/plates.md). They are columns of the table, and the report shows the "
        "plates.",
        otherwise="none; of an OME-Zarr plate its own wells",
        option="Images: PATTERN",
    )
    samples: str | None = setting(
        None,
        "Sheet of what is known of each well or file (CSV): a column well (and plate) "
        "or file, then any others, as treatment and dose, which the table and the "
        "report have, too.",
        otherwise="none",
        option="Images: SHEET",
    )
    gray: bool = setting(
        False,
        "Use the brightness of RGB images.",
        label="Luminance of RGB",
        option="Images",
    )
    z: Literal["keep", "max"] = setting(
        "keep",
        "Z planes: keep segments each by itself, max their maximum projection.",
        label="Z planes",
        option="Images: keep|max",
    )
    pages: Literal["channels", "time", "z"] | None = setting(
        None,
        "How to read pages that a file does not name: as channels, time points or Z "
        "planes.",
        otherwise="time points, as the results then say",
        label="Pages without a name",
        only_if_set=True,
        option="Images: WHAT",
    )
    include: tuple[Literal["thumbs", "projections", "labels", "jpegs"], ...] = setting(
        (),
        "Also segment what folders hold beside the images: thumbs and projections "
        "(or copies of planes) of a plate, labels (or pictures of results), jpegs; "
        "repeat for more. Files that are named are always taken.",
        option="Images: WHAT",
    )
    within: str | None = setting(
        None,
        "Segment within regions alone: ROIs of ImageJ or GeoJSON of QuPath, in pixels "
        "of full resolution; a file for all images, or a folder of files named like "
        "them. Nuclei whose center lies within count, whole.",
        otherwise="all of the image",
        label="Within regions of",
        only_if_set=True,
        option="Images: FILE|DIR",
    )
    level: int = setting(
        0,
        "Level of a pyramid (TIFF, OME-Zarr) to segment; 0 is full size, and labels "
        "are of the level's size.",
        label="Level of pyramids",
        low=0,
        option="Images: N",
    )
    image: str | None = setting(
        None,
        "Image to segment of a file that holds several (positions, a converter's "
        "pyramid levels, a scanner's label), by number from 0 or by name; all: each "
        "with a result of its own.",
        otherwise="the largest; of a microscope's own file all",
        option="Images: N|NAME|all",
    )
    keep_going: bool = setting(
        False,
        "Where a part of an image cannot be read, take zeros, warn, and end with "
        "exit code 3.",
        otherwise="no, the image fails",
        label="Zeros where a file is damaged",
        option="Images",
    )
    scale: float | None = setting(
        None,
        "Magnify images by this factor before the network, for objects of another "
        "size than the model knows; on top of the magnification that it was trained "
        "with. Labels keep the image's own size.",
        otherwise="1",
        within=(0.05, 20),
        option="Objects: FACTOR",
    )
    diameter_px: Literal["auto", "batch", "model"] | float = setting(
        "auto",
        "How large the objects are: auto finds it for each image and sees it at a "
        "scale that suits the model, batch finds one for all images, model sees images "
        "as they are; or their median diameter in pixels.",
        otherwise="auto, unless a scale or pixel size is given",
        within=(2, 2000),
        option="Objects: SIZE",
    )
    pixel_size_um: float | None = setting(
        None,
        "Micrometers per pixel at which the model is to see each image, from which "
        "its scale follows; labels keep the image's own size.",
        otherwise="images are seen as they are",
        within=(0.001, 1000),
        option="Objects: UM",
    )
    min_area_px: int | None = setting(
        None,
        "Drop objects of fewer pixels.",
        otherwise="as trained, 20 px in nuclei",
        low=0,
        option="Objects: PX",
    )
    max_area_px: int | None = setting(
        None,
        "Drop objects of more pixels: clumps, dirt.",
        otherwise="no limit",
        label="Largest object",
        only_if_set=True,
        above=0,
        option="Objects: PX",
    )
    min_confidence: float | None = setting(
        None,
        "Drop objects whose confidence, as --save table tells it, is below this; 0 "
        "keeps all.",
        otherwise="as trained, 0.55 in nuclei",
        within=(0, 1),
        option="Objects: P",
    )
    seed_threshold: float | None = setting(
        None,
        "Probability of interior, 0 to 1, that seeds an object; higher splits more "
        "and finds less.",
        otherwise="as trained, 0.4 in nuclei",
        between=(0, 1),
        option="Objects: P",
    )
    min_foreground: float = setting(
        FOREGROUND,
        "Probability of interior or boundary, 0 to 1, from which on a pixel may belong "
        "to an object; lower draws objects larger and joins dim parts.",
        label="Foreground threshold",
        only_if_set=True,
        between=(0, 1),
        option="Objects: P",
    )
    edge: float | None = setting(
        None,
        "Put outlines where the image has come this fraction of the way from the "
        "background around an object to its inside: lower is further out; 0: as the "
        "network draws them, near .5.",
        otherwise="as trained",
        option="Objects: F",
    )
    flips: bool = setting(
        False,
        "Average over the image and its three mirror images: a little more accurate, "
        "about four times slower.",
        label="Averaged over mirror images",
        option="Objects",
    )
    link_planes: bool = setting(
        False,
        "Join a nucleus over the Z planes of a stack by overlap: one number, one row "
        "in the table, a volume.",
        label="Linked over Z",
        option="Objects",
    )
    exclude_border: bool = setting(
        False,
        "Drop objects that touch the edge of the image.",
        label="Edge objects dropped",
        option="Objects",
    )
    save: tuple[
        Literal[
            "classes",
            "probabilities",
            "outlines",
            "rois",
            "geojson",
            "coco",
            "table",
            "zarr-table",
            "report",
        ],
        ...,
    ] = setting(
        (),
        "Also write, beside each label image: classes or probabilities (TIFF), "
        "outlines (a picture), rois (for Fiji), geojson (for QuPath), coco (masks and "
        "scores as JSON), the table of what is measured, or the same within an "
        "OME-Zarr (zarr-table, for ngio); or one report (HTML) of all images; repeat "
        "for more.",
        option="Results: WHAT",
    )
    table_format: Literal["csv", "parquet"] = setting(
        "csv",
        "Format of the tables that --save table writes: csv, or parquet, of the "
        "extra cellunet-torch[parquet].",
        option="Results: NAME",
    )
    measure: Literal["basic", "all"] = setting(
        "basic",
        "What tables and GeoJSON hold of each object: basic, or all, standard "
        "deviations, medians, background, Feret diameters, circularity, orientation "
        "too (docs/measurements.md).",
        label="Measured",
        option="Results: NAME",
    )
    part: tuple[int, int] | None = setting(
        None,
        "Segment every N-th image, from the I-th on, for N calls side by side; then "
        "cellunet join writes the table and the report of all.",
        otherwise="all images",
        option="Results: I/N",
    )
    into_source: str | None = setting(
        None,
        "Write the labels into each OME-Zarr itself, as labels/NAME; all else goes to "
        "--out.",
        otherwise="no, to --out like all else",
        option="Results: NAME",
    )
    overwrite: bool = setting(
        False,
        "Replace existing results, even if they would be the same.",
        option="Results",
    )
    tile_px: int = setting(
        1024,
        "Longest side of the tiles that are decoded at once; it changes memory and "
        "time, never a label.",
        low=64,
        option="Computing: PX",
    )
    no_skip: bool = setting(
        False,
        "Compute all of a large image, the parts too in which nothing stands out from "
        "the background and its noise; it changes time, never a label.",
        option="Computing",
    )
    max_memory_mb: int | None = setting(
        None,
        "Bound on the memory of the process in megabytes; what does not fit waits in "
        "a temporary file. It changes time, never a label.",
        otherwise="what runs fastest, about 700 for an image of any size",
        above=0,
        option="Computing: MB",
    )
    dask: str | None = setting(
        None,
        "Share out the blocks of each image among the workers of a Dask scheduler, or "
        "of local[N], N processes of this machine; of the extra cellunet-torch[dask] "
        "(docs/cluster.md).",
        otherwise="no, all in this process",
        option="Computing: ADDRESS",
    )
    scratch: str | None = setting(
        None,
        "Existing folder for temporary files; they have no name and vanish with the "
        "process.",
        otherwise="--out",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {
            "scale": self.scale,
            "diameter": None if self.diameter_px == "auto" else self.diameter_px,
            "pixel size": self.pixel_size_um,
        }
        given = [name for name, value in sizes.items() if value is not None]
        check(
            len(given) < 2,
            f"{'Both' if len(given) == 2 else 'All of'} {' and '.join(given)} were "
            "given.",
            hint="Give one of them: the scale follows from each of the others.",
        )
        check_edge(self.edge)
        check(
            self.into_source is None
            or re.fullmatch(r"(?!\.)[\w. -]+", self.into_source) is not None,
            f"{self.into_source!r} can name no group of labels.",
            hint="Use letters, digits, - and _, as in --into-source nuclei.",
        )
        check(
            self.dask is None
            or re.fullmatch(r"local\[[1-9]\d*\]|(\w+://)?[^\[\]\s]+:\d+", self.dask)
            is not None,
            f"dask is {self.dask!r}.",
            hint="Give the address of a scheduler, as tcp://node1:8786, or local[N], "
            'in quotes: --dask "local[4]".',
        )
        check(
            self.max_area_px is None or (self.min_area_px or 0) <= self.max_area_px,
            f"No object has at least {self.min_area_px} and at most "
            f"{self.max_area_px} pixels.",
            hint="Give --min-area below --max-area.",
        )
        check(
            self.part is None or 1 <= self.part[0] <= self.part[1],
            f"part is {self.part}; it must be i of n, 1 <= i <= n.",
            hint="For example --part 2/8.",
        )
        check(
            self.measure == "basic" or bool(MEASURED & set(self.save)),
            f"Measuring {self.measure} was asked for, but nothing is saved that holds "
            "it.",
            hint="Add: --save table.",
        )
        check(
            self.samples is None or self.shows_columns,
            "A sheet of samples was given, but nothing is saved that shows it.",
            hint="Add: --save table --save report.",
        )
        check(
            self.segment_channel is None or self.image != ALL_IMAGES,
            "A file per channel holds one image, not all of several.",
            hint="Leave out --segment-channel, or --image all.",
        )
        check(
            not self.link_planes or self.z == "keep",
            "A maximum projection has no planes to link.",
            hint="Leave out --link-planes, or --z max.",
        )
        check(
            self.table_format == "csv" or "table" in self.save,
            f"The table format {self.table_format} was given, but no table is saved.",
            hint="Add: --save table.",
        )

    @property
    def shows_columns(self) -> bool:
        """Whether anything is saved that shows what is known of whole images."""
        return bool({"table", "zarr-table", "report"} & {*self.save})

    @property
    def finds_size(self) -> bool:
        """Whether the size of the objects is to be found."""
        found = self.diameter_px in ("auto", "batch")
        return found and self.scale is None and self.pixel_size_um is None


@dataclass(frozen=True, kw_only=True)
class ComputeConfig(Config):
    """What computes, which changes time and, between engines, a few pixels."""

    engine: Literal[
        "auto", "onnxruntime", "torch", "torch-bfloat16", "openvino", "openvino-int8"
    ] = setting(
        ENGINE,
        "What runs the network: auto (onnxruntime on a CPU, else torch), "
        "onnxruntime, torch, torch-bfloat16, or, of the extra "
        "cellunet-torch[openvino], openvino, openvino-int8. int8 and bfloat16 are "
        "faster and change a few pixels (docs/performance.md).",
        option="Computing: NAME",
    )
    device: str = setting(
        DEVICE,
        "Device to compute on: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, "
        "mps. A device that is not there is refused.",
        option="Computing: NAME",
    )
    threads: int = setting(
        THREADS,
        "CPU threads, never more than the machine has cores; 0: as many as this "
        "process may use.",
        low=0,
        option="Computing: N",
    )


@dataclass(frozen=True, kw_only=True)
class AnnotationConfig(Config):
    """How annotations are read."""

    kind: str = setting(
        "auto",
        "How the annotations were drawn; auto decides for each file by its pixels. "
        "Others: " + ", ".join(KINDS[1:]) + ".",
        option="Images: NAME",
    )
    ignore_value: int | None = setting(
        None,
        "Value of the pixels of label images that are not annotated: they count "
        "neither in training nor in scores.",
        option="Images: N",
    )
    through_centers: bool = setting(
        False,
        "Outlines that go from pixel to pixel run through the centers of the outermost "
        "pixels, which are inside (outlines of Cellpose and OpenCV).",
        option="Images",
    )
    cells: bool = setting(
        False,
        "Read QuPath's cells by their outer outlines, not by their nuclei.",
        option="Images",
    )
    planes: str | None = setting(
        None,
        "Planes of stacks of labels that count, each an image of its own: numbers "
        "from 0 and ranges of them, as 0,4,10-30 or 0-100:10 (every tenth).",
        otherwise="those on which an object is annotated",
        option="Images: LIST",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(dict.fromkeys(KINDS), self.kind, "kind of annotation")

    def of_one_image(self) -> dict[str, Any]:
        """Return by name what `cellunet.annotations.read.read_annotation` takes."""
        return {name: v for name, v in self.to_dict().items() if name != "planes"}


@dataclass(frozen=True, kw_only=True)
class SplitConfig(Config):
    """Which annotated images are kept out of training."""

    validation_fraction: float = setting(
        0.2,
        "Share of the images, drawn by the seed, that is kept out for validation "
        "where no list is given.",
        between=(0, 1),
    )
    folds: int = setting(
        0,
        "Keep no image out: train N networks, each without a part of the images that "
        "it is then scored on, and keep the mean of their weights. 0: off.",
        otherwise=f"{FOLDS} for up to {FEW_IMAGES} images from a model, else 0",
        option="Images: N",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.folds == 0 or 2 <= self.folds <= 10,
            f"folds is {self.folds}; 0, or 2 to 10, are possible.",
        )


@dataclass(frozen=True, kw_only=True)
class SuggestConfig(Config):
    """Which crops are suggested for annotation."""

    crops: int = setting(8, "How many crops.", within=(1, 1000), option="Results: N")
    side_px: int = setting(
        256,
        "Their side in pixels.",
        within=(32, 4096),
    )
    annotations: Literal["labels", "rois", "geojson"] = setting(
        "labels",
        "Format in which the model's annotation is written for correction: labels "
        "(label images), rois (sets of Fiji), geojson (of QuPath).",
        option="Results: NAME",
    )


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig(Config):
    """How intervals are drawn."""

    resamples: int = setting(
        2000, "Draws of as many images as there are, with replacement.", low=1
    )
    confidence: float = setting(
        0.95, "Share of the draws that the interval holds.", between=(0, 1)
    )
    seed: int = setting(0, "Seed of the draws.")


@dataclass(frozen=True, kw_only=True)
class CheckConfig(Config):
    """From when on a person should look at an annotation."""

    fragment_share: float = setting(
        0.05,
        "An object is a fragment if its area is below this share of the median area "
        "of its image, unless the frame cuts it.",
        within=(0, 1),
    )
    several_area: float = setting(
        1.5,
        "An object may be several if its area is above this many medians of its "
        "image and its solidity below `several_solidity`.",
    )
    several_solidity: float = setting(
        0.8, "Area of the object over that of its convex hull.", within=(0, 1)
    )
    shift_px: float = setting(
        2.0,
        "Labels are shifted if they fit this far away better than in place.",
        above=0,
    )
    shift_gain: float = setting(
        0.02, "By how much, in correlation of brightness and labels."
    )
    least_correlation: float = setting(
        0.3,
        "Labels do not fit their image if no shift gives this correlation.",
        within=(0, 1),
    )
    reach_px: int = setting(24, "Largest shift that is tried along each axis.")
    other_gain: float = setting(
        0.1, "Labels belong to another image if they correlate with it better by this."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.shift_px <= self.reach_px,
            f"shift_px is {self.shift_px}; up to reach_px is possible.",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
    """How predictions are scored."""

    protocol: str = setting(
        PROTOCOL,
        "standard: IoU of .50 to .95; caicedo2019: the average F1 of the BBBC039 "
        "paper.",
        option="Options: NAME",
    )
    bootstrap: BootstrapConfig = group(BootstrapConfig)
    encoding: EncodingConfig = group(EncodingConfig, derived=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(dict.fromkeys(PROTOCOLS), self.protocol, "protocol")
