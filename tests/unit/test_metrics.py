"""COCO numbers and matches against pycocotools, on fixtures with everything that makes them hard."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.evaluate.coco import coco_dataset, coco_results, coco_summary, own_summary
from components.evaluate.matching import ANY_AREA, LARGE, MEDIUM, SMALL, match
from components.evaluate.measures import average_precision, counts, curve, working_thresholds
from components.evaluate.predictions import Predictions, predict
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth, truth_of_rows
from components.shared.dataset import ROW_SCHEMA
from tests import block_world


def fixture(seed: int, images: int = 30, classes: int = 4, boxes: int = 200, found: int = 600):
    """Crowds, images without boxes, boxes without detections, equal scores, areas that differ from the boxes'."""
    rng = np.random.default_rng(seed)
    image_index, class_ids = np.sort(rng.integers(0, images, boxes)), rng.integers(0, classes, boxes)
    xywh = np.concatenate([rng.uniform(0, 400, (boxes, 2)), rng.uniform(4, 150, (boxes, 2))], axis=1).round(1)
    truth = Truth(
        tuple(f"class {number}" for number in range(classes)),
        [Path(f"{number}.png") for number in range(images)],
        np.arange(images),
        [{} for _ in range(images)],
        xywh,
        xywh[:, 2] * xywh[:, 3] * rng.choice([1, 0.7], boxes),
        class_ids,
        image_index,
        rng.random(boxes) < 0.1,
        f"{seed}",
    )
    source = rng.integers(0, boxes, found)
    guess = xywh[source] + rng.normal(0, 8, (found, 4)) * (rng.random((found, 1)) < 0.9)
    guess[:, 2:] = np.maximum(guess[:, 2:], 1)
    kinds = np.where(rng.random(found) < 0.8, class_ids[source], rng.integers(0, classes, found))
    where = np.where(rng.random(found) < 0.9, image_index[source], rng.integers(0, images, found))
    scores = rng.random(found).round(2)
    order = np.lexsort((-scores, where))
    return truth, Predictions(guess[order], scores[order], kinds[order], where[order])


def reference(truth: Truth, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' twelve numbers, and its (T, R, K, A, M) precision."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = coco_dataset(truth)
        labels.createIndex()
        run = COCOeval(labels, labels.loadRes(coco_results(predictions)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats, run.eval["precision"]


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_those_of_pycocotools(seed: int) -> None:
    truth, predictions = fixture(seed)
    stats, precision = reference(truth, predictions)
    summary, per_class = coco_summary(truth, predictions)
    np.testing.assert_allclose(list(summary.values()), stats, rtol=0, atol=1e-9)
    np.testing.assert_allclose(per_class, precision[:, :, :, 0, 2].mean(axis=1).T, rtol=0, atol=1e-9)
    own, own_per_class = own_summary(truth, predictions)
    np.testing.assert_allclose(list(own.values()), stats, rtol=0, atol=1e-9)
    np.testing.assert_allclose(own_per_class, per_class, rtol=0, atol=1e-9)
    for place, area in enumerate([ANY_AREA, SMALL, MEDIUM, LARGE]):
        ours = average_precision(match(truth, predictions, area), truth)
        theirs = precision[:, :, :, place, 2].mean(axis=1).T
        np.testing.assert_allclose(ours.precision, np.where(theirs < 0, np.nan, theirs), rtol=0, atol=1e-9)
    whole = average_precision(match(truth, predictions), truth)
    np.testing.assert_allclose([whole.mean(), whole.mean(0), whole.mean_recall()], stats[[0, 1, 8]], atol=1e-9)


def test_a_model_that_sees_nothing_scores_nothing() -> None:
    truth, predictions = fixture(0)
    nothing = Predictions(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    summary, per_class = coco_summary(truth, nothing)
    assert summary["map_50_95"] == 0 and not per_class.any()
    assert average_precision(match(truth, nothing), truth).mean() == 0
    unlabelled, _ = fixture(1, boxes=1, found=1)
    assert np.isnan(average_precision(match(unlabelled, predictions), unlabelled).precision[1:]).sum() >= 20


def test_a_part_of_the_images_scores_as_if_it_were_all() -> None:
    truth, predictions = fixture(3)
    some = np.arange(len(truth.images)) % 3 == 0
    kept, seen = some[truth.image_index], some[predictions.image_index]
    alone = Truth(
        truth.class_names, truth.images, truth.groups, truth.tags, truth.xywh_px[kept], truth.areas_px2[kept],
        truth.class_ids[kept], truth.image_index[kept], truth.crowd[kept], "part",
    )  # fmt: skip
    part = Predictions(*(array[seen] for array in vars(predictions).values()))
    whole_then_part = average_precision(match(truth, predictions), truth, some)
    np.testing.assert_array_equal(whole_then_part.precision, average_precision(match(alone, part), alone).precision)


def test_a_working_threshold_is_the_lowest_score_that_is_precise_enough() -> None:
    truth, predictions = fixture(5)
    matches = match(truth, predictions)
    thresholds = working_thresholds(matches, truth, 0.5)
    for number, threshold in enumerate(thresholds):
        line = curve(matches, truth, number)
        acted_on = line.scores >= threshold
        best = line.precision[acted_on][-1]
        if (line.precision >= 0.5).any():
            assert best >= 0.5
            lower = line.scores[~acted_on]
            last = np.r_[lower[1:] != lower[:-1], True] if len(lower) else np.zeros(0, bool)
            assert not (line.precision[~acted_on][last] >= 0.5).any()
    tally = counts(matches, truth, thresholds)
    assert tally.boxes.sum() == (~truth.crowd).sum()
    assert (tally.hits <= tally.boxes).all() and tally.hits.sum() > 0 and tally.alarms.sum() > 0


def test_without_val_images_every_class_works_at_a_quarter(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([], schema=ROW_SCHEMA)
    nothing = truth_of_rows(rows, ["red", "green", "blue"], [])
    seen = predict(block_world.write_detector(tmp_path / "m.onnx"), nothing, EvaluateSettings())
    assert working_thresholds(match(nothing, seen), nothing, 0.8).tolist() == [0.25] * 3
