"""Boxes of two artifacts matched: each once, of one class, best scores first."""

import numpy as np
import pytest

from components.shared.agreement import agreement, iou_matrix, match_boxes
from components.shared.detection import Detections


def found(*boxes: tuple) -> Detections:
    """(x0, y0, x1, y1, score, class) each."""
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def test_overlap_is_intersection_over_union() -> None:
    square, half, apart = (0, 0, 10, 10, 1, 0), (0, 0, 10, 5, 1, 0), (20, 20, 30, 30, 1, 0)
    assert iou_matrix(found(square).xyxy_px, found(square, half, apart).xyxy_px).tolist() == [[1, 0.5, 0]]


def test_each_answer_counts_once_and_only_for_its_class() -> None:
    expected = found((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0), (40, 40, 50, 50, 0.7, 1))
    got = found((0, 0, 10, 10, 0.85, 0), (40, 40, 50, 50, 0.9, 2))
    assert match_boxes(expected, got) == [(0, 0, 1.0)]
    numbers = agreement([(expected, got)])
    assert numbers["found"] == pytest.approx(1 / 3, abs=1e-4)
    assert numbers["extra"] == 0.5
    assert numbers["max_score_change"] == pytest.approx(0.05, abs=1e-4)


def test_nothing_expected_and_nothing_found_agree() -> None:
    assert agreement([(found(), found())])["found"] == 1.0
    assert agreement([(found(), found((0, 0, 1, 1, 0.9, 0)))])["extra"] == 1.0
    assert agreement([])["boxes"] == 0
