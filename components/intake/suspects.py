"""Labels that the champion doubts: leads for people, ranked; nothing is ever changed or dropped because of one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.detection import Detections

SAME_IOU = 0.5
UNLABELED_IOU = 0.2
"""A detection that overlaps every label less than this is of an object that has none."""
LOOSE_IOU = 0.7
"""Boxes of one object that overlap less than this are drawn badly by one of the two."""
SURE = 0.6
"""Score from which the champion's word counts against a label."""
SEEN = 0.25
"""Score from which an object counts as seen at all."""
WEIGHTS = {"key class not labeled": 4.0, "key class not seen": 3.0, "not labeled": 2.0, "other class": 2.0,
           "not seen": 1.0, "loose box": 0.5}  # fmt: skip
"""What a doubt of each kind weighs: a missed key class before a swapped class before a bad overlap."""


@dataclass(frozen=True)
class Doubt:
    """One disagreement between a label and the champion: a box in pixels, and what is doubted about it."""

    kind: str
    class_name: str
    box: tuple[float, ...]
    weight: float


def doubts(
    row: Mapping[str, Any], seen: Detections, class_names: Sequence[str], key_classes: Sequence[str]
) -> list[Doubt]:
    """Every disagreement about one image, the heaviest first.

    Args:
        row: A row of the data set.
        seen: What the champion detects in the image, in its pixels and the registry's classes.
        class_names: Registry.
        key_classes: Classes that must not be missed.
    """
    labels = np.array(row["boxes"], np.float32).reshape(-1, 4)
    overlap = _iou(labels, seen.xyxy_px)
    found = [*_about_labels(row, labels, overlap, seen, class_names, key_classes)]
    for at in np.flatnonzero(seen.scores >= SURE):
        if not len(labels) or overlap[:, at].max() < UNLABELED_IOU:
            name = class_names[int(seen.class_ids[at])]
            kind = "key class not labeled" if name in key_classes else "not labeled"
            found.append(_doubt(kind, name, seen.xyxy_px[at], float(seen.scores[at])))
    return sorted(found, key=lambda doubt: (-doubt.weight, doubt.kind, doubt.box))


def _about_labels(
    row: Mapping[str, Any], labels: np.ndarray, overlap: np.ndarray, seen: Detections,
    class_names: Sequence[str], key_classes: Sequence[str],
) -> Iterator[Doubt]:  # fmt: skip
    """What the champion says about each label: not there, another class, or drawn loosely."""
    for at, class_id in enumerate(row["class_ids"]):
        name = class_names[class_id]
        there = np.flatnonzero((overlap[at] >= SAME_IOU) & (seen.scores >= SEEN))
        alike = there[seen.class_ids[there] == class_id]
        others = there[(seen.class_ids[there] != class_id) & (seen.scores[there] >= SURE)]
        if alike.size:
            best = float(overlap[at, alike].max())
            if best < LOOSE_IOU:
                yield _doubt("loose box", name, labels[at], 1 - best)
        elif others.size:
            yield _doubt("other class", name, labels[at], float(seen.scores[others].max()))
        else:
            yield _doubt("key class not seen" if name in key_classes else "not seen", name, labels[at], 1.0)


def _doubt(kind: str, class_name: str, box: np.ndarray, strength: float) -> Doubt:
    return Doubt(kind, class_name, tuple(round(float(side), 2) for side in box), round(WEIGHTS[kind] * strength, 4))


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlap of every box of `first` (A, 4) with every box of `second` (B, 4): (A, B) in [0, 1]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-9)
