"""Training throughput on this machine: our loop against `yolo train` with the same arguments and losses.

Steady epochs only (the first one warms up, the last one validates); both see the same drawn images. The aim is 1.5x on
a 2-core CPU.
"""

import csv
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from components.shared.dataset import bring_images
from components.shared.store import FolderStore
from components.train.fit import fit_detector
from components.train.settings import TrainSettings
from tests.training_sets import CLASS_NAMES, shape_rows, write_training_set

IMAGES, VAL, SIDE_PX, EPOCHS, BATCH = 96, 4, 192, 5, 16
SETTINGS = TrainSettings(
    architecture="yolov8n",
    epochs=EPOCHS,
    image_size_px=SIDE_PX,
    batch_size=BATCH,
    effective_batch_size=BATCH,
    optimizer="AdamW",
    learning_rate=0.001,
    momentum=0.9,
    warmup_epochs=1.0,
    mosaic_off_epochs=0,
    validate_every_epochs=0,
)


def ours(folder: Path, store: FolderStore, training_set: Path, precision: str) -> tuple[float, float]:
    """Median seconds of a steady epoch, and the last class loss."""
    out = folder / precision
    fit_detector(training_set, store, "m", SETTINGS.changed(precision=precision), out / "checkpoint", out / "r.html")
    history = json.loads((out / "checkpoint" / "model.json").read_bytes())["history"]
    return statistics.median(entry["seconds"] for entry in history[1:-1]), history[-1]["cls_loss"]


def theirs(folder: Path, store: FolderStore, rows) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """The same of `yolo train`, as anybody would call it, with validation and plots off."""
    data = write_yolo_folder(folder / "yolo", store, rows)
    arguments = {"model": "yolov8n.yaml", "data": data, "epochs": EPOCHS, "imgsz": SIDE_PX, "batch": BATCH}
    arguments |= {"nbs": BATCH, "optimizer": "AdamW", "lr0": 0.001, "momentum": 0.9, "warmup_epochs": 1.0}
    arguments |= {"close_mosaic": 0, "val": False, "plots": False, "cache": "ram", "project": folder, "name": "run"}
    program = "import sys; from ultralytics.cfg import entrypoint; entrypoint()"
    told = [f"{name}={value}" for name, value in arguments.items()]
    environment = os.environ | {"YOLO_CONFIG_DIR": str(folder / "config"), "YOLO_OFFLINE": "true"}
    command = [sys.executable, "-c", program, "detect", "train", *told]
    subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
    with (folder / "run" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    ends = [float(line["time"]) for line in lines]
    steady = [end - start for start, end in itertools.pairwise(ends[:-1])]
    return statistics.median(steady), float(next(value for name, value in lines[-1].items() if "train/cls" in name))


def write_yolo_folder(folder: Path, store: FolderStore, rows) -> Path:  # type: ignore[no-untyped-def]
    """The images and labels as a YOLO data set."""
    for row, file in zip(rows.to_pylist(), bring_images(store, rows, folder / "all"), strict=True):
        images, labels = (folder / kind / row["split"] for kind in ("images", "labels"))
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, images / file.name)
        lines = [
            f"{kind} {(x0 + x1) / 2 / SIDE_PX} {(y0 + y1) / 2 / SIDE_PX} {(x1 - x0) / SIDE_PX} {(y1 - y0) / SIDE_PX}"
            for kind, (x0, y0, x1, y1) in zip(row["class_ids"], row["boxes"], strict=True)
        ]
        (labels / f"{file.stem}.txt").write_text("\n".join(lines))
    named = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(CLASS_NAMES))}
    (folder / "data.yaml").write_text(json.dumps(named))
    return folder / "data.yaml"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = FolderStore(folder / "store")
        rows = shape_rows(store, train=IMAGES, val=VAL, side_px=SIDE_PX)
        training_set = write_training_set(folder / "set", store, rows)
        plain_s, plain_loss = theirs(folder, store, rows)
        print(f"yolo train: {IMAGES / plain_s:.1f} images/s, class loss {plain_loss:.2f}", flush=True)
        for precision in ("fp32", "auto"):
            seconds, loss = ours(folder, store, training_set, precision)
            print(
                f"ours, {precision}: {IMAGES / seconds:.1f} images/s, class loss {loss:.2f}, "
                f"{plain_s / seconds:.2f}x yolo train (aim: 1.5x)",
                flush=True,
            )


if __name__ == "__main__":
    main()
