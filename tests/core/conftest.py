"""A tiny configuration, prepared images to go with it, and one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.dataset import Prepared, Sample, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads, on a busy machine many times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """Two levels, crops of 32 px, 2 epochs of 4 steps."""
    return TrainConfig(
        network=UNetConfig(channels=(4, 8)),
        crop_px=32,
        batch=2,
        epochs=2,
        steps_per_epoch=4,
        warmup_steps=2,
        precision="float32",
        seed=5,
    )


@pytest.fixture(scope="session")
def make_sample(nuclei_image) -> Callable[..., Sample]:
    """``make_sample(shape, seed)``: a fully annotated sample of drawn nuclei."""

    def make(
        shape: tuple[int, int] = (64, 64), seed: int = 0, count: int = 9
    ) -> Sample:
        image, labels = nuclei_image(shape, count, seed)
        return Sample(
            name=f"drawn {seed}",
            image=image[np.newaxis],
            labels=labels,
            annotated=np.ones(shape, bool),
        )

    return make


@pytest.fixture(scope="session")
def tiny_images(make_sample, tiny_config) -> list[Prepared]:
    """Three prepared images, 64 x 64, 64 x 80 and 20 x 40: smaller than a crop too."""
    shapes = ((64, 64), (64, 80), (20, 40))
    return [prepare(make_sample(s, i), tiny_config) for i, s in enumerate(shapes)]
