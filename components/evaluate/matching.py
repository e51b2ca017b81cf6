"""Which detection found which labelled box: COCO's greedy matching, all images at once.

The detections of an (image, class) pair must be matched in the order of their scores, but pairs do not touch each
other: so the r-th detections of all pairs are matched together, and the loop runs over ranks only.

Source: COCOeval.evaluateImg, https://github.com/cocodataset/cocoapi
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.evaluate.predictions import Predictions
from components.evaluate.truth import Truth

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
ANY_AREA = (0.0, 1e10)
SMALL, MEDIUM, LARGE = (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10)
CELLS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Matches:
    """Detections in scoring order (class, best score first, image) and what each one found."""

    index: np.ndarray
    """(N,) int64 into the predictions."""
    scores: np.ndarray
    class_ids: np.ndarray
    image_index: np.ndarray
    found: np.ndarray
    """(N, T) int64: number of the labelled box found at each IoU threshold, -1 for none."""
    ignored: np.ndarray
    """(N, T) bool: neither right nor wrong (found a crowd, or lies outside of the area range)."""
    truth_ignored: np.ndarray
    """(G,) bool: labelled boxes that do not count."""

    @property
    def right(self) -> np.ndarray:
        """(N, T) bool: found a labelled box that counts."""
        return (self.found >= 0) & ~self.ignored


def match(
    truth: Truth,
    predictions: Predictions,
    area_px2: tuple[float, float] = ANY_AREA,
    thresholds: np.ndarray = IOU_THRESHOLDS,
    max_detections: int = 100,
) -> Matches:
    """Match detections with labelled boxes of their class and image.

    Args:
        truth: Labelled boxes.
        predictions: Of the same images.
        area_px2: Labelled boxes outside are ignored, and detections outside that found nothing.
        thresholds: (T,) lowest overlap that counts as found.
        max_detections: The best so many of each class in each image are scored.
    """
    truth_ignored = truth.crowd | (truth.areas_px2 < area_px2[0]) | (truth.areas_px2 > area_px2[1])
    order, pair, rank = _by_pair(predictions, len(truth.class_names), max_detections)
    boxes = predictions.xywh_px[order]
    found = np.full((len(order), len(thresholds)), -1, np.int64)
    for pairs in _pairs_of_both(pair, truth, truth_ignored):
        _match_pairs(pairs, boxes, truth, truth_ignored, np.minimum(thresholds, 1 - 1e-10), found)
    ignored = _ignored(found, boxes, truth_ignored, area_px2)
    image_index, scores, class_ids = (
        values[order] for values in (predictions.image_index, predictions.scores, predictions.class_ids)
    )
    by = np.lexsort((rank, image_index, -scores, class_ids))
    return Matches(order[by], scores[by], class_ids[by], image_index[by], found[by], ignored[by], truth_ignored)


@dataclass(frozen=True)
class _Pairs:
    """(Image, class) pairs that have detections and labelled boxes, most detections first."""

    first: np.ndarray
    """(P,) place of the pair's best detection."""
    count: np.ndarray
    """(P,) its detections."""
    truths: np.ndarray
    """(P, W) its labelled boxes, -1 beyond the last."""


def _by_pair(
    predictions: Predictions, num_classes: int, max_detections: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections grouped by (image, class), best first: their order, their pair, their rank within it."""
    pair = predictions.image_index * num_classes + predictions.class_ids
    order = np.lexsort((-predictions.scores, pair))
    pair = pair[order]
    starts = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]]) if len(pair) else np.zeros(0, np.int64)
    rank = np.arange(len(pair)) - np.repeat(starts, np.diff(np.r_[starts, len(pair)]))
    kept = rank < max_detections
    return order[kept], pair[kept], rank[kept]


def _pairs_of_both(pair: np.ndarray, truth: Truth, truth_ignored: np.ndarray) -> Iterator[_Pairs]:
    """Chunks of pairs that have both, those of like numbers of labelled boxes together: little padding."""
    truth_pair = truth.image_index * len(truth.class_names) + truth.class_ids
    truth_order = np.lexsort((truth_ignored, truth_pair))
    names, first, count = np.unique(pair, return_index=True, return_counts=True)
    truth_names, truth_first, truth_count = np.unique(truth_pair[truth_order], return_index=True, return_counts=True)
    _, here, there = np.intersect1d(names, truth_names, assume_unique=True, return_indices=True)
    by_size = np.lexsort((-count[here], np.ceil(np.log2(truth_count[there]))))
    here, there = here[by_size], there[by_size]
    sizes = np.ceil(np.log2(truth_count[there])).astype(int)
    for size in np.unique(sizes):
        of_size = np.flatnonzero(sizes == size)
        at_once = max(1, CELLS_AT_ONCE >> size)
        for start in range(0, len(of_size), at_once):
            some = of_size[start : start + at_once]
            width = np.arange(truth_count[there[some]].max())
            places = truth_first[there[some], None] + width
            inside = width < truth_count[there[some], None]
            truths = np.where(inside, truth_order[np.where(inside, places, 0)], -1)
            yield _Pairs(first[here[some]], count[here[some]], truths)


def _match_pairs(
    pairs: _Pairs,
    boxes: np.ndarray,
    truth: Truth,
    truth_ignored: np.ndarray,
    thresholds: np.ndarray,
    found: np.ndarray,
) -> None:
    """Fill `found` for these pairs, rank by rank."""
    real = pairs.truths >= 0
    targets, crowd = truth.xywh_px[pairs.truths], truth.crowd[pairs.truths] & real
    free = np.repeat(real[:, None, :], len(thresholds), axis=1)
    ignored = truth_ignored[pairs.truths] & real
    some_ignored = bool(ignored.any())
    for rank in range(pairs.count.max()):
        active = int(np.searchsorted(-pairs.count, -rank, side="left"))
        places = pairs.first[:active] + rank
        overlap = overlaps(boxes[places, None], targets[:active], crowd[:active])
        open_to = (free[:active] | crowd[:active, None]) & (overlap[:, None] >= thresholds[:, None])
        value = np.where(open_to, overlap[:, None], -1.0)
        choice, hit = _last_best(np.where(ignored[:active, None], -1.0, value) if some_ignored else value)
        if some_ignored:
            second, second_hit = _last_best(np.where(ignored[:active, None], value, -1.0))
            choice, hit = np.where(hit, choice, second), hit | second_hit
        rows, levels = np.nonzero(hit)
        chosen = choice[rows, levels]
        free[rows, levels, chosen] = False
        found[places[rows], levels] = pairs.truths[rows, chosen]


def _last_best(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of the greatest value on the last axis, the last one of equals, and whether it is a match at all."""
    choice = value.shape[-1] - 1 - value[..., ::-1].argmax(axis=-1)
    return choice, np.take_along_axis(value, choice[..., None], axis=-1)[..., 0] >= 0


def overlaps(boxes: np.ndarray, targets: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union of xywh boxes; over the box's own area where the target is a crowd."""
    width = np.minimum(boxes[..., 0] + boxes[..., 2], targets[..., 0] + targets[..., 2])
    width -= np.maximum(boxes[..., 0], targets[..., 0])
    height = np.minimum(boxes[..., 1] + boxes[..., 3], targets[..., 1] + targets[..., 3])
    height -= np.maximum(boxes[..., 1], targets[..., 1])
    both = np.where((width > 0) & (height > 0), width * height, 0.0)
    area, target_area = boxes[..., 2] * boxes[..., 3], targets[..., 2] * targets[..., 3]
    either = np.where(crowd, area, area + target_area - both)
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _ignored(
    found: np.ndarray, boxes: np.ndarray, truth_ignored: np.ndarray, area_px2: tuple[float, float]
) -> np.ndarray:
    areas = boxes[:, 2] * boxes[:, 3]
    outside = np.repeat(((areas < area_px2[0]) | (areas > area_px2[1]))[:, None], found.shape[1], axis=1)
    if not len(truth_ignored):
        return outside
    return np.where(found >= 0, truth_ignored[found], outside)
