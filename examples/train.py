"""Train a small model on six annotated fields, for seconds only, and keep it.

A real training takes the default settings: ``TrainConfig()`` or ``cellunet train``.
"""

import os
import sys
from pathlib import Path

from cellunet.config import TrainConfig, UNetConfig
from cellunet.tasks.train.request import TrainRequest
from cellunet.tasks.train.train import train

HERE = Path(__file__).parent


def main(out: Path) -> None:
    # Models live here instead of in the user's data directory.
    os.environ["CELLUNET_HOME"] = str(out)
    config = TrainConfig(
        network=UNetConfig(channels=(16, 32)),
        epochs=2,
        steps_per_epoch=20,
        crop_px=64,
        batch=4,
    )
    request = TrainRequest(
        data=(HERE / "annotated",), name="example", config=config, overwrite=True
    )
    trained = train(request)
    for row in trained.history:
        losses = (row["train_loss"], row["validation_loss"])
        print(
            "epoch {:.0f}: loss {:.3f}, validation {:.3f}".format(row["epoch"], *losses)
        )
    print(f"scores on its one validation image: {trained.scores}")
    print(f"model in {trained.folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
