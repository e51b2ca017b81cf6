"""What kinds of mistakes a model makes at its working thresholds, and how honest its scores are."""

from dataclasses import dataclass, replace

import numpy as np

from components.evaluate.matching import Matches, match, overlaps
from components.evaluate.measures import AT_50
from components.evaluate.predictions import Predictions
from components.evaluate.truth import Truth

SAME, CLOSE = 0.5, 0.1
"""Overlaps from which on a detection is on a box, and near one."""
KINDS = ("wrong class", "badly placed", "both", "twice", "nothing there", "missed")
LOWEST_SCORE = 0.05
"""Below it a score is no claim that anybody acts on."""


@dataclass(frozen=True)
class Reliability:
    """Whether a score of 0.8 is right eight times in ten."""

    scores: np.ndarray
    """(bins,) mean score, NaN for an empty bin."""
    right: np.ndarray
    """(bins,) share of detections that found a box."""
    number: np.ndarray
    """(bins,) detections."""

    @property
    def expected_error(self) -> float:
        """Mean gap between score and share, weighted by detections."""
        gaps = np.abs(self.scores - self.right)
        return float(np.nansum(gaps * self.number) / max(self.number.sum(), 1))


def reliability(matches: Matches, bins: int = 10) -> Reliability:
    """Expected calibration error of detections at IoU 0.5.

    Source: Guo et al., On calibration of modern neural networks, arXiv 1706.04599; for detections arXiv 2004.13546.
    """
    counted = ~matches.ignored[:, AT_50] & (matches.scores >= LOWEST_SCORE)
    scores, right = matches.scores[counted], matches.right[counted, AT_50]
    place = np.minimum((scores * bins).astype(int), bins - 1)
    number = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(place, scores, minlength=bins) / number,
            np.bincount(place, right, minlength=bins) / number,
            number,
        )


def acted_on(matches: Matches, thresholds: np.ndarray) -> np.ndarray:
    """(N,) bool: detections at or above their class's working threshold, crowds' left out."""
    return (matches.scores >= thresholds[matches.class_ids]) & ~matches.ignored[:, AT_50]


def found_boxes(matches: Matches, thresholds: np.ndarray) -> np.ndarray:
    """(G,) float: score with which each labelled box was found at the working thresholds, NaN for a missed one."""
    scores = np.full(len(matches.truth_ignored), np.nan)
    rows = acted_on(matches, thresholds) & matches.right[:, AT_50]
    scores[matches.found[rows, AT_50]] = matches.scores[rows]
    return scores


def error_counts(matches: Matches, truth: Truth, predictions: Predictions, thresholds: np.ndarray) -> dict[str, int]:
    """How often each kind of mistake was made.

    Source: the error types of TIDE, arXiv 2008.08115, counted at the working thresholds.
    """
    wrong = np.flatnonzero(acted_on(matches, thresholds) & ~matches.right[:, AT_50])
    by_image = _boxes_by_image(truth)
    totals = dict.fromkeys(KINDS, 0)
    explained: set[int] = set()
    for row in wrong:
        boxes = by_image[matches.image_index[row]]
        kind, box = _kind(predictions.xywh_px[matches.index[row]], int(matches.class_ids[row]), boxes, truth)
        totals[kind] += 1
        if kind in ("wrong class", "badly placed"):
            explained.add(box)
    missed = np.flatnonzero(np.isnan(found_boxes(matches, thresholds)) & ~truth.crowd)
    totals["missed"] = len(set(missed.tolist()) - explained)
    return totals


def confusion(truth: Truth, predictions: Predictions, thresholds: np.ndarray) -> np.ndarray:
    """(C + 1, C + 1) boxes by true class (rows) and class that was said (columns); the last one is background."""
    num = len(truth.class_names)
    kept = predictions.scores >= thresholds[predictions.class_ids]
    said = Predictions(*(values[kept] for values in vars(predictions).values()))
    one_class = replace(truth, class_names=("any",), class_ids=np.zeros_like(truth.class_ids))
    any_class = replace(said, class_ids=np.zeros_like(said.class_ids))
    matches = match(one_class, any_class, thresholds=np.array([SAME]), max_detections=10**6)
    rows = ~matches.ignored[:, 0]
    found, spoken = matches.found[rows, 0], said.class_ids[matches.index[rows]]
    real = np.where(found >= 0, truth.class_ids[found] if len(truth.class_ids) else num, num)
    table = np.zeros((num + 1, num + 1), np.int64)
    np.add.at(table, (real, spoken), 1)
    seen = np.zeros(len(truth.class_ids), bool)
    seen[found[found >= 0]] = True
    np.add.at(table, (truth.class_ids[~seen & ~truth.crowd], num), 1)
    return table


def _boxes_by_image(truth: Truth) -> list[np.ndarray]:
    order = np.argsort(truth.image_index, kind="stable")
    return np.split(order, np.searchsorted(truth.image_index[order], np.arange(1, len(truth.images))))


def _kind(box: np.ndarray, class_id: int, boxes: np.ndarray, truth: Truth) -> tuple[str, int]:
    """The mistake that a detection is, and the labelled box that it is nearest to (-1 for none)."""
    if not len(boxes):
        return "nothing there", -1
    overlap = overlaps(box[None], truth.xywh_px[boxes], truth.crowd[boxes])
    same = truth.class_ids[boxes] == class_id
    own, other = np.where(same, overlap, 0), np.where(same, 0, overlap)
    if other.max() >= SAME and own.max() < SAME:
        return "wrong class", int(boxes[other.argmax()])
    if own.max() >= SAME:
        return "twice", int(boxes[own.argmax()])
    if own.max() >= CLOSE:
        return "badly placed", int(boxes[own.argmax()])
    if other.max() >= CLOSE:
        return "both", int(boxes[other.argmax()])
    return "nothing there", -1
