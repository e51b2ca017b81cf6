"""The sample parts as benchmarks use them: shifts taken in, detectors trained by the steps' own functions, test mAP."""

import json
from pathlib import Path

from components.augment.augment import augment
from components.augment.settings import AugmentSettings
from components.calibrate.accuracy import Truth, Yardstick, detect_all, labels
from components.export.export import export_checkpoint
from components.intake.intake import take_in
from components.shared.dataset import bring_images, read_dataset, read_rows
from components.shared.store import Store, open_store
from components.train.fit import fit_detector
from components.train.settings import TrainSettings
from pipelines.recipes import demo
from pipelines.sample.factory import write_shift

THREADS = 2


class Parts:
    """A workspace with the demo's settings; what was trained in it before is remembered."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.store: Store = open_store((self.root / "store").as_uri())

    def take_in(self, shift: str, images: int, seed: int) -> None:
        """Make one more shift part of the data set."""
        folder = self.root / "inbox" / f"{shift}-{seed}"
        if not folder.exists():
            write_shift(folder, shift, images, seed=seed)  # type: ignore[arg-type]
        take_in(str(self.root / "inbox"), self.store, demo().intake, self.root / "dataset", self.root / "intake.html")

    def training_set(self, name: str, settings: AugmentSettings) -> Path:
        """Folder of the training set under these settings."""
        augment(self.root / "dataset", self.store, settings, self.root / name, self.root / f"{name}.html")
        return self.root / name

    def train(self, name: str, training_set: Path, settings: TrainSettings) -> Path:
        """Train from scratch, or from `settings.weights`; gives the checkpoint."""
        folder = self.root / name
        fit_detector(training_set, self.store, f"bench-{name}", settings, folder / "checkpoint", folder / "train.html")
        return folder / "checkpoint" / "model.pt"

    def export(self, name: str, training_set: Path) -> Path:
        """The FP32 ONNX of what `train` made under this name."""
        folder = self.root / name
        export_checkpoint(folder / "checkpoint", training_set, self.store, demo().export, folder / "onnx")
        return folder / "onnx" / "model.onnx"

    def test_truth(self, shift: str = "") -> Truth:
        """Test images with their boxes, of one shift where it is named."""
        version = read_dataset(self.store, json.loads((self.root / "dataset" / "dataset.json").read_bytes())["digest"])
        rows = read_rows(self.store, version, "test")
        places = [at for at, tags in enumerate(rows["tags"].to_pylist()) if shift in ("", dict(tags).get("shift"))]
        rows = rows.take(places)
        images = bring_images(self.store, rows, self.root / "images")
        return labels(images, rows.select(["boxes", "class_ids"]).to_pylist(), version.class_names)


def map_on(model: Path, truth: Truth) -> float:
    """mAP50-95 of a file on test images, in points."""
    return 100 * Yardstick(truth, detect_all(model, truth.images, THREADS)).map_50_95
