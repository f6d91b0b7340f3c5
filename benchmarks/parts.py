"""Time the parts of training and prediction, one by one, on an example field.

    python benchmarks/parts.py

The field is `examples/images/u2os_N12_s7.tif`, 520 x 696 pixels with the 194 nuclei
that the shipped model finds in it. Medians of many calls; a training step takes a batch
of ready crops.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cellunet import predict
from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.dataset import CropSampler, Sample, prepare
from cellunet.core.distributed import Distributed
from cellunet.core.trainer import Trainer, new_state
from cellunet.imaging.annotations import read_labels
from cellunet.imaging.decoding import decode_plane
from cellunet.imaging.encoding import encode
from cellunet.imaging.files import Region, create_labels, open_image
from cellunet.imaging.image_scores import score_image
from cellunet.imaging.normalize import measure, normalize
from cellunet.imaging.weights import border_map

FIELD = Path(__file__).parents[1] / "examples" / "images" / "u2os_N12_s7.tif"
NETWORKS = {
    "default": UNetConfig(),
    "full resolution": UNetConfig(channels=(16, 32, 64, 128), stem_stride=1),
}


def milliseconds(call: Callable[[], object], times: int = 15) -> float:
    """Return the median time of a call after one that is not counted."""
    call()
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(found)


def read() -> np.ndarray:
    with open_image(FIELD) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0]


def write(path: Path, labels: np.ndarray) -> None:
    with create_labels(
        path,
        shape=labels.shape,
        plane_axes="",
        plane_shape=(),
        dtype=np.uint16,
        pixel_size_um=None,
        provenance={},
    ) as sink:
        sink.write(0, 0, labels.astype(np.uint16))
        sink.commit()


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        predict([str(FIELD)], out)
        labels = read_labels(out / FIELD.name, kind="labels")
        config, image = TrainConfig(), read()
        class_map = encode(labels, config.encoding)
        one_hot = np.stack([class_map == c for c in range(3)]).astype(np.float32)
        known = measure(lambda: [image], config.normalization)
        parts = {
            "open and read": read,
            "statistics": lambda: measure(lambda: [image], config.normalization),
            "normalise": lambda: normalize(image, known, config.normalization),
            "encode labels": lambda: encode(labels, config.encoding),
            "border weights": lambda: border_map(labels, config.weights),
            "decode": lambda: decode_plane(one_hot, config.encoding, config.decode),
            "score": lambda: score_image(labels, labels, name="field"),
            "write, flushed": lambda: write(out / "again.tif", labels),
        }
        for name, call in parts.items():
            print(f"{name}: {milliseconds(call):.1f} ms")
    sample = Sample(
        name="field",
        image=image[None],
        labels=labels,
        annotated=np.ones(labels.shape, bool),
    )
    training_steps(config, sample)


def training_steps(config: TrainConfig, sample: Sample) -> None:
    device = torch.device("cpu")
    prepared = [prepare(sample, config)]
    sampler = CropSampler(prepared, config, Distributed())
    print(f"a batch of crops: {milliseconds(lambda: sampler.batch(0, 0)):.0f} ms")
    batch = sampler.batch(0, 0)
    for name, network in NETWORKS.items():
        for precision in ("bfloat16", "float32"):
            tried = config.replace(network=network, precision=precision)
            trainer = Trainer(prepared, prepared, tried, device)
            state = new_state(tried, device)
            taken = milliseconds(lambda t=trainer, s=state: t.step(s, batch))
            print(f"a training step, {name} network, {precision}: {taken:.0f} ms")


if __name__ == "__main__":
    main()
