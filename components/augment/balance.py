"""How often each training image counts."""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from components.augment.settings import AugmentSettings


def repeats(classes: Sequence[Sequence[int]], num_classes: int, settings: AugmentSettings, digest: str) -> list[int]:
    """How often each image counts in an epoch: the rarest class in it decides.

    Args:
        classes: Class ids of each train image.
        num_classes: Of the data set.
        settings: Of the step.
        digest: Of the data set version; with the seed it decides the rounding.

    Returns:
        Whole numbers from 1 to `settings.most_repeats`, on average the repeat factor of the image.

    Source: repeat-factor sampling, Gupta et al. 2019, LVIS, https://arxiv.org/abs/1908.03195 section 4
    """
    held = np.zeros(num_classes)
    for ids in classes:
        held[list(set(ids))] += 1
    share = held / max(len(classes), 1)
    with np.errstate(divide="ignore"):
        factors = np.maximum(1.0, np.sqrt(settings.rare_class_share / share))
    draws = np.random.default_rng([settings.seed, int(digest[:16], 16)]).random(len(classes))
    wanted = [max((factors[one] for one in ids), default=1.0) for ids in classes]
    return [_rounded(factor, draw, settings.most_repeats) for factor, draw in zip(wanted, draws, strict=True)]


def _rounded(factor: float, draw: float, most: int) -> int:
    whole = math.floor(factor)
    return max(1, min(whole + (draw < factor - whole), most))


def class_balance(train: pa.Table, class_names: Sequence[str]) -> dict[str, list[int]]:
    """Boxes of each class among the train images: as labelled, and as an epoch shows them."""
    labelled, shown = np.zeros(len(class_names), int), np.zeros(len(class_names), int)
    for ids, times in zip(train["class_ids"].to_pylist(), train["repeat"].to_pylist(), strict=True):
        np.add.at(labelled, ids, 1)
        np.add.at(shown, ids, times)
    return {name: [int(labelled[place]), int(shown[place])] for place, name in enumerate(class_names)}
