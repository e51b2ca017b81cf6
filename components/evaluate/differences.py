"""Challenger minus champion, and INT8 minus float, each number with its interval."""

from typing import Any

import numpy as np

from components.evaluate.bootstrap import interval
from components.evaluate.measured import Measured, rounded
from components.evaluate.truth import Truth


def differences(models: dict[str, Measured], test: Truth) -> dict[str, Any]:
    """`differences` (challenger minus champion), `parity` (INT8 and engines minus the float twin), `intervals`."""
    gains = {
        kind: _difference(models[f"challenger.{kind}"], models[f"champion.{kind}"], test)
        for kind in ("float", "int8")
        if f"champion.{kind}" in models
    }
    reference = models["challenger.float"]
    parity = {
        model.artifact.kind: _difference(model, reference, test)
        for name, model in models.items()
        if name == "challenger.int8" or model.artifact.role == "engine"
    }
    own = {name: _intervals(model, test) for name, model in models.items()}
    return {"differences": gains, "parity": parity, "intervals": own}


def _difference(left: Measured, right: Measured, test: Truth) -> dict[str, Any]:
    """`left` minus `right`, redraw by redraw."""
    recalls = [model.counts.hits.sum(axis=0) / np.maximum(model.counts.boxes.sum(axis=0), 1) for model in (left, right)]
    own = [model.precision.precision.mean(axis=1) for model in (left, right)]
    return {
        "map_50_95": _number(
            left.summary["map_50_95"] - right.summary["map_50_95"],
            left.resampled.map_50_95 - right.resampled.map_50_95,
        ),
        "map_50": _number(
            left.summary["map_50"] - right.summary["map_50"], left.resampled.map_50 - right.resampled.map_50
        ),
        "recall": {
            name: _number(recalls[0][c] - recalls[1][c], left.resampled.recall[:, c] - right.resampled.recall[:, c])
            for c, name in enumerate(test.class_names)
        },
        "ap_50_95": {
            name: _number(own[0][c] - own[1][c], left.resampled.ap[:, c] - right.resampled.ap[:, c])
            for c, name in enumerate(test.class_names)
        },
        "slices": {
            tag: {
                value: _number(
                    left.slice_maps[tag][value] - right.slice_maps[tag][value], part - right.slices[tag][value]
                )
                for value, part in values.items()
            }
            for tag, values in left.slices.items()
        },
    }


def _intervals(model: Measured, test: Truth) -> dict[str, Any]:
    """The middle 95 % of each of one model's own numbers."""
    return {
        "map_50_95": _pair(model.resampled.map_50_95),
        "map_50": _pair(model.resampled.map_50),
        "recall": {name: _pair(model.resampled.recall[:, c]) for c, name in enumerate(test.class_names)},
        "ap_50_95": {name: _pair(model.resampled.ap[:, c]) for c, name in enumerate(test.class_names)},
    }


def _number(value: float, resampled: np.ndarray) -> dict[str, float]:
    low, high = interval(resampled)
    return {"value": _finite(value), "low": _finite(low), "high": _finite(high)}


def _pair(resampled: np.ndarray) -> list[float]:
    low, high = interval(resampled)
    return [rounded(low), rounded(high)]


def _finite(value: float) -> float:
    """Six decimals; 0 for a difference that nothing tells (a class without boxes)."""
    return round(float(value), 6) if np.isfinite(value) else 0.0
