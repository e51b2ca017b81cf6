"""Evaluation without a pipeline: anyone's detector on anyone's COCO file, or on a data set version."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate.bootstrap import interval, redraw, resample
from components.evaluate.coco import coco_summary
from components.evaluate.matching import match
from components.evaluate.measured import rounded
from components.evaluate.measures import AT_50, average_precision, counts
from components.evaluate.predictions import Predictions, predict
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth, truth_of_coco, truth_of_rows
from components.shared.dataset import bring_images, read_dataset, read_test_rows
from components.shared.errors import InvalidInput
from components.shared.store import open_store


def evaluate_file(
    model: Path, champion: Path | None, dataset: str, images: Path | None, store_uri: str, settings: EvaluateSettings
) -> dict[str, Any]:
    """COCO numbers of `model`, beside those of `champion` where one is given.

    Returns:
        map_50_95, map_50, map_75, ar_100, images, boxes, per_class; with a champion its own entry, and `difference`
        with a 95 % interval.

    Raises:
        InvalidInput: no such data, no detector, or no class in common.
    """
    with tempfile.TemporaryDirectory() as scratch:
        truth = _truth(dataset, images, store_uri, Path(scratch))
        predictions = predict(model, truth, settings)
        result = _numbers(truth, predictions)
        if champion is None:
            return result
        others = predict(champion, truth, settings)
    result["champion"] = _numbers(truth, others)
    gain = _resampled_map(truth, predictions, settings) - _resampled_map(truth, others, settings)
    low, high = interval(gain)
    value = result["map_50_95"] - result["champion"]["map_50_95"]
    return result | {"difference": {"value": rounded(value), "low": round(low, 6), "high": round(high, 6)}}


def _truth(dataset: str, images: Path | None, store_uri: str, scratch: Path) -> Truth:
    if Path(dataset).is_file():
        return truth_of_coco(Path(dataset), images or Path(dataset).parent)
    if not store_uri:
        raise InvalidInput(f"--dataset {dataset}: no such file; for the digest of a data set version add --store URI")
    store = open_store(store_uri)
    version = read_dataset(store, dataset)
    rows = read_test_rows(store, version)
    return truth_of_rows(rows, version.class_names, bring_images(store, rows, scratch))


def _numbers(truth: Truth, predictions: Predictions) -> dict[str, Any]:
    summary, _ = coco_summary(truth, predictions)
    precision = average_precision(match(truth, predictions), truth)
    boxes = truth.boxes_of_class()
    return {
        **{name: rounded(summary[name]) for name in ("map_50_95", "map_50", "map_75", "ar_100")},
        "images": len(truth.images),
        "boxes": int(boxes.sum()),
        "per_class": {
            name: {
                "ap_50_95": rounded(precision.precision[number].mean()),
                "ap_50": rounded(precision.precision[number, AT_50]),
                "boxes": int(boxes[number]),
            }
            for number, name in enumerate(truth.class_names)
        },
    }


def _resampled_map(truth: Truth, predictions: Predictions, settings: EvaluateSettings) -> np.ndarray:
    matches = match(truth, predictions)
    tally = counts(matches, truth, np.zeros(len(truth.class_names)))
    redraws = redraw(truth.groups, settings.resamples, settings.seed)
    return resample(matches, truth, tally, redraws).map_50_95
