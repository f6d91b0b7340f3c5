"""Score the shipped model on annotated fields, then label images of any tool."""

import sys
from pathlib import Path

from cellunet.tasks.evaluate import evaluate_folders, evaluate_model
from cellunet.tasks.predict.batch import predict

HERE = Path(__file__).parent


def main(out: Path) -> None:
    found = evaluate_model(HERE / "annotated")
    for group, scores in found.groups.items():
        summary = scores.summaries["all"]
        print(
            f"{group}: {len(scores.names)} images, mean AP {summary.mean_ap.value:.3f}"
        )
    if found.only_seen:
        print("No image is new to the model: these figures flatter it.")

    predict([str(HERE / "annotated" / "images")], out)
    folders = evaluate_folders(out, HERE / "annotated" / "labels")
    print(f"label images in {out}: mean AP {folders.headline.mean_ap.value:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "masks"))
