"""Everything measured about one model file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate.artifacts import Artifact
from components.evaluate.bootstrap import Redraws, Resampled, resample, resampled_map
from components.evaluate.coco import coco_summary
from components.evaluate.errors import error_counts, reliability
from components.evaluate.matching import Matches, match
from components.evaluate.measures import AT_50, AveragePrecision, Counts, average_precision, counts, working_thresholds
from components.evaluate.predictions import Predictions, remembered
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth
from components.shared.digests import digest_file
from components.shared.store import Store

AGREEMENT = 1e-6


@dataclass(frozen=True)
class Measured:
    """One model file on the test set."""

    artifact: Artifact
    predictions: Predictions
    matches: Matches
    thresholds: np.ndarray
    """(C,) working threshold of each class, chosen on val with this very file."""
    counts: Counts
    summary: dict[str, float]
    """COCO's numbers by name."""
    precision: AveragePrecision
    resampled: Resampled
    slices: dict[str, dict[str, np.ndarray]]
    """(B,) resampled mAP of each value of each tag."""
    slice_maps: dict[str, dict[str, float]]
    """The mAP itself."""


def measure(
    artifact: Artifact,
    test: Truth,
    val: Truth,
    parts: dict[str, dict[str, np.ndarray]],
    redraws: Redraws,
    settings: EvaluateSettings,
    store: Store,
    folder: Path,
) -> Measured:
    """Predict, match and count one model file.

    Args:
        parts: (I,) bool of each value of each slice tag.
        folder: For its predictions.
    """
    chosen_on = remembered(artifact.path, val, settings, store, folder / f"{artifact.name}.val.npz")
    thresholds = working_thresholds(match(val, chosen_on), val, settings.working_precision)
    predictions = remembered(artifact.path, test, settings, store, folder / f"{artifact.name}.test.npz")
    matches = match(test, predictions)
    tally = counts(matches, test, thresholds)
    summary, _ = coco_summary(test, predictions)
    precision = average_precision(matches, test)
    _agree(artifact, summary["map_50_95"], precision.mean())
    slices = {
        tag: {value: resampled_map(matches, test, redraws, images) for value, images in values.items()}
        for tag, values in parts.items()
    }
    slice_maps = {
        tag: {value: average_precision(matches, test, images).mean() for value, images in values.items()}
        for tag, values in parts.items()
    }
    resampled = resample(matches, test, tally, redraws)
    return Measured(
        artifact, predictions, matches, thresholds, tally, summary, precision, resampled, slices, slice_maps
    )


def _agree(artifact: Artifact, theirs: float, ours: float) -> None:
    """Two implementations must say the same, or no number is worth a decision."""
    assert np.isnan(ours) or abs(theirs - ours) < AGREEMENT, f"{artifact.name}: COCO mAP {theirs}, matched mAP {ours}"


def model_entry(measured: Measured, test: Truth, parts: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """The model's part of scores.json."""
    names = ("map_50_95", "map_50", "map_75", "map_small", "map_medium", "map_large", "ar_100")
    facts = measured.artifact.facts
    return {
        "digest": digest_file(measured.artifact.path),
        **{name: rounded(measured.summary[name]) for name in names},
        "per_class": {name: class_entry(measured, number) for number, name in enumerate(test.class_names)},
        "slices": {
            tag: {value: slice_entry(measured, test, images) for value, images in values.items()}
            for tag, values in parts.items()
        },
        "ece": rounded(reliability(measured.matches).expected_error),
        "errors": error_counts(measured.matches, test, measured.predictions, measured.thresholds),
        "size_bytes": facts.get("size_bytes", measured.artifact.path.stat().st_size),
        "latency_ms": facts.get("latency_ms", {}).get("p50", 0.0),
        "latency_p95_ms": facts.get("latency_ms", {}).get("p95", 0.0),
        "latency_how": facts.get("latency_ms", {}).get("how", "not measured"),
    }


def class_entry(measured: Measured, number: int) -> dict[str, Any]:
    """One class of one model."""
    hits, alarms, boxes = (
        int(table[:, number].sum()) for table in (measured.counts.hits, measured.counts.alarms, measured.counts.boxes)
    )
    recall, precision = hits / max(boxes, 1), hits / max(hits + alarms, 1)
    return {
        "ap_50_95": rounded(measured.precision.precision[number].mean()),
        "ap_50": rounded(measured.precision.precision[number, AT_50]),
        "recall": rounded(recall),
        "precision": rounded(precision),
        "f1": rounded(2 * recall * precision / max(recall + precision, 1e-12)),
        "threshold": rounded(measured.thresholds[number]),
        "boxes": boxes,
    }


def slice_entry(measured: Measured, test: Truth, images: np.ndarray) -> dict[str, Any]:
    """One model on a part of the test set."""
    part = average_precision(measured.matches, test, images)
    hits, boxes = measured.counts.hits[images].sum(), int(measured.counts.boxes[images].sum())
    return {
        "map_50_95": rounded(part.mean()),
        "map_50": rounded(part.mean(AT_50)),
        "recall": rounded(hits / max(boxes, 1)),
        "images": int(images.sum()),
        "groups": len(np.unique(test.groups[images])),
        "boxes": boxes,
    }


def rounded(value: float) -> float:
    """Six decimals; JSON has no NaN, and COCO's word for "nothing to measure" is -1."""
    return round(float(value), 6) if np.isfinite(value) else -1.0
