"""Ranges from what was observed: one pass, any order, each method on a distribution whose answer is known."""

import numpy as np
import pytest

from components.calibrate.histogram import BINS, METHODS, Histogram


def seen(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for turn, batch in enumerate(batches):
        histogram.add(batch.astype(np.float32), turn)
    return histogram


def test_the_order_of_the_images_does_not_matter() -> None:
    random = np.random.default_rng(0)
    batches = [random.normal(0, scale, 5000) for scale in (0.1, 3, 40, 0.5)]
    forward, backward = seen(*batches), seen(*batches[::-1])
    assert np.array_equal(forward.counts, backward.counts)
    assert forward.width == backward.width and forward.largest == backward.largest
    assert forward.counts.sum() == 20_000


def test_min_max_is_exact_even_where_values_are_sampled() -> None:
    values = np.zeros(1_000_000)
    values[777_777] = -5.5
    histogram = seen(values)
    assert histogram.limit("min-max") == 5.5
    assert histogram.counts.sum() < values.size


def test_percentile_leaves_out_what_is_rare() -> None:
    values = np.concatenate([np.linspace(0, 1, 30_000), [100.0]])
    assert seen(values).limit("percentile-99.99") == pytest.approx(1, abs=2 * 128 / BINS)


def test_least_squares_clips_a_long_tail_and_keeps_a_flat_one() -> None:
    random = np.random.default_rng(0)
    tail = [random.normal(0, 1, 8000) for _ in range(20)]
    assert seen(*tail, np.array([60.0])).limit("mse") < 0.9 * 60
    flat = random.uniform(-1, 1, 30_000)
    assert seen(flat).limit("mse") == pytest.approx(1, abs=0.03)


def test_entropy_clips_a_long_tail() -> None:
    random = np.random.default_rng(0)
    tail = np.concatenate([random.normal(0, 1, 30_000), [60.0]])
    assert seen(tail).limit("entropy") < 30


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_a_usable_range(method: str) -> None:
    assert seen(np.zeros(100)).limit(method) == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_no_limit_is_beyond_the_largest_value(method: str) -> None:
    histogram = seen(np.random.default_rng(1).normal(0, 1, 10_000))
    assert 0 < histogram.limit(method) <= histogram.largest
