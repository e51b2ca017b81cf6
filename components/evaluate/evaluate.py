"""The evaluate step: challenger and champion on the frozen test set, float and INT8, with what the gate needs."""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.evaluate.artifacts import challenger_artifacts, champion_artifacts
from components.evaluate.bootstrap import redraw
from components.evaluate.differences import differences
from components.evaluate.errors import confusion
from components.evaluate.measured import Measured, measure, model_entry
from components.evaluate.page import evaluation_page
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth, truth_of_rows
from components.shared.dataset import (
    DatasetVersion,
    bring_images,
    digest_of,
    read_dataset,
    read_rows,
    read_test_rows,
)
from components.shared.errors import InvalidInput
from components.shared.store import Store

logger = logging.getLogger(__name__)
MIN_PART_IMAGES = 2


def evaluate_night(
    onnx_folder: Path,
    int8_folder: Path,
    engines_folder: Path,
    dataset_folder: Path,
    store: Store,
    model_name: str,
    settings: EvaluateSettings,
    scores_folder: Path,
    report_path: Path,
) -> dict[str, float | str]:
    """Measure the night's models and the champion's; write scores.json, resamples.npz and the report.

    Returns:
        Headline numbers, flat.

    Raises:
        InvalidInput: an empty test set, a model that is no detector, or a champion whose files are gone.
    """
    version = read_dataset(store, digest_of(dataset_folder))
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        test_rows = read_test_rows(store, version)
        if not test_rows.num_rows:
            raise InvalidInput(
                f"test set {version.test_set}: empty, expected images to measure on: add groups to the inbox"
            )
        test = _truth(store, test_rows, version, work / "images")
        val = _truth(store, _val_rows(store, version, settings), version, work / "images")
        champion_version, champions = champion_artifacts(store, model_name, work / "champion")
        artifacts = challenger_artifacts(onnx_folder, int8_folder, engines_folder, settings.engine_targets)
        parts = parts_by_tag(test, settings.slice_tags)
        units = test.groups if settings.resample_by == "group" else np.arange(len(test.images))
        redraws = redraw(units, settings.resamples, settings.seed)
        models = {
            artifact.name: measure(artifact, test, val, parts, redraws, settings, store, work)
            for artifact in artifacts + champions
        }
        scores = _scores(version, test, champion_version, models, parts)
        scores["units"] = redraws.weights.shape[1]
        scores["leaks"] = count_leaks(test_rows, read_rows(store, version, "train"))
        report = evaluation_page(scores, models, test, settings)
        _write(scores_folder, scores, models, report, _confused(models["challenger.int8"], test))
        report_path.parent.mkdir(parents=True, exist_ok=True)
        report_path.write_text(report, encoding="utf-8")
    logger.info("test_images=%d leaks=%d scores=%s", len(test.images), scores["leaks"], scores_folder / "scores.json")
    return headline(scores)


def parts_by_tag(test: Truth, tags: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """(I,) bool of each value of each tag that tells images of the test set apart."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for tag in tags:
        values = np.array([image.get(tag, "") for image in test.tags])
        found = {str(value): values == value for value in np.unique(values) if value}
        found = {value: images for value, images in found.items() if images.sum() >= MIN_PART_IMAGES}
        if found:
            parts[tag] = found
    return parts


def count_leaks(test_rows: pa.Table, train_rows: pa.Table) -> int:
    """Train images that the test set also holds, or that share a group with it."""
    same_image = pc.is_in(train_rows["image_sha256"], value_set=test_rows["image_sha256"].combine_chunks())
    same_group = pc.is_in(train_rows["group"], value_set=test_rows["group"].combine_chunks())
    return int(pc.sum(pc.or_(same_image, same_group)).as_py() or 0)


def headline(scores: dict[str, Any]) -> dict[str, float | str]:
    """The few numbers for the KFP UI and MLflow, flat."""
    flat: dict[str, float | str] = {"dataset": scores["dataset"], "test_set": scores["test_set"]}
    for role in ("challenger", "champion"):
        for kind, entry in (scores[role] or {}).items():
            flat |= {
                f"{role}_{kind}_{name}": entry[name] for name in ("map_50_95", "map_50", "size_bytes", "latency_ms")
            }
    flat |= {f"gain_{kind}_map_50_95": one["map_50_95"]["value"] for kind, one in scores["differences"].items()}
    return flat | {"leaks": float(scores["leaks"]), "champion_version": float(scores["champion_version"] or 0)}


def _truth(store: Store, rows: pa.Table, version: DatasetVersion, folder: Path) -> Truth:
    return truth_of_rows(rows, version.class_names, bring_images(store, rows, folder))


def _val_rows(store: Store, version: DatasetVersion, settings: EvaluateSettings) -> pa.Table:
    """Val images, the first by digest: as good as random, and the same every night."""
    return read_rows(store, version, "val").slice(0, settings.max_val_images)


def _scores(
    version: DatasetVersion,
    test: Truth,
    champion_version: int,
    models: dict[str, Measured],
    parts: dict[str, dict[str, np.ndarray]],
) -> dict[str, Any]:
    entries = {name: model_entry(model, test, parts) for name, model in models.items()}

    def of(role: str) -> dict[str, Any]:
        return {name.split(".", 1)[1]: entry for name, entry in entries.items() if name.startswith(f"{role}.")}

    return {
        "dataset": version.digest,
        "test_set": version.test_set,
        "test_digest": test.digest,
        "test_images": len(test.images),
        "test_boxes": int((~test.crowd).sum()),
        "class_names": list(test.class_names),
        "first_version": not champion_version,
        "champion_version": champion_version or None,
        "challenger": of("challenger"),
        "champion": of("champion") or None,
        "engines": of("engine"),
        **differences(models, test),
    }


def _confused(model: Measured, test: Truth) -> dict[str, Any]:
    """Boxes by labelled class (rows; the last is none) and by found class, as the KFP UI draws them."""
    table = confusion(test, model.predictions, model.thresholds)
    return {"categories": [*test.class_names, "nothing"], "matrix": table.astype(int).tolist()}


def _write(
    folder: Path, scores: dict[str, Any], models: dict[str, Measured], report: str, confused: dict[str, Any]
) -> None:
    """The whole folder at once.

    resamples.npz lets the gate choose its own confidence, report.html lets it put the verdict on top, headline.json is
    flat, for whatever draws numbers over time, and confusion.json is for the KFP UI.
    """
    if folder.exists():
        shutil.rmtree(folder)
    beside = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    (beside / "scores.json").write_text(json.dumps(scores, indent=1, allow_nan=False))
    (beside / "headline.json").write_text(json.dumps(headline(scores), indent=1))
    (beside / "confusion.json").write_text(json.dumps(confused))
    (beside / "report.html").write_text(report, encoding="utf-8")
    arrays: dict[str, np.ndarray] = {}
    for name, model in models.items():
        arrays[f"{name}.map_50_95"] = model.resampled.map_50_95.astype(np.float32)
        arrays[f"{name}.ap"], arrays[f"{name}.recall"] = model.resampled.ap, model.resampled.recall
        for tag, values in model.slices.items():
            arrays |= {f"{name}.slice.{tag}.{value}": part.astype(np.float32) for value, part in values.items()}
    np.savez(beside / "resamples.npz", **arrays)  # type: ignore[arg-type]
    beside.rename(folder)
