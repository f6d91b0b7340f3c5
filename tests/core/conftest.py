"""Prepared images that go with the tiny configuration, and one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")


from cellunet.core.dataset import Prepared, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads, on a busy machine many times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_images(make_sample, tiny_config) -> list[Prepared]:
    """Three prepared images, 64 x 64, 64 x 80 and 20 x 40: smaller than a crop too."""
    shapes = ((64, 64), (64, 80), (20, 40))
    return [prepare(make_sample(s, i), tiny_config) for i, s in enumerate(shapes)]
