"""How closely an artifact's boxes follow the FP32 model's on the same images, after suppression."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.calibrate.images import read_image
from components.shared.detection import Detections, load_detector

MIN_SCORE = 0.25
MIN_OVERLAP = 0.5


def agreement(model: Path, int8: Path, images: Sequence[Path], threads: int = 0) -> dict[str, float]:
    """Compare the two files' boxes on `images`.

    Returns:
        `boxes`: FP32 boxes scoring above 0.25; `found`: share of them that INT8 finds with the same class and an
        overlap of at least 0.5, 1.0 when there is none; `mean_overlap` and `mean_score_change` over the found ones;
        `extra`: INT8 boxes that answer no FP32 box, as a share of the INT8 boxes.
    """
    reference, candidate = (load_detector(path, threads) for path in (model, int8))
    pairs = []
    for path in images:
        image = read_image(path)
        pairs.append((reference.detect([image], MIN_SCORE)[0], candidate.detect([image], MIN_SCORE)[0]))
    return summarise(pairs)


def summarise(pairs: Sequence[tuple[Detections, Detections]]) -> dict[str, float]:
    """The numbers of `agreement` for (expected, got) pairs, one an image."""
    overlaps, changes, expected, got = [], [], 0, 0
    for first, second in pairs:
        expected, got = expected + len(first.scores), got + len(second.scores)
        for left, right, overlap in match_boxes(first, second):
            overlaps.append(overlap)
            changes.append(abs(float(first.scores[left]) - float(second.scores[right])))
    return {
        "images": len(pairs),
        "boxes": expected,
        "found": round(len(overlaps) / expected, 4) if expected else 1.0,
        "extra": round((got - len(overlaps)) / got, 4) if got else 0.0,
        "mean_overlap": round(float(np.mean(overlaps)), 4) if overlaps else 1.0,
        "mean_score_change": round(float(np.mean(changes)), 4) if changes else 0.0,
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
    """(A, B) overlap of (A, 4) with (B, 4) boxes, corners x0 y0 x1 y1."""
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
