"""Redraws of the test set: each as COCO would have scored it, and intervals that hold what they promise."""

from dataclasses import replace

import numpy as np
import pytest

from components.evaluate.bootstrap import interval, redraw, resample, resampled_map
from components.evaluate.matching import match
from components.evaluate.measures import average_precision, counts
from components.evaluate.predictions import Predictions
from tests.unit.test_metrics import fixture


def repeated(truth, predictions, times: np.ndarray):
    """The images as often as `times` says, each copy an image of its own."""
    copies = np.repeat(np.arange(len(times)), times)
    boxes = [np.flatnonzero(truth.image_index == image) for image in copies]
    found = [np.flatnonzero(predictions.image_index == image) for image in copies]
    rows, seen = np.concatenate(boxes), np.concatenate(found)
    images = np.repeat(np.arange(len(copies)), [len(one) for one in boxes])
    where = np.repeat(np.arange(len(copies)), [len(one) for one in found])
    again = replace(
        truth, images=[truth.images[image] for image in copies], groups=np.arange(len(copies)),
        tags=[{} for _ in copies], xywh_px=truth.xywh_px[rows], areas_px2=truth.areas_px2[rows],
        class_ids=truth.class_ids[rows], image_index=images, crowd=truth.crowd[rows],
    )  # fmt: skip
    kept = Predictions(predictions.xywh_px[seen], predictions.scores[seen], predictions.class_ids[seen], where)
    return again, kept


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_redraw_scores_as_if_its_images_were_there_so_often(seed: int) -> None:
    truth, predictions = fixture(seed)
    predictions = replace(predictions, scores=np.random.default_rng(seed).permutation(len(predictions.scores)) / 1000)
    matches = match(truth, predictions)
    thresholds = np.full(len(truth.class_names), 0.3)
    redraws = redraw(np.arange(len(truth.images)), 200, seed)
    resampled = resample(matches, truth, counts(matches, truth, thresholds), redraws)
    for place in (0, 57, 199):
        again, kept = repeated(truth, predictions, redraws.weights[place].astype(int))
        direct = match(again, kept)
        expected = average_precision(direct, again)
        np.testing.assert_allclose(resampled.ap[place], expected.precision.mean(axis=1), atol=2e-6)
        np.testing.assert_allclose(resampled.map_50[place], expected.mean(0), atol=2e-6)
        tally = counts(direct, again, thresholds)
        np.testing.assert_allclose(resampled.recall[place], tally.hits.sum(0) / tally.boxes.sum(0), atol=1e-6)


def test_groups_are_drawn_whole_and_the_same_for_everyone() -> None:
    groups = np.array([5, 5, 5, 9, 9, 2])
    first, second = redraw(groups, 300, 7), redraw(groups, 300, 7)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.weights.shape == (300, 3) and (first.weights.sum(axis=1) == 3).all()
    assert first.units.tolist() == [1, 1, 1, 2, 2, 0]


def test_a_part_of_the_images_is_redrawn_alone() -> None:
    truth, predictions = fixture(4)
    matches = match(truth, predictions)
    some = np.arange(len(truth.images)) < 20
    once = redraw(np.arange(len(truth.images)), 1, 0)
    ones = replace(once, weights=np.ones_like(once.weights))
    assert resampled_map(matches, truth, ones, some)[0] == pytest.approx(
        average_precision(matches, truth, some).mean(), abs=2e-6
    )


def test_a_redraw_without_a_class_leaves_it_out_of_the_mean() -> None:
    truth, predictions = fixture(6, images=3, boxes=6, found=20)
    matches = match(truth, predictions)
    redraws = redraw(np.arange(3), 500, 0)
    resampled = resample(matches, truth, counts(matches, truth, np.zeros(4)), redraws)
    assert np.isnan(resampled.ap).any()
    assert np.isfinite(resampled.map_50_95[np.isfinite(resampled.ap).any(axis=1)]).all()
    assert all(np.isnan(interval(np.full(5, np.nan))))


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Images of a group share their luck: redrawn by group the interval holds it, redrawn by image it is too narrow."""
    rng = np.random.default_rng(0)
    held = {"group": 0, "image": 0}
    tries, groups, size = 200, 40, 8
    for _ in range(tries):
        hits = rng.random((groups, size)) < np.clip(rng.normal(0.7, 0.2, (groups, 1)), 0, 1)
        for unit in held:
            units = np.repeat(np.arange(groups), size) if unit == "group" else np.arange(groups * size)
            draws = redraw(units, 400, int(rng.integers(1e9)))
            by_unit = np.bincount(draws.units, hits.ravel(), minlength=draws.weights.shape[1])
            low, high = interval(draws.weights @ by_unit / (draws.weights @ np.bincount(draws.units)))
            held[unit] += low <= 0.695 <= high
    assert held["group"] >= 0.88 * tries
    assert held["image"] <= 0.85 * tries
