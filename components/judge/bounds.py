"""How sure is sure enough: one-sided bounds from resamples, Holm's correction, a budget of luck over the nights."""

import math
from statistics import NormalDist

import numpy as np

FEWEST_BEYOND, SMALLEST_SHARE = 20, 0.025
"""A quantile with fewer redraws beyond it, or a smaller share of them, is extended from the last one that has them."""


def alpha_of_night(alpha: float, night: int) -> float:
    """The share of `alpha` that comparison number `night` (from 1) on one test set may spend.

    The shares of all nights to come add up to `alpha`: sum of 1 / n^2 is pi^2 / 6.
    """
    return alpha * 6 / (math.pi * night) ** 2


def lower_bound(resampled: np.ndarray, alpha: float) -> float:
    """What the number exceeds with chance 1 - `alpha`; NaN where no redraw tells."""
    known = resampled[np.isfinite(resampled)].astype(np.float64)
    if not len(known):
        return float("nan")
    sure = min(max(FEWEST_BEYOND / len(known), SMALLEST_SHARE), 0.4)
    quantile, middle = np.quantile(known, [max(sure, alpha), 0.5])
    if alpha >= sure:
        return float(quantile)
    # A normal tail as wide as this side of the redraws is: few groups make them lopsided.
    return float(middle - (middle - quantile) * NormalDist().inv_cdf(alpha) / NormalDist().inv_cdf(sure))


def upper_bound(resampled: np.ndarray, alpha: float) -> float:
    """What the number stays below with chance 1 - `alpha`."""
    return -lower_bound(-resampled, alpha)


def chance_not_worse(resampled: np.ndarray) -> float:
    """One-sided p-value of "not worse": the share of redraws in which the difference is not negative."""
    known = resampled[np.isfinite(resampled)]
    return float((np.count_nonzero(known >= 0) + 1) / (len(known) + 1)) if len(known) else 1.0


def holm(chances: dict[str, float], alpha: float) -> set[str]:
    """Names whose hypothesis falls when all are tested at once.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    rejected: set[str] = set()
    for place, name in enumerate(sorted(chances, key=lambda one: chances[one])):
        if chances[name] > alpha / (len(chances) - place):
            break
        rejected.add(name)
    return rejected
