"""Kinds of mistakes, confusion, honesty of scores, leaks."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from components.evaluate.errors import confusion, error_counts, found_boxes, reliability
from components.evaluate.evaluate import count_leaks, parts_by_tag
from components.evaluate.matching import match
from components.evaluate.predictions import Predictions
from components.evaluate.truth import Truth
from tests.unit.test_metrics import fixture

TRUTH = Truth(
    ("bolt", "nut"),
    [Path("a.png"), Path("b.png")],
    np.arange(2),
    [{"shift": "day"}, {"shift": "night"}],
    np.array([[0, 0, 10, 10], [50, 50, 10, 10], [0, 0, 10, 10]], float),
    np.full(3, 100.0),
    np.array([0, 1, 0]),
    np.array([0, 0, 1]),
    np.zeros(3, bool),
    "t",
)


def seen(*rows: tuple[float, float, float, int, int]) -> Predictions:
    """Detections of 10x10 px as (x, y, score, class, image)."""
    boxes = np.array([[x, y, 10, 10] for x, y, *_ in rows], float)
    scores, kinds, images = (np.array([row[k] for row in rows]) for k in (2, 3, 4))
    order = np.lexsort((-scores, images))
    return Predictions(boxes[order], scores[order], kinds[order], images[order])


def test_every_kind_of_mistake_is_told_apart() -> None:
    predictions = seen(
        (0, 0, 0.9, 0, 0),  # right
        (1, 0, 0.8, 0, 0),  # the same bolt twice
        (50, 50, 0.7, 0, 0),  # a nut called bolt
        (5, 5, 0.6, 0, 1),  # a bolt badly placed
        (5, 5, 0.6, 1, 1),  # badly placed, and called nut
        (30, 80, 0.5, 1, 0),  # nothing there
        (0, 0, 0.01, 1, 1),  # too unsure to be a mistake
    )
    matches = match(TRUTH, predictions)
    errors = error_counts(matches, TRUTH, predictions, np.full(2, 0.3))
    assert errors == {
        "wrong class": 1, "badly placed": 1, "both": 1, "twice": 1, "nothing there": 1, "missed": 0
    }  # fmt: skip
    assert found_boxes(matches, np.full(2, 0.3)).tolist()[0] == 0.9
    table = confusion(TRUTH, predictions, np.full(2, 0.3))
    assert table.tolist() == [[1, 0, 1], [1, 0, 0], [2, 2, 0]]


def test_confusion_counts_every_box_and_every_detection_once() -> None:
    truth, predictions = fixture(2)
    table = confusion(truth, predictions, np.full(4, 0.4))
    assert table[:-1].sum() == (~truth.crowd).sum()
    acted = predictions.scores >= 0.4
    assert table[:, :-1].sum() < acted.sum(), "what lies on a crowd is no mistake"
    uncrowded = Truth(**(vars(truth) | {"crowd": np.zeros_like(truth.crowd)}))
    assert confusion(uncrowded, predictions, np.full(4, 0.4))[:, :-1].sum() == acted.sum()


def test_an_honest_score_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    claims = rng.uniform(0.1, 1, 4000)
    for honesty, expected in ((1.0, 0.0), (0.5, 0.27)):
        right = rng.random(4000) < claims * honesty
        rows = [(0 if hit else 40, 0, claim, 0, 0) for hit, claim in zip(right, claims, strict=True)]
        images = [Path(str(number)) for number in range(4000)]
        truth = Truth(
            ("bolt",), images, np.arange(4000), [{}] * 4000, np.tile([0.0, 0, 10, 10], (4000, 1)),
            np.full(4000, 100.0), np.zeros(4000, int), np.arange(4000), np.zeros(4000, bool), "t",
        )  # fmt: skip
        boxes = np.array([[x, y, 10, 10] for x, y, *_ in rows], float)
        matches = match(truth, Predictions(boxes, claims, np.zeros(4000, int), np.arange(4000)))
        assert abs(reliability(matches).expected_error - expected) < 0.03


def test_leaks_are_shared_images_and_shared_groups() -> None:
    test = pa.table({"image_sha256": ["a", "b"], "group": ["g", "h"]})
    clean = pa.table({"image_sha256": ["c", "d"], "group": ["x", "y"]})
    leaky = pa.table({"image_sha256": ["a", "d", "e"], "group": ["x", "h", "z"]})
    assert count_leaks(test, clean) == 0 and count_leaks(test, leaky) == 2
    assert count_leaks(test, clean.slice(0, 0)) == 0


def test_slices_need_more_than_one_image() -> None:
    truth, _ = fixture(0, images=6)
    tags = [{"shift": "day", "camera": f"c{number}"} for number in range(6)]
    tags[5] = {}
    tagged = Truth(**(vars(truth) | {"tags": tags}))
    parts = parts_by_tag(tagged, ("shift", "camera", "site"))
    assert list(parts) == ["shift"] and parts["shift"]["day"].tolist() == [True] * 5 + [False]
