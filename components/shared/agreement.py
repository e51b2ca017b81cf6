"""How closely one artifact's boxes follow another's on the same images, after suppression."""

from collections.abc import Sequence

import numpy as np

from components.shared.detection import Detections

MIN_SCORE = 0.25
MIN_OVERLAP = 0.5


def agreement(pairs: Sequence[tuple[Detections, Detections]]) -> dict[str, float]:
    """Compare (expected, got) boxes, one pair an image.

    Returns:
        `boxes` expected; `found`: share of them that are answered by a box of their class with an overlap of at least
        0.5, 1.0 when none is expected; `extra`: share of the boxes got that answer none; `mean_overlap`,
        `mean_score_change` and `max_score_change` over those found.
    """
    overlaps: list[float] = []
    changes: list[float] = []
    for expected, got in pairs:
        for left, right, overlap in match_boxes(expected, got):
            overlaps.append(overlap)
            changes.append(abs(float(expected.scores[left]) - float(got.scores[right])))
    wanted, given = (sum(len(pair[side].scores) for pair in pairs) for side in (0, 1))
    return {
        "images": len(pairs),
        "boxes": wanted,
        "found": round(len(overlaps) / wanted, 4) if wanted else 1.0,
        "extra": round((given - len(overlaps)) / given, 4) if given else 0.0,
        "mean_overlap": round(float(np.mean(overlaps)), 4) if overlaps else 1.0,
        "mean_score_change": round(float(np.mean(changes)), 4) if changes else 0.0,
        "max_score_change": round(max(changes), 4) if changes else 0.0,
    }


def match_boxes(first: Detections, second: Detections) -> list[tuple[int, int, float]]:
    """Pairs (index in first, index in second, overlap) of one class, best scores first, each box used once."""
    overlaps = iou_matrix(first.xyxy_px, second.xyxy_px)
    overlaps[first.class_ids[:, None] != second.class_ids[None, :]] = 0
    matched = []
    for left in np.argsort(-first.scores, kind="stable"):
        right = int(overlaps[left].argmax()) if overlaps.shape[1] else 0
        if overlaps.shape[1] and overlaps[left, right] >= MIN_OVERLAP:
            matched.append((int(left), right, float(overlaps[left, right])))
            overlaps[:, right] = 0
    return matched


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(A, B) overlap of (A, 4) with (B, 4) boxes, corners x0 y0 x1 y1 in one image's pixels.

    Source: intersection over union, https://cocodataset.org/#detection-eval
    """
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
