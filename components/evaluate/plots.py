"""Figures of the report."""

from typing import Any

import numpy as np

from components.evaluate.errors import Reliability
from components.evaluate.measured import Measured
from components.evaluate.measures import Curve, curve
from components.evaluate.truth import Truth
from components.shared.report import FIGURE_INK, PALETTE, figure, start_figure

MOST_POINTS = 160
MOST_CURVES = 12


def precision_recall(model: Measured, champion: Measured | None, truth: Truth) -> list[str]:
    """One figure a class, the working point marked; the classes with most boxes first."""
    boxes = truth.boxes_of_class()
    return [
        _precision_recall(model, champion, truth, int(number))
        for number in np.argsort(-boxes, kind="stable")[:MOST_CURVES]
        if boxes[number]
    ]


def _precision_recall(model: Measured, champion: Measured | None, truth: Truth, number: int) -> str:
    fig, axes = start_figure(3.4, 2.6)
    sides = [("challenger", model, PALETTE[0], "-")] + ([("champion", champion, PALETTE[1], "--")] if champion else [])
    for label, one, colour, style in sides:
        line = curve(one.matches, truth, number)
        recall, precision = _thinned(line)
        axes.plot(recall, precision, style, color=colour, linewidth=1.8, label=label)
        place = np.searchsorted(-line.scores, -one.thresholds[number], side="right") - 1
        if len(line.scores) and place >= 0:
            axes.plot(line.recall[place], line.precision[place], "o", color=colour, markersize=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="recall", ylabel="precision", title=truth.class_names[number])
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, labelcolor=FIGURE_INK, loc="lower left")
    return figure(fig)


def _thinned(line: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Few points that draw the same curve: the precision that is still to come, at evenly spread recalls."""
    if not len(line.recall):
        return np.zeros(1), np.zeros(1)
    envelope = np.maximum.accumulate(line.precision[::-1])[::-1]
    places = np.unique(np.searchsorted(line.recall, np.linspace(0, line.recall[-1], MOST_POINTS)))
    places = places[places < len(envelope)]
    return np.r_[0, line.recall[places]], np.r_[envelope[0], envelope[places]]


def class_bars(scores: dict[str, Any], number: str, title: str) -> str:
    """Bars of one number of every class, with 95 % intervals; challenger above champion."""
    names = scores["class_names"][:24]
    fig, axes = start_figure(5.2, 0.7 + 0.5 * len(names))
    sides = [role for role in ("challenger", "champion") if scores[role]]
    for place, role in enumerate(sides):
        values = np.array([scores[role]["int8"]["per_class"][name][number] for name in names])
        bounds = np.array([scores["intervals"][f"{role}.int8"][number][name] for name in names])
        errors = np.clip(np.abs(bounds.T - values), 0, 1) * (values >= 0)
        spots = np.arange(len(names)) + (place - (len(sides) - 1) / 2) * 0.38
        axes.barh(spots, np.maximum(values, 0), 0.34, xerr=errors, color=PALETTE[place], label=f"{role} INT8",
                  error_kw={"ecolor": FIGURE_INK, "elinewidth": 1, "capsize": 2})  # fmt: skip
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), title=title)
    axes.grid(axis="x", alpha=0.2, linewidth=0.6)
    axes.legend(
        fontsize=8, frameon=False, labelcolor=FIGURE_INK, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2
    )
    return figure(fig)


def reliability_diagram(sides: dict[str, Reliability]) -> str:
    """How often detections of a score are right, against the score."""
    fig, axes = start_figure(3.6, 3.0)
    axes.plot([0, 1], [0, 1], ":", color=FIGURE_INK, linewidth=1)
    for place, (label, one) in enumerate(sides.items()):
        known = one.number > 0
        axes.plot(one.scores[known], one.right[known], "o-", color=PALETTE[place], markersize=4, linewidth=1.5,
                  label=f"{label}, error {one.expected_error:.3f}")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share that is right", title="Are scores honest?")
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, labelcolor=FIGURE_INK, loc="upper left")
    return figure(fig)
