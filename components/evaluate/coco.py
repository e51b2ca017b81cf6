"""COCO's own summary numbers: by faster-coco-eval, and by our matching where that would take too much memory.

The library wants a dictionary a detection: a million of them are most of a gigabyte. Tests hold both to pycocotools.
"""

from typing import Any

import numpy as np

from components.evaluate.matching import ANY_AREA, LARGE, MEDIUM, SMALL, match
from components.evaluate.measures import AT_50, average_precision
from components.evaluate.predictions import Predictions
from components.evaluate.truth import Truth

NAMES = (
    "map_50_95", "map_50", "map_75", "map_small", "map_medium", "map_large",
    "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip

MOST_DETECTIONS = 200_000
AT_75 = 5


def coco_summary(truth: Truth, predictions: Predictions) -> tuple[dict[str, float], np.ndarray]:
    """The twelve COCO numbers by name (-1 where nothing is labelled), and (C, T) average precision of each class."""
    few = len(predictions.scores) <= MOST_DETECTIONS
    return library_summary(truth, predictions) if few else own_summary(truth, predictions)


def library_summary(truth: Truth, predictions: Predictions) -> tuple[dict[str, float], np.ndarray]:
    """The same by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    labels = COCO(coco_dataset(truth), print_function=_quiet)
    if not len(predictions.scores):
        return dict.fromkeys(NAMES, 0.0), np.zeros((len(truth.class_names), 10))
    results = labels.loadRes(coco_results(predictions), min_score=0.0)
    run = COCOeval_faster(labels, results, "bbox", print_function=_quiet, extra_calc=False)
    run.run()
    precision = run.eval["precision"][:, :, :, 0, -1]
    per_class = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1)).T
    return dict(zip(NAMES, (float(value) for value in run.stats[:12]), strict=True)), per_class


def own_summary(truth: Truth, predictions: Predictions) -> tuple[dict[str, float], np.ndarray]:
    """The same by our own matching: seven passes over flat arrays."""
    whole, *sizes = (
        average_precision(match(truth, predictions, area), truth) for area in (ANY_AREA, SMALL, MEDIUM, LARGE)
    )
    few = (average_precision(match(truth, predictions, max_detections=most), truth) for most in (1, 10))
    numbers = [whole.mean(), whole.mean(AT_50), whole.mean(AT_75), *(part.mean() for part in sizes)]
    numbers += [*(part.mean_recall() for part in few), whole.mean_recall(), *(part.mean_recall() for part in sizes)]
    named = {name: -1.0 if np.isnan(number) else number for name, number in zip(NAMES, numbers, strict=True)}
    return named, whole.precision


def coco_dataset(truth: Truth) -> dict[str, Any]:
    """The truth as a COCO dictionary; image and category numbers from 1."""
    columns = (truth.image_index + 1, truth.class_ids + 1, truth.xywh_px, truth.areas_px2, truth.crowd.astype(int))
    annotations = [
        {"id": number, "image_id": image, "category_id": kind, "bbox": box, "area": area, "iscrowd": crowd}
        for number, (image, kind, box, area, crowd) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), start=1
        )
    ]
    images = [{"id": number + 1, "width": 1, "height": 1} for number in range(len(truth.images))]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(truth.class_names)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def coco_results(predictions: Predictions) -> list[dict[str, Any]]:
    """The predictions as COCO results."""
    columns = (predictions.image_index + 1, predictions.class_ids + 1, predictions.xywh_px, predictions.scores)
    return [
        {"image_id": image, "category_id": kind, "bbox": box, "score": score}
        for image, kind, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _quiet(*_: object) -> None:
    """faster-coco-eval reports its progress through this."""
