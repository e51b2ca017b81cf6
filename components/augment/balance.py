"""How often each training image counts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from components.augment.settings import AugmentSettings

HARD = "hard"
"""Flag of an image that a person called hard."""


def repeats(
    rows: Sequence[dict[str, Any]],
    num_classes: int,
    settings: AugmentSettings,
    digest: str,
    key_class_ids: Sequence[int] = (),
) -> list[int]:
    """How often each image counts in an epoch: the rarest class in it decides, hard samples count more.

    Args:
        rows: Train rows.
        num_classes: Of the data set.
        settings: Of the step.
        digest: Of the data set version; with the seed it decides the rounding.
        key_class_ids: Classes that count `key_class_gain` times as much.

    Returns:
        Whole numbers from 1 to `settings.most_repeats`, on average the repeat factor of the image.

    Source: repeat-factor sampling, Gupta et al. 2019, LVIS, https://arxiv.org/abs/1908.03195 section 4
    """
    held = np.zeros(num_classes)
    for row in rows:
        held[list(set(row["class_ids"]))] += 1
    share = held / max(len(rows), 1)
    with np.errstate(divide="ignore"):
        factors = np.maximum(1.0, np.sqrt(settings.rare_class_share / share))
    factors[list(key_class_ids)] *= settings.key_class_gain
    draws = np.random.default_rng([settings.seed, int(digest[:16], 16)]).random(len(rows))
    wanted = [max((factors[one] for one in row["class_ids"]), default=1.0) * _hardness(row, settings) for row in rows]
    return [_rounded(factor, draw, settings.most_repeats) for factor, draw in zip(wanted, draws, strict=True)]


def _hardness(row: dict[str, Any], settings: AugmentSettings) -> float:
    return settings.hard_sample_gain if row["origin"] == "edge" or HARD in (row["flags"] or []) else 1.0


def _rounded(factor: float, draw: float, most: int) -> int:
    whole = math.floor(factor)
    return max(1, min(whole + (draw < factor - whole), most))


def replayed(rows: Sequence[dict[str, Any]], settings: AugmentSettings, digest: str) -> list[int]:
    """Places of the train rows that stay: the newest batch whole, of earlier ones `replay_share`."""
    if settings.replay_share == 1.0 or not rows:
        return list(range(len(rows)))
    newest = max(rows, key=lambda row: row["added_at"])["batch"]
    draws = np.random.default_rng([settings.seed, int(digest[:16], 16), 3]).random(len(rows))
    return [
        place
        for place, (row, draw) in enumerate(zip(rows, draws, strict=True))
        if row["batch"] == newest or draw < settings.replay_share
    ]


def class_balance(train: pa.Table, class_names: Sequence[str]) -> dict[str, list[int]]:
    """Boxes of each class among the train images: as labelled, and as an epoch shows them."""
    labelled, shown = np.zeros(len(class_names), int), np.zeros(len(class_names), int)
    columns = (train[name].to_pylist() for name in ("class_ids", "repeat", "flags"))
    for ids, times, flags in zip(*columns, strict=True):
        if not made_here(flags):
            np.add.at(labelled, ids, 1)
        np.add.at(shown, ids, times)
    return {name: [int(labelled[place]), int(shown[place])] for place, name in enumerate(class_names)}


def made_here(flags: Sequence[str] | None) -> bool:
    """Whether an image was made by this step."""
    return any(flag.startswith("augmented:") for flag in flags or [])
