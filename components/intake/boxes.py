"""The labels of one image: made pixels of the stored image, checked, repaired or quarantined one by one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.labels import Box, Label, LabeledImage, hull_of
from components.intake.settings import IntakeSettings

LOOSE_HULL = 1.6
"""A hull of a turned box this much larger than the box is worth a note."""
ROUNDING_PX = 0.5
"""Coordinates outside the image by no more than this are rounding of the writer, and clipped without a word."""


@dataclass(frozen=True)
class CheckedLabels:
    """What is left: boxes (N, 4) float32 x0 y0 x1 y1 in pixels with their class ids, and what became of the others."""

    boxes: np.ndarray
    class_ids: list[int]
    findings: tuple[Finding, ...]
    lost: dict[str, Box]
    """Boxes of quarantined rows, in pixels, where they can be drawn."""


def check_labels(
    told: LabeledImage,
    size_px: tuple[int, int],
    orientation: int,
    class_ids: Mapping[str, int],
    settings: IntakeSettings,
) -> CheckedLabels:
    """Check every label of one image.

    Args:
        told: As the export tells it.
        size_px: Width and height of the stored, upright image.
        orientation: EXIF orientation of the original photo.
        class_ids: Registered classes.
        settings: Thresholds and aliases.
    """
    findings: list[Finding] = []
    kept: list[tuple[Box, int]] = []
    lost: dict[str, Box] = {}
    for label in told.labels:
        name = settings.class_aliases.get(label.class_name, label.class_name)
        if name not in class_ids:
            message = f"class {label.class_name!r}, expected one of {', '.join(class_ids)}"
            findings.append(Finding(told.source, label.row, Code.CLS_UNKNOWN, QUARANTINED, message))
            continue
        box, found = _check_box(told, label, size_px, orientation, settings)
        if name != label.class_name:
            found.append((Code.CLS_ALIAS, REPAIRED, f"class {label.class_name!r} is {name!r}"))
        if box is not None and _repeats(box, class_ids[name], kept, settings.duplicate_iou):
            found.append((Code.BOX_DUP, REPAIRED, "the same box of the same class again: dropped"))
            box = None
        findings += [Finding(told.source, label.row, *outcome) for outcome in found]
        if any(action == QUARANTINED for _, action, _ in found) and all(map(math.isfinite, label.box)):
            lost[label.row] = _in_pixels(told, label.box, size_px)
        if box is not None:
            kept.append((box, class_ids[name]))
    boxes = np.array([box for box, _ in kept], np.float32).reshape(-1, 4)
    return CheckedLabels(boxes, [class_id for _, class_id in kept], tuple(findings), lost)


def _check_box(
    told: LabeledImage, label: Label, size_px: tuple[int, int], orientation: int, settings: IntakeSettings
) -> tuple[Box | None, list[tuple[Code, str, str]]]:
    if not all(map(math.isfinite, (*label.box, label.rotation_deg))):
        return None, [(Code.BOX_NAN, QUARANTINED, f"coordinates {label.box}, expected finite numbers")]
    x0, y0, x1, y1 = label.box
    if x1 < x0 or y1 < y0:
        return None, [(Code.BOX_NEG, QUARANTINED, f"ends before it starts: {_show(label.box)}")]
    found: list[tuple[Code, str, str]] = []
    box = _in_pixels(told, label.box, size_px)
    if label.rotation_deg % 360:
        hull = _hull(box, label)
        growth = _area(hull) / max(_area(box), 1e-9)
        loose = ", loose" * (growth > LOOSE_HULL)
        message = f"turned {label.rotation_deg:g} deg: its hull, {growth:.2f} of its area{loose}"
        found.append((Code.BOX_ROTATED, REPAIRED, message))
        box = hull
    box, turned = _upright(told, box, size_px, orientation)
    return _inside(box, size_px, settings, found + turned)


def _inside(
    box: Box, size_px: tuple[int, int], settings: IntakeSettings, found: list[tuple[Code, str, str]]
) -> tuple[Box | None, list[tuple[Code, str, str]]]:
    width, height = size_px
    clipped = (
        min(max(box[0], 0.0), width), min(max(box[1], 0.0), height),
        min(max(box[2], 0.0), width), min(max(box[3], 0.0), height),
    )  # fmt: skip
    where = f"{_show(box)} in an image of {width}x{height} px"
    if max(abs(a - b) for a, b in zip(clipped, box, strict=True)) > ROUNDING_PX:
        share = _area(clipped) / max(_area(box), 1e-9)
        if not share >= settings.min_inside_share:
            return None, [*found, (Code.BOX_OOB, QUARANTINED, f"{where}: {share:.0%} inside")]
        found = [*found, (Code.BOX_OOB, REPAIRED, f"{where}: clipped, {share:.0%} inside")]
    if min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < settings.min_side_px:
        return None, [*found, (Code.BOX_ZERO, QUARANTINED, f"{where}: a side under {settings.min_side_px:g} px")]
    return clipped, found


def _in_pixels(told: LabeledImage, box: Box, size_px: tuple[int, int]) -> Box:
    width, height = size_px if told.relative else (1, 1)
    return (box[0] * width, box[1] * height, box[2] * width, box[3] * height)


def _upright(
    told: LabeledImage, box: Box, size_px: tuple[int, int], orientation: int
) -> tuple[Box, list[tuple[Code, str, str]]]:
    """Boxes of a sideways photo whose label file tells its sides swapped, brought into the upright image."""
    width, height = size_px
    if orientation < 5 or told.relative or (told.width_px, told.height_px) != (height, width) or width == height:
        return box, []
    x0, y0, x1, y1 = box
    if told.rescale:
        wide, high = width / height, height / width
        message = "stretched back: the export swapped the photo's sides"
        return (x0 * wide, y0 * high, x1 * wide, y1 * high), [(Code.IMG_EXIF, REPAIRED, message)]
    turned = {
        5: (y0, x0, y1, x1),
        6: (width - y1, x0, width - y0, x1),
        7: (width - y1, height - x1, width - y0, height - x0),
        8: (y0, height - x1, y1, height - x0),
    }[orientation]
    return turned, [(Code.IMG_EXIF, REPAIRED, "turned with its photo: labeled on the unturned pixels")]


def _hull(box: Box, label: Label) -> Box:
    """Axis-aligned hull, in pixels, of a box turned clockwise (the y axis points down) about its pivot."""
    x0, y0, x1, y1 = box
    px, py = (x0, y0) if label.pivot == "corner" else ((x0 + x1) / 2, (y0 + y1) / 2)
    cosine, sine = math.cos(math.radians(label.rotation_deg)), math.sin(math.radians(label.rotation_deg))
    corners = [(x - px, y - py) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return hull_of([(px + x * cosine - y * sine, py + x * sine + y * cosine) for x, y in corners])


def _repeats(box: Box, class_id: int, kept: list[tuple[Box, int]], iou: float) -> bool:
    for other, of_class in kept:
        if of_class == class_id:
            wide = min(box[2], other[2]) - max(box[0], other[0])
            high = min(box[3], other[3]) - max(box[1], other[1])
            shared = wide * high if wide > 0 and high > 0 else 0.0
            if shared > iou * (_area(box) + _area(other) - shared):
                return True
    return False


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _show(box: Box) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in box) + "]"
