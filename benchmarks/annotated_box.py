"""One annotated box in a large field: what its training reads and keeps.

``python benchmarks/annotated_box.py BBBC039 [--sides 1500 6000]``: fields tiled of the
set's images, 256 x 256 pixels of each annotated. For each side, in a process of its
own: seconds and peak memory of reading, of preparing, and of the crops of 25 steps.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cellunet.annotations.pairs import find_pairs
from cellunet.annotations.read import read_labels
from cellunet.config import SplitConfig, TrainConfig
from cellunet.progress import silent_track

BOX = 256
STEPS = 25


def write_fields(source: Path, folder: Path, side: int) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    pairs = find_pairs(source).pairs[:4]
    tiles = [tifffile.imread(p.image) for p in pairs]
    height, width = tiles[0].shape
    for number, name in enumerate(("a", "b")):
        rows = [
            np.hstack([tiles[(i + j + number) % 4] for j in range(side // width + 1)])
            for i in range(side // height + 1)
        ]
        image = np.vstack(rows)[:side, :side]
        # Whole tiles down and across: the box lies in the upper left of one.
        y0, x0 = side // 2 // height * height, side // 2 // width * width
        tile = (y0 // height + x0 // width + number) % 4
        labels = read_labels(pairs[tile].annotation)[:BOX, :BOX]
        tifffile.imwrite(folder / "images" / f"{name}.tif", image)
        path = folder / "labels" / f"{name}.geojson"
        path.write_text(json.dumps(features(labels, x0, y0)))


def features(labels: np.ndarray, x0: int, y0: int) -> list[dict[str, object]]:
    """Return the box, and squares in the places of nuclei: it is time that counts."""
    found = [square(x0, y0, BOX, "Region*")]
    for number in np.unique(labels[labels > 0]):
        ys, xs = np.nonzero(labels == number)
        side = max(int(np.sqrt(len(ys))), 2)
        corner = (x0 + int(xs.mean()) - side // 2, y0 + int(ys.mean()) - side // 2)
        found.append(square(*corner, side, "Nucleus"))
    return found


def square(x: int, y: int, side: int, name: str) -> dict[str, object]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": name}},
    }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(folder: Path) -> None:
    """Read, prepare and crop; print a JSON line."""
    from cellunet.core.dataset import CropSampler, prepare
    from cellunet.core.trainer import Distributed
    from cellunet.tasks.train.data import ChannelChoice, load

    config = TrainConfig()
    found = {"before_mb": peak_mb()}
    begin = time.perf_counter()
    data = load(
        (folder,),
        None,
        SplitConfig(validation_fraction=0.5),
        seed=0,
        channel=ChannelChoice(),
        track=silent_track,
    )
    found |= {"read_s": time.perf_counter() - begin, "read_mb": peak_mb()}
    begin = time.perf_counter()
    prepared = [prepare(s, config) for s in (*data.training, *data.validation)]
    found |= {"prepare_s": time.perf_counter() - begin, "prepare_mb": peak_mb()}
    sampler = CropSampler(prepared[:1], config, Distributed())
    begin = time.perf_counter()
    batches = [sampler.batch(0, step) for step in range(STEPS)]
    found["crops_s"] = time.perf_counter() - begin
    counted = [float((b.weight_map > 0).float().mean()) for b in batches]
    found["share_of_crops_that_counts"] = float(np.mean(counted))
    found["kept_mpx"] = sum(p.class_map.size for p in prepared) / 1e6
    print(json.dumps({k: round(v, 3) for k, v in found.items()}))


def main(args: argparse.Namespace) -> None:
    if args.one:
        one(args.data)
        return
    for side in args.sides:
        with tempfile.TemporaryDirectory(dir=args.work) as temporary:
            folder = Path(temporary) / "fields"
            write_fields(args.data, folder, side)
            command = [sys.executable, __file__, str(folder), "--one"]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            print(side, ran.stdout.strip(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[1500, 6000])
    parser.add_argument("--work", type=Path, help="folder for the fields")
    parser.add_argument("--one", action="store_true", help="for its child processes")
    main(parser.parse_args())
