"""Train a detector: from the training set's manifest to a checkpoint and its report."""

import json
import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.dataset import bring_images
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.memory import once, step_key
from components.shared.store import Store
from components.train.quiet import quieten_ultralytics
from components.train.settings import TrainSettings

logger = logging.getLogger(__name__)


def fit_detector(
    training_set_folder: Path,
    store: Store,
    model_name: str,
    settings: TrainSettings,
    checkpoint_folder: Path,
    report_path: Path,
) -> dict[str, Any]:
    """Train, or fetch what the same inputs gave before.

    Args:
        training_set_folder: With training_set.json and rows.parquet.
        store: Holds the images, the champion, and the state that a killed run resumes from.
        model_name: Its champion is the starting point where there is one.
        settings: Of the step.
        checkpoint_folder: Receives model.pt and model.json.
        report_path: Receives the HTML report.

    Returns:
        Plain values worth showing beside the artifact.

    Raises:
        InvalidInput: no images, a corrupt object, weights that do not fit, a loss that became NaN.
        MissingCapability: a device or precision that this machine lacks.
    """
    class_names, rows = _read_training_set(training_set_folder)
    with tempfile.TemporaryDirectory(prefix="yanshan-train-") as name:
        scratch = Path(name)
        quieten_ultralytics(scratch / "ultralytics")
        from components.train.start import find_start

        start = find_start(store, model_name, settings, scratch)
        inputs = {
            "rows": digest_file(training_set_folder / "rows.parquet"),
            "class_names": class_names,
            "start": start.digest,
            "teacher": digest_file(Path(settings.teacher)) if settings.teacher else "",
            "settings": settings.model_dump(mode="json"),
            "versions": {package: version(package) for package in ("torch", "ultralytics")},
        }
        state_name = f"runs/{step_key('train', inputs)}/train/state.pt"

        def work() -> None:
            from components.train.night import Night, train_night
            from components.train.nodes import launch_nodes
            from components.train.ranks import Job, count_ranks, launch_ranks

            values = settings.model_dump(mode="json")
            training_set = str(training_set_folder.resolve())
            checkpoint, report = str(checkpoint_folder.resolve()), str(report_path.resolve())
            names = (store.uri, model_name, state_name)
            job = Job(training_set, class_names, *names, values, str(scratch), checkpoint, report)
            if settings.nodes > 1:
                launch_nodes(job, store, settings)
                return
            ranks = count_ranks(settings)
            files = bring_images(store, rows, scratch / "images")
            if ranks > 1:
                launch_ranks(job, ranks)
                return
            places = (store, state_name, settings, checkpoint_folder, report_path)
            train_night(Night(rows, files, class_names, start, *places))

        outputs = {"checkpoint": checkpoint_folder, "training_report": report_path}
        remembered = once(store, "train", inputs=inputs, outputs=outputs, work=work)
        if store.exists(state_name):
            store.put(state_name, b"")  # its fit has ended and its weights are in the checkpoint
    return _summary(checkpoint_folder, remembered)


def _read_training_set(folder: Path) -> tuple[list[str], pa.Table]:
    """Class names and rows.

    Raises:
        InvalidInput: the folder is not a training set, or has no labelled image to train on.
    """
    try:
        facts = json.loads((folder / "training_set.json").read_bytes())
        rows = pq.read_table(folder / "rows.parquet")
    except (OSError, ValueError) as fault:
        raise InvalidInput(f"training set {folder}: expected training_set.json and rows.parquet ({fault})") from fault
    train = [row for row in rows.select(["split", "boxes", "class_ids"]).to_pylist() if row["split"] == "train"]
    if not any(row["boxes"] for row in train):
        raise InvalidInput(f"training set {folder}: {len(train)} train images and no box in them, expected some")
    seen = {one for row in train for one in row["class_ids"]}
    if missing := [name for place, name in enumerate(facts["class_names"]) if place not in seen]:
        logger.warning("classes without a training box: %s; the detector will not find them", ", ".join(missing))
    return facts["class_names"], rows


def _summary(checkpoint_folder: Path, remembered: bool) -> dict[str, Any]:
    facts = json.loads((checkpoint_folder / "model.json").read_bytes())
    last = facts["history"][-1]
    shown = {name: facts[name] for name in ("digest", "architecture", "start", "epochs", "parameters", "seconds")}
    return shown | {name: last[name] for name in ("map_50_95", "map_50") if name in last} | {"remembered": remembered}
