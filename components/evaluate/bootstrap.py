"""How sure a number is: the test set redrawn group by group, every model measured on the same redraws.

Detections are matched once; a redraw only changes how often each group counts. A difference between two models is
taken redraw by redraw, so what is hard for both cancels out.

Source: paired cluster bootstrap, Efron & Tibshirani, An Introduction to the Bootstrap, chapters 8 and 16.
"""

from dataclasses import dataclass

import numpy as np

from components.evaluate.matching import Matches
from components.evaluate.measures import AT_50, RECALLS, Counts
from components.evaluate.truth import Truth

REDRAWS_AT_ONCE = 128


@dataclass(frozen=True)
class Redraws:
    """The same redraws of a test set for every model."""

    units: np.ndarray
    """(I,) int64: the unit that each image belongs to."""
    weights: np.ndarray
    """(B, U) float32: how often each unit was drawn."""


@dataclass(frozen=True)
class Resampled:
    """One model's numbers on every redraw; NaN where a redraw holds no box of a class."""

    ap: np.ndarray
    """(B, C) average precision over IoU 0.50:0.95."""
    ap_50: np.ndarray
    """(B, C)."""
    recall: np.ndarray
    """(B, C) at the working thresholds."""

    @property
    def map_50_95(self) -> np.ndarray:
        return _mean_of_known(self.ap)

    @property
    def map_50(self) -> np.ndarray:
        return _mean_of_known(self.ap_50)


def redraw(units: np.ndarray, resamples: int, seed: int) -> Redraws:
    """Draw as many units as there are, with replacement, `resamples` times."""
    names, places = np.unique(units, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return Redraws(places.astype(np.int64), draws.astype(np.float32))


def resample(matches: Matches, truth: Truth, counts: Counts, redraws: Redraws) -> Resampled:
    """One model's average precision and recall on every redraw."""
    ap, ap_50 = _resampled_ap(matches, truth, redraws)
    hits, boxes = (redraws.weights @ _by_unit(table, redraws) for table in (counts.hits, counts.boxes))
    recall = np.divide(hits, boxes, out=np.full(hits.shape, np.nan, np.float32), where=boxes > 0)
    return Resampled(ap, ap_50, recall)


def resampled_map(matches: Matches, truth: Truth, redraws: Redraws, images: np.ndarray) -> np.ndarray:
    """(B,) mAP 50:95 of a part of the images.

    Args:
        images: (I,) bool.
    """
    ap, _ = _resampled_ap(matches, truth, redraws, images)
    return _mean_of_known(ap)


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of the redraws; NaN, NaN where no redraw has a number."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled_ap(
    matches: Matches, truth: Truth, redraws: Redraws, images: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    counted = ~matches.truth_ignored & (True if images is None else images[truth.image_index])
    shape = len(redraws.weights), len(truth.class_names)
    ap, ap_50 = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for number in range(shape[1]):
        own = counted & (truth.class_ids == number)
        if not own.any():
            continue
        rows = matches.class_ids == number
        rows &= True if images is None else images[matches.image_index]
        num_boxes = redraws.weights @ np.bincount(
            redraws.units[truth.image_index[own]], minlength=redraws.weights.shape[1]
        ).astype(np.float32)
        right, ignored = matches.right[rows], matches.ignored[rows]
        units = redraws.units[matches.image_index[rows]]
        for start in range(0, shape[0], REDRAWS_AT_ONCE):
            some = slice(start, start + REDRAWS_AT_ONCE)
            levels = _class_ap(redraws.weights[some], units, right, ignored, num_boxes[some])
            ap[some, number], ap_50[some, number] = levels.mean(axis=1), levels[:, AT_50]
    ap[np.isnan(ap_50)] = np.nan
    return ap, ap_50


def _class_ap(
    weights: np.ndarray, units: np.ndarray, right: np.ndarray, ignored: np.ndarray, num_boxes: np.ndarray
) -> np.ndarray:
    """(b, T) average precision of one class on some redraws; only places of right detections need looking at.

    Redraws lie along the last axis: every pass over the detections is then one over whole rows.
    """
    out = np.zeros((right.shape[1], len(weights)), np.float32)
    places = np.flatnonzero(right.any(axis=1))
    if len(places):
        reached_by = _recalls_reached(num_boxes)
        drawn = np.ascontiguousarray(weights.T)[units[: places[-1] + 1]]
        plain, hit = np.cumsum(drawn, axis=0)[places], drawn[places]
        for level in range(right.shape[1]):
            passed_over = ignored[: places[-1] + 1, level]
            total = np.cumsum(drawn * ~passed_over[:, None], axis=0)[places] if passed_over.any() else plain
            out[level] = _level_ap(hit, total, right[places, level], reached_by)
    out[:, num_boxes == 0] = np.nan
    return out.T


def _level_ap(hit: np.ndarray, total: np.ndarray, right: np.ndarray, reached_by: np.ndarray) -> np.ndarray:
    """(b,) average precision at one IoU threshold.

    Args:
        hit: (P, b) how often each place was drawn.
        total: (P, b) detections drawn down to each place.
        right: (P,) whether the place is right at this threshold.
        reached_by: (most boxes + 1, b) recall thresholds that so many hits reach.
    """
    if not right.any():
        return np.zeros(hit.shape[1], np.float32)
    hits = np.cumsum(hit[right], axis=0)
    precision = hits / np.maximum(total[right], 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.take_along_axis(reached_by, hits.astype(np.intp), axis=0)
    steps = np.diff(reached, axis=0, prepend=np.int16(0))
    return np.einsum("pb,pb->b", envelope, steps.astype(np.float32)) / 101


def _recalls_reached(num_boxes: np.ndarray) -> np.ndarray:
    """(most boxes + 1, b) int16: how many of COCO's 101 recall thresholds so many hits reach in each redraw."""
    hits = np.arange(int(num_boxes.max()) + 1)[:, None]
    recall = np.minimum(hits / np.maximum(num_boxes, 1).astype(np.float64), 1)
    return np.searchsorted(RECALLS, recall, side="right").astype(np.int16)


def _by_unit(table: np.ndarray, redraws: Redraws) -> np.ndarray:
    """(U, C) sums of an (I, C) table over the images of each unit."""
    out = np.zeros((redraws.weights.shape[1], table.shape[1]), np.float32)
    np.add.at(out, redraws.units, table)
    return out


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(axis=1))
