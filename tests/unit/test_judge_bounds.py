"""How sure is sure enough."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.judge.bounds import alpha_of_night, chance_not_worse, holm, lower_bound, upper_bound
from components.judge.resolution import boxes_for_margin, boxes_needed, margin_of_boxes, what_boxes_decide


def test_the_luck_of_all_nights_adds_up_to_alpha() -> None:
    shares = [alpha_of_night(0.05, night) for night in range(1, 100_000)]
    assert shares == sorted(shares, reverse=True)
    assert 0.0499 < sum(shares) < 0.05


def test_bounds_are_quantiles_where_there_are_enough_redraws_and_a_normal_tail_beyond() -> None:
    redraws = np.random.default_rng(0).normal(0.02, 0.01, 5000)
    for alpha in (0.05, 0.01, 0.001, 0.00001):
        expected = NormalDist(0.02, 0.01).inv_cdf(alpha)
        assert lower_bound(redraws, alpha) == pytest.approx(expected, abs=0.0015)
        assert upper_bound(redraws, alpha) == pytest.approx(0.04 - expected, abs=0.0015)
    lopsided = np.random.default_rng(1).exponential(0.1, 2000) + 0.08
    assert lower_bound(lopsided, 0.0001) > 0, "a long tail upwards makes nothing less sure downwards"
    assert math.isnan(lower_bound(np.full(100, np.nan), 0.05))


def test_a_chance_counts_the_redraws_that_are_not_worse() -> None:
    assert chance_not_worse(np.array([-1.0] * 99)) == pytest.approx(0.01)
    assert chance_not_worse(np.zeros(99)) == 1.0
    assert chance_not_worse(np.full(5, np.nan)) == 1.0


def test_holm_rejects_as_in_the_textbook() -> None:
    chances = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(chances, 0.05) == {"a", "d"}
    assert holm({"a": 0.02, "b": 0.026}, 0.05) == {"a", "b"}
    assert holm({}, 0.05) == set()


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), max_size=8))
def test_holm_lies_between_bonferroni_and_no_correction(chances: dict[str, float]) -> None:
    rejected = holm(chances, 0.05)
    assert {name for name, chance in chances.items() if chance <= 0.05 / len(chances)} <= rejected
    assert rejected <= {name for name, chance in chances.items() if chance <= 0.05}


def test_a_one_point_margin_needs_thousands_of_boxes() -> None:
    assert 1300 <= boxes_for_margin(0.01, 0.05, power=0.5) <= 1400
    assert 3000 <= boxes_for_margin(0.01, 0.05, power=0.8) <= 3200
    for boxes in (50, 400, 3000):
        assert boxes_for_margin(margin_of_boxes(boxes, 0.05), 0.05) == pytest.approx(boxes, abs=1)
    assert boxes_needed(0.02, 200, 0.01, 0.05) == pytest.approx(200 * (1.645 * 2) ** 2, rel=0.01)


def test_what_boxes_can_decide_is_said_before_the_night() -> None:
    enough, short = what_boxes_decide({"bolt": 5000, "nut": 200}, 0.01, 0.05)
    assert "need" not in enough and enough.startswith("bolt: 5000 boxes can hold a recall margin of 0.8 points")
    assert "need" in short and "more boxes of class nut" in short
