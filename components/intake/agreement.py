"""Several annotators labeled one image: the newest reviewed answer counts, else a vote, else people look again."""

from collections.abc import Sequence
from typing import Any

from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.labels import Box, Label

SAME_OBJECT_IOU = 0.5
Reading = tuple[list[Label], list[Finding]]


def agreed(source: str, answers: Sequence[dict[str, Any]], readings: Sequence[Reading]) -> Reading:
    """One reading of the image.

    Args:
        source: The image.
        answers: Annotations as Label Studio has them, at least two.
        readings: The labels and findings of each.
    """
    reviewed = [at for at, answer in enumerate(answers) if _is_reviewed(answer)]
    if reviewed:
        newest = max(reviewed, key=lambda at: str(answers[at].get("updated_at") or ""))
        message = f"{len(answers)} annotators: the newest reviewed answer counts"
        labels, findings = readings[newest]
        return labels, [*findings, Finding(source, "", Code.LBL_MULTI, REPAIRED, message)]
    return _vote(source, readings)


def _is_reviewed(answer: dict[str, Any]) -> bool:
    reviews = answer.get("reviews")
    accepted = isinstance(reviews, list) and any(isinstance(one, dict) and one.get("accepted") for one in reviews)
    return bool(answer.get("ground_truth")) or accepted or answer.get("last_action") == "accepted"


def _vote(source: str, readings: Sequence[Reading]) -> Reading:
    """Objects that most annotators drew, as the middle of their boxes; a tie about any object decides nothing."""
    objects: list[dict[int, Label]] = []
    for voter, (labels, _) in enumerate(readings):
        for label in labels:
            match = next((one for one in objects if voter not in one and _same(next(iter(one.values())), label)), None)
            if match is None:
                objects.append({voter: label})
            else:
                match[voter] = label
    findings = [finding for _, found in readings for finding in found]
    tied = [one for one in objects if 2 * len(one) == len(readings)]
    if tied:
        message = f"{len(readings)} annotators, no review and a tie about {len(tied)} objects: label it again"
        return [], [*findings, Finding(source, "", Code.LBL_MULTI, QUARANTINED, message)]
    kept = [one for one in objects if 2 * len(one) > len(readings)]
    message = f"{len(readings)} annotators: {len(kept)} objects by majority, {len(objects) - len(kept)} outvoted"
    return [_middle(list(one.values())) for one in kept], [
        *findings,
        Finding(source, "", Code.LBL_MULTI, REPAIRED, message),
    ]


def _same(first: Label, second: Label) -> bool:
    turned = abs(first.rotation_deg - second.rotation_deg) < 5
    return first.class_name == second.class_name and turned and _iou(first.box, second.box) >= SAME_OBJECT_IOU


def _middle(labels: list[Label]) -> Label:
    """The first annotator's label with the mean of all boxes."""
    x0, y0, x1, y1 = (sum(sides) / len(labels) for sides in zip(*(label.box for label in labels), strict=True))
    first = labels[0]
    return Label(first.row, first.class_name, (x0, y0, x1, y1), first.rotation_deg, first.pivot)


def _iou(first: Box, second: Box) -> float:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, wide) * max(0.0, high)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0
