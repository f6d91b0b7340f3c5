"""Tiny settings of a training, samples, and networks whose weights are random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellunet.command_config import AnnotationConfig, SplitConfig
from cellunet.config import TrainConfig, UNetConfig
from cellunet.progress import silent_track

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from cellunet.core.dataset import Sample
    from cellunet.core.unet import UNet
    from cellunet.tasks.train.data import TrainingData

TINY = TrainConfig(
    network=UNetConfig(channels=(4, 8)),
    crop_px=32,
    batch=2,
    epochs=2,
    steps_per_epoch=4,
    warmup_steps=2,
    precision="float32",
)
"""Two levels, two epochs of four steps on crops of 32 px."""

SMALL = UNetConfig(in_channels=2, classes=3, channels=(4, 6), stem_stride=2)


def random_network(config: UNetConfig, seed: int = 0) -> UNet:
    torch = pytest.importorskip("torch")
    from torch import nn

    from cellunet.core.unet import UNet, initialize

    network = UNet(config)
    initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.3, 3.0, generator=generator)
        elif getattr(module, "bias", None) is not None:
            module.bias.data.normal_(0, 0.3, generator=generator)
    return network.eval()


def state(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    return {k: v.numpy() for k, v in network.state_dict().items()}


@pytest.fixture(scope="session")
def make_network() -> Callable[..., UNet]:
    """``make_network(config, seed)``: a network in evaluation mode."""
    return random_network


@pytest.fixture
def small_weights() -> dict[str, npt.NDArray[np.float32]]:
    """The state dict of a two-level network of shape `small_config`."""
    return state(random_network(SMALL))


@pytest.fixture(scope="session")
def small_config() -> UNetConfig:
    """Two levels, 2 channels in, 3 classes out, stride 4."""
    return SMALL


def few_candidates(put: Callable[[object, str, object], None]) -> None:
    """Try few decode constants and draw small pictures: a training takes a blink."""
    from cellunet.metrics import fit
    from cellunet.outputs import pictures

    put(fit, "ODDS_FACTORS", (0.5, 2.0))
    put(fit, "SEED_THRESHOLDS", (0.3, 0.6))
    put(fit, "MIN_AREAS_PX", (5, 15))
    put(pictures, "LINES_PX", 64)


def sample_of(
    labels: npt.ArrayLike,
    image: npt.NDArray[np.generic] | None = None,
    *,
    name: str = "a",
    annotated: npt.ArrayLike | None = None,
) -> Sample:
    """Return a sample of one channel, annotated everywhere if nothing else is said."""
    from cellunet.core.dataset import Sample

    drawn = np.asarray(labels, np.int32)
    pixels = drawn.astype(np.uint8) if image is None else image
    whole = np.ones(drawn.shape, bool) if annotated is None else annotated
    return Sample(
        name=name,
        image=pixels[np.newaxis],
        labels=drawn,
        annotated=np.asarray(whole, bool),
    )


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """Two levels, crops of 32 px, 2 epochs of 4 steps."""
    return TINY


@pytest.fixture(scope="session")
def make_sample(nuclei_image: Callable[..., object]) -> Callable[..., Sample]:
    """``make_sample(shape, seed)``: a fully annotated sample of drawn nuclei."""

    def make(
        shape: tuple[int, int] = (64, 64), seed: int = 0, count: int = 9
    ) -> Sample:
        image, labels = nuclei_image(shape, count, seed)  # type: ignore[misc]
        return sample_of(labels, image, name=f"drawn {seed}")

    return make


def loaded(
    *folders: Path,
    validation: Path | None = None,
    config: SplitConfig | None = None,
    seed: int = 0,
    **annotations: Any,
) -> TrainingData:
    """Read annotated folders, half of the images for validation if not said else."""
    from cellunet.tasks.train.data import ChannelChoice, load

    return load(
        folders,
        validation,
        config or SplitConfig(validation_fraction=0.5),
        seed=seed,
        channel=ChannelChoice(annotations=AnnotationConfig(**annotations)),
        track=silent_track,
    )
