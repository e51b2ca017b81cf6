"""Numbers from matches: average precision, working thresholds, recall and precision at them."""

from dataclasses import dataclass

import numpy as np

from components.evaluate.matching import IOU_THRESHOLDS, Matches
from components.evaluate.truth import Truth

RECALLS = np.linspace(0.0, 1.0, 101)
AT_50 = 0
"""Place of IoU 0.5 among the thresholds."""


@dataclass(frozen=True)
class AveragePrecision:
    """COCO average precision and recall; NaN for a class without labelled boxes."""

    precision: np.ndarray
    """(C, T) average precision of each class at each IoU threshold."""
    recall: np.ndarray
    """(C, T) recall at the lowest score."""

    def mean(self, level: int | None = None) -> float:
        """Mean over classes (and IoU thresholds, or one of them); NaN where no class has a labelled box."""
        values = self.precision if level is None else self.precision[:, level]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def mean_recall(self) -> float:
        return float(np.nanmean(self.recall)) if np.isfinite(self.recall).any() else float("nan")


def average_precision(matches: Matches, truth: Truth, images: np.ndarray | None = None) -> AveragePrecision:
    """COCO's 101-point interpolated average precision.

    Args:
        matches: Of all images.
        truth: The same labelled boxes.
        images: (I,) bool, the images that count; all when left out.

    Source: COCOeval.accumulate.
    """
    counted = ~matches.truth_ignored & (True if images is None else images[truth.image_index])
    num_boxes = np.bincount(truth.class_ids[counted], minlength=len(truth.class_names))
    precision = np.full((len(num_boxes), matches.found.shape[1]), np.nan)
    recall = precision.copy()
    bounds = np.searchsorted(matches.class_ids, np.arange(len(num_boxes) + 1))
    for number in np.flatnonzero(num_boxes):
        rows = slice(bounds[number], bounds[number + 1])
        right, ignored = matches.right[rows], matches.ignored[rows]
        if images is not None:
            kept = images[matches.image_index[rows]]
            right, ignored = right[kept], ignored[kept]
        for level in range(right.shape[1]):
            precision[number, level], recall[number, level] = _interpolated(
                right[~ignored[:, level], level], num_boxes[number]
            )
    return AveragePrecision(precision, recall)


def _interpolated(right: np.ndarray, num_boxes: int) -> tuple[float, float]:
    """Average precision and final recall of one class at one IoU threshold, detections best first."""
    if not len(right):
        return 0.0, 0.0
    hits = np.cumsum(right, dtype=np.float64)
    recall = hits / num_boxes
    precision = hits / (np.arange(1, len(hits) + 1) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.where(places < len(envelope), envelope[np.minimum(places, len(envelope) - 1)], 0.0).mean()), float(
        recall[-1]
    )


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class at IoU 0.5 as the score threshold falls."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def curve(matches: Matches, truth: Truth, class_id: int) -> Curve:
    """The precision-recall curve of a class, best score first."""
    counted = (truth.class_ids == class_id) & ~matches.truth_ignored
    rows = (matches.class_ids == class_id) & ~matches.ignored[:, AT_50]
    hits = np.cumsum(matches.right[rows, AT_50])
    return Curve(matches.scores[rows], hits / np.arange(1, len(hits) + 1), hits / max(int(counted.sum()), 1))


def working_thresholds(matches: Matches, truth: Truth, working_precision: float) -> np.ndarray:
    """(C,) score of each class from which on its detections are acted on.

    The lowest score at which precision on these images reaches `working_precision`; where it never does, the score of
    the best F1; 0.25 where there is nothing to choose from.
    """
    return np.array(
        [_threshold(curve(matches, truth, number), working_precision) for number in range(len(truth.class_names))]
    )


def _threshold(line: Curve, working_precision: float) -> float:
    if not len(line.scores) or not line.recall[-1]:
        return 0.25
    last_of_score = np.r_[line.scores[1:] != line.scores[:-1], True]
    scores, precision, recall = line.scores[last_of_score], line.precision[last_of_score], line.recall[last_of_score]
    precise = np.flatnonzero((precision >= working_precision) & (recall > 0))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(scores[precise[-1] if len(precise) else f1.argmax()])


@dataclass(frozen=True)
class Counts:
    """What happened at the working thresholds and IoU 0.5, image by image and class by class."""

    hits: np.ndarray
    """(I, C) labelled boxes found."""
    alarms: np.ndarray
    """(I, C) detections that found nothing."""
    boxes: np.ndarray
    """(I, C) labelled boxes."""


def counts(matches: Matches, truth: Truth, thresholds: np.ndarray) -> Counts:
    """Hits, false alarms and labelled boxes of every image and class.

    Greedy matching takes the best scores first, so dropping the low ones changes no match of the rest.
    """
    shape = len(truth.images), len(truth.class_names)
    acted_on = (matches.scores >= thresholds[matches.class_ids]) & ~matches.ignored[:, AT_50]
    right = matches.right[:, AT_50]
    counted = ~matches.truth_ignored
    return Counts(
        _tally(shape, matches.image_index[acted_on & right], matches.class_ids[acted_on & right]),
        _tally(shape, matches.image_index[acted_on & ~right], matches.class_ids[acted_on & ~right]),
        _tally(shape, truth.image_index[counted], truth.class_ids[counted]),
    )


def _tally(shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


assert IOU_THRESHOLDS[AT_50] == 0.5
