"""What INT8 costs in mAP and recall, against the labels of held-out images or, without labels, FP32's own boxes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.calibrate.images import read_image
from components.shared.agreement import MIN_SCORE, agreement, match_boxes
from components.shared.detection import Detections, load_detector

FOLDS = 8


@dataclass(frozen=True)
class Truth:
    """Held-out images and the boxes that count as right on them."""

    images: tuple[Path, ...]
    boxes: tuple[Detections, ...]
    class_names: tuple[str, ...]
    labelled: bool
    """False where the boxes are the FP32 model's own."""


@dataclass(frozen=True)
class Loss:
    """Points lost from FP32 to INT8; negative where INT8 is ahead."""

    map_points: float
    recall_points: dict[str, float]
    """By class."""
    score_change: float
    """Mean change of the scores of boxes that both find: tells apart what mAP cannot."""


def own_truth(images: Sequence[Path], found: Sequence[Detections], class_names: Sequence[str]) -> Truth:
    """FP32's confident boxes as the truth, for images without labels."""
    boxes = [_where(detections, detections.scores >= MIN_SCORE) for detections in found]
    return Truth(tuple(images), tuple(boxes), tuple(class_names), labelled=False)


def labels(images: Sequence[Path], rows: Sequence[dict], class_names: Sequence[str]) -> Truth:
    """Labels of data set rows as the truth."""
    boxes = [
        Detections(
            np.asarray(row["boxes"] or [], np.float32).reshape(-1, 4),
            np.ones(len(row["boxes"] or []), np.float32),
            np.asarray(row["class_ids"] or [], np.int64),
        )
        for row in rows
    ]
    return Truth(tuple(images), tuple(boxes), tuple(class_names), labelled=True)


def detect_all(model: Path, images: Sequence[Path], threads: int) -> list[Detections]:
    """Boxes of `model` on each image, down to the scores that mAP looks at.

    Images run side by side, each on one thread: how a runtime splits a sum over threads changes the last digits.
    """
    detector = load_detector(model, threads=1)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(lambda path: detector.detect([read_image(path)])[0], images))


def compare_files(model: Path, other: Path, images: Sequence[Path], threads: int = 0) -> dict[str, float]:
    """Agreement of the confident boxes of two files; see `components.shared.agreement`."""
    found = [detect_all(path, images, threads) for path in (model, other)]
    confident = [[_where(one, one.scores >= MIN_SCORE) for one in side] for side in found]
    return agreement(list(zip(*confident, strict=True)))


class Yardstick:
    """FP32's boxes on the held-out images, measured once."""

    def __init__(self, truth: Truth, reference: Sequence[Detections]) -> None:
        self.truth, self.reference = truth, reference
        self.every = list(range(len(truth.images)))
        self.map_50_95 = mean_average_precision(truth, reference, self.every)
        self.hits = _hits(truth, reference)

    def compare(self, candidate: Sequence[Detections]) -> Loss:
        """What `candidate` loses to FP32."""
        points = 100 * (self.map_50_95 - mean_average_precision(self.truth, candidate, self.every))
        lost = 100 * (self.hits - _hits(self.truth, candidate)) / np.maximum(self.boxes(), 1)
        named = zip(self.truth.class_names, lost, self.boxes(), strict=True)
        return Loss(
            map_points=round(points, 3),
            recall_points={name: round(float(value), 3) for name, value, count in named if count},
            score_change=round(_score_change(self.reference, candidate), 5),
        )

    def margin(self, candidate: Sequence[Detections]) -> float:
        """Half the width of the 95 % interval of the mAP points lost; 100, which is all, for a single image.

        Source: delete-a-group jackknife, B. Efron, 1982.
        """
        folds = min(FOLDS, len(self.every))
        if folds < 2:
            return 100.0
        points = []
        for fold in range(folds):
            kept = [place for place in self.every if place % folds != fold]
            before, after = (mean_average_precision(self.truth, one, kept) for one in (self.reference, candidate))
            points.append(100 * (before - after))
        return round(1.96 * float(np.sqrt((folds - 1) * np.var(points))), 3)

    def boxes(self) -> np.ndarray:
        """True boxes of each class."""
        counts = np.zeros(len(self.truth.class_names))
        for expected in self.truth.boxes:
            counts += np.bincount(expected.class_ids, minlength=len(counts))
        return counts


def mean_average_precision(truth: Truth, found: Sequence[Detections], kept: Sequence[int]) -> float:
    """COCO mAP50-95 over the images `kept`; 0 where they hold no box.

    Source: https://cocodataset.org/#detection-eval, by faster-coco-eval.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    annotations = [
        {"id": 0, "image_id": image + 1, "category_id": kind + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for image in kept
        for kind, box in zip(truth.boxes[image].class_ids.tolist(), _xywh(truth.boxes[image]), strict=True)
    ]
    results = [
        {"image_id": image + 1, "category_id": kind + 1, "bbox": box, "score": score}
        for image in kept
        for kind, box, score in zip(
            found[image].class_ids.tolist(), _xywh(found[image]), found[image].scores.tolist(), strict=True
        )
    ]
    if not annotations or not results:
        return 0.0
    dataset: dict[str, Any] = {
        "info": {},
        "images": [{"id": image + 1, "width": 1, "height": 1} for image in kept],
        "annotations": [annotation | {"id": number} for number, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(truth.class_names)],
    }
    expected = COCO(dataset, print_function=_quiet)
    run = COCOeval_faster(expected, expected.loadRes(results, min_score=0.0), "bbox", print_function=_quiet)
    run.run()
    return max(float(run.stats[0]), 0.0)


def _hits(truth: Truth, found: Sequence[Detections]) -> np.ndarray:
    """Boxes found with a score of at least 0.25, by class."""
    hits = np.zeros(len(truth.class_names))
    for expected, detections in zip(truth.boxes, found, strict=True):
        for left, _, _ in match_boxes(expected, _where(detections, detections.scores >= MIN_SCORE)):
            hits[expected.class_ids[left]] += 1
    return hits


def _score_change(reference: Sequence[Detections], candidate: Sequence[Detections]) -> float:
    changes: list[float] = []
    for first, second in zip(reference, candidate, strict=True):
        confident = _where(first, first.scores >= MIN_SCORE)
        changes.extend(
            abs(confident.scores[left] - second.scores[right]) for left, right, _ in match_boxes(confident, second)
        )
    return float(np.mean(changes)) if changes else 0.0


def _where(found: Detections, mask: np.ndarray) -> Detections:
    return Detections(found.xyxy_px[mask], found.scores[mask], found.class_ids[mask])


def _xywh(found: Detections) -> list[list[float]]:
    boxes = found.xyxy_px.astype(float).copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist()


def _quiet(*_: object) -> None:
    """faster-coco-eval reports its progress through this."""
