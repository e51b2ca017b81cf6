"""What a test set can decide: how many labelled boxes a margin needs, and what margin so many boxes can hold."""

import math
from statistics import NormalDist

DISCORDANT_SHARE = 0.05
"""Share of boxes that one of two equally good models finds and the other does not; seen between 0.03 and 0.1."""
POWER = 0.8
"""Chance that an equally good model passes."""


def boxes_needed(deviation: float, boxes: int, margin: float, alpha: float, power: float = 0.5) -> int:
    """Boxes at which a difference of zero, now known to +- `deviation` from `boxes` boxes, stays within `margin`.

    The deviation falls with the root of the number of boxes.
    """
    if margin <= 0 or not math.isfinite(deviation):
        return boxes
    reach = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return math.ceil(boxes * (reach * deviation / margin) ** 2)


def boxes_for_margin(margin: float, alpha: float, discordant: float = DISCORDANT_SHARE, power: float = POWER) -> int:
    """Boxes of a class that let an equally good model prove with chance `power` that it lost less than `margin`."""
    return boxes_needed(math.sqrt(discordant), 1, margin, alpha, power)


def margin_of_boxes(boxes: int, alpha: float, discordant: float = DISCORDANT_SHARE, power: float = POWER) -> float:
    """The smallest recall margin that `boxes` boxes can hold."""
    reach = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return reach * math.sqrt(discordant / boxes) if boxes else math.inf


def what_boxes_decide(boxes: dict[str, int], margin: float, alpha: float) -> list[str]:
    """One sentence a class: whether its boxes can hold `margin`, and what they can."""
    sentences = []
    for name, number in boxes.items():
        least = margin_of_boxes(number, alpha)
        said = f"{name}: {number} boxes can hold a recall margin of {least * 100:.1f} points or more"
        need = boxes_for_margin(margin, alpha)
        short = f"; the rule asks for {margin * 100:.1f}: need {need - number} more boxes of class {name}"
        sentences.append(said + (short if least > margin else ""))
    return sentences
