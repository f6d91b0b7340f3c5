"""Fixtures that all tests share: the annotated images, randomness, drawn nuclei."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.tasks.train.request import Trained

pytest_plugins = ["tests.networks"]

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

CHECKOUT = Path(__file__).resolve().parent.parent


def read_labels(path: Path, kind: str = "auto") -> npt.NDArray[np.int32]:
    """Return the labels of an annotation."""
    from cellunet.annotations.read import read_annotation

    return read_annotation(path, kind=kind).labels


def pytest_configure() -> None:
    """Mind Ctrl-C even where a shell started the tests in the background.

    It has its children ignore SIGINT then, and so would all that the tests start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Have a plain ``pytest`` leave out what is slow, and use all cores.

    Whoever names files, markers (-m) or words (-k) gets all of those.
    """
    option = config.option
    plain = config.args_source is config.ArgsSource.TESTPATHS
    if not plain or option.markexpr or option.keyword:
        return
    option.markexpr = "not slow"
    # What a worker of pytest-xdist runs is chosen alike, but it starts no workers.
    if hasattr(config, "workerinput"):
        return
    # Not there without pytest-xdist; a debugger needs the one process.
    if getattr(option, "numprocesses", 1) is None and not option.usepdb:
        option.numprocesses, option.dist = "auto", "worksteal"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Have ``pytest -m smoke`` import no module without such a test: they are few."""
    if config.option.markexpr != "smoke" or not collection_path.match("test_*.py"):
        return None
    return "mark.smoke" not in collection_path.read_text("utf-8") or None


class DrawNuclei(Protocol):
    """Draw a field of nuclei: see `draw_nuclei`."""

    def __call__(
        self,
        shape: tuple[int, int] = (96, 96),
        count: int = 12,
        seed: int = 0,
        *,
        radius_px: tuple[float, float] = (5.0, 9.0),
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]: ...


def draw_nuclei(
    shape: tuple[int, int] = (96, 96),
    count: int = 12,
    seed: int = 0,
    *,
    radius_px: tuple[float, float] = (5.0, 9.0),
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    """Return (image, labels), YX: ellipses on a noisy background, some touching.

    Centers keep 0.8 of the sum of their long half axes apart, so that neighbors may
    touch but none is buried; if a field is too full for `count`, it holds fewer.
    Labels are int32 from 1 without gaps, each object one 4-connected piece of at
    least 9 pixels. Intensities: background about 200, nuclei 600 to 3,000.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    yx = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    labels = np.zeros(shape, np.int32)
    clean = np.full(shape, 200.0)
    placed: list[tuple[float, float, float]] = []
    for _ in range(60 * count):
        if len(placed) == count:
            break
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        a = rng.uniform(*radius_px)
        b = a * rng.uniform(0.7, 1.0)
        if any(np.hypot(cy - y, cx - x) < 0.8 * (a + r) for y, x, r in placed):
            continue
        t = rng.uniform(0, np.pi)
        dy, dx = yx[0] - cy, yx[1] - cx
        u = (dx * np.cos(t) + dy * np.sin(t)) / a
        v = (dy * np.cos(t) - dx * np.sin(t)) / b
        inside = (u * u + v * v <= 1) & (labels == 0)
        if inside.sum() < 9 or ndimage.label(inside)[1] != 1:
            continue
        placed.append((cy, cx, a))
        labels[inside] = len(placed)
        clean[inside] = rng.uniform(600, 3000)
    blurred = ndimage.gaussian_filter(clean, 1.0)
    noisy = blurred + rng.normal(0, 1, shape) * np.sqrt(blurred)
    return np.clip(np.rint(noisy), 0, 65535).astype(np.uint16), labels


@pytest.fixture(scope="session")
def nuclei_image() -> DrawNuclei:
    """The function that draws nuclei: ``nuclei_image(shape, count, seed)``."""
    return draw_nuclei


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator, the same in every test."""
    return np.random.default_rng(20260)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of annotated images, with ``bbbc039`` and ``dsb2018-fluorescence``."""
    given = os.environ.get("CELLUNET_DATA")
    folder = Path(given) if given else CHECKOUT.parent / "shared" / "data"
    if not (folder / "bbbc039").is_dir():
        pytest.skip(f"no annotated images at {folder} (set CELLUNET_DATA)")
    return folder


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A trained model, and what it was trained on."""

    home: Path
    """What CELLUNET_HOME has to be for the model to be found by its name."""
    name: str
    folder: Path
    """The model's folder, by which it is found whatever CELLUNET_HOME is."""
    data: Path
    """Six annotated images of 64 x 64 px: `images` and `labels`, ``a0.tif`` to
    ``a5.tif``."""
    config: TrainConfig
    """What was asked for."""
    trained: Trained


@pytest.fixture(scope="session")
def write_data() -> Callable[..., Path]:
    """``write_data(folder, count)``: annotated square images in `folder`."""
    import tifffile

    def write(
        folder: Path, count: int = 6, *, first_seed: int = 0, side_px: int = 64
    ) -> Path:
        for side in ("images", "labels"):
            (folder / side).mkdir(parents=True)
        for number in range(count):
            image, labels = draw_nuclei((side_px, side_px), 8, first_seed + number)
            tifffile.imwrite(folder / "images" / f"a{number}.tif", image)
            name = folder / "labels" / f"a{number}.tif"
            tifffile.imwrite(name, labels.astype(np.uint16))
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory, write_data: Callable[..., Path]
) -> TinyModel:
    """A two-level U-Net that finds most drawn nuclei, trained in about two seconds."""
    torch = pytest.importorskip("torch")
    from cellunet.config import AugmentConfig, UNetConfig, WeightConfig
    from cellunet.tasks.train.request import TrainRequest
    from cellunet.tasks.train.train import train
    from tests.networks import TINY

    home = tmp_path_factory.mktemp("home")
    data = write_data(tmp_path_factory.mktemp("data") / "drawn")
    config = TINY.replace(
        network=UNetConfig(channels=(8, 16)),
        augment=AugmentConfig(warp_probability=0.0, intensity_probability=0.0),
        weights=WeightConfig(border_weight=0.0),
        crop_px=48,
        batch=4,
        steps_per_epoch=30,
        learning_rate=0.03,
        warmup_steps=5,
        average_decay=0.9,
    )
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLUNET_HOME", str(home))
        trained = train(
            TrainRequest(
                data=(data,), name="tiny", config=config, start="scratch", threads=1
            )
        )
    torch.set_num_threads(threads)
    return TinyModel(
        home=home,
        name="tiny",
        folder=trained.folder,
        data=data,
        config=config,
        trained=trained,
    )


@pytest.fixture
def tiny_home(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CELLUNET_HOME set so that the model ``tiny`` is found by its name."""
    monkeypatch.setenv("CELLUNET_HOME", str(tiny_model.home))
    return tiny_model.home
