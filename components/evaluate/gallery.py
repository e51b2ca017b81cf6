"""Pictures of what went wrong, cut out around the box, truth and detection drawn in."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from components.evaluate.errors import acted_on, found_boxes
from components.evaluate.matching import overlaps
from components.evaluate.measured import Measured
from components.evaluate.measures import AT_50
from components.evaluate.predictions import Predictions, read_image
from components.evaluate.truth import Truth
from components.shared.report import picture

TRUTH_BGR, CHALLENGER_BGR, CHAMPION_BGR = (94, 197, 34), (22, 115, 249), (247, 85, 168)
SIDE_PX = 224
CONTEXT = 2.6
"""Side of the cut-out, in sides of the box."""

FAINTEST = 0.02
"""Scores below it are not worth showing as a guess."""


@dataclass(frozen=True)
class Shown:
    """One thing to look at: a box in an image, what else to draw, and what to say."""

    image: int
    xywh_px: np.ndarray
    drawn: list[tuple[np.ndarray, tuple[int, int, int]]]
    caption: str


def misses(model: Measured, truth: Truth, limit: int) -> list[Shown]:
    """Labelled boxes that were not found, the largest for their class first: what cannot be missed for its size."""
    missed = np.flatnonzero(np.isnan(found_boxes(model.matches, model.thresholds)) & ~truth.crowd)
    typical = np.array([np.median(truth.areas_px2[truth.class_ids == c]) if (truth.class_ids == c).any() else 1
                        for c in range(len(truth.class_names))])  # fmt: skip
    order = missed[np.argsort(-truth.areas_px2[missed] / typical[truth.class_ids[missed]], kind="stable")]
    return [_missed(int(box), model, truth) for box in order[:limit]]


def false_alarms(model: Measured, truth: Truth, limit: int) -> list[Shown]:
    """Detections that found nothing, the surest first."""
    wrong = np.flatnonzero(acted_on(model.matches, model.thresholds) & ~model.matches.right[:, AT_50])
    order = wrong[np.argsort(-model.matches.scores[wrong], kind="stable")]
    shown = []
    for row in order[:limit]:
        box = model.predictions.xywh_px[model.matches.index[row]]
        image = int(model.matches.image_index[row])
        said = f"{truth.class_names[model.matches.class_ids[row]]} {model.matches.scores[row]:.2f}"
        labelled = np.flatnonzero(truth.image_index == image)
        near = overlaps(box[None], truth.xywh_px[labelled], truth.crowd[labelled])
        there = labelled[near > 0]
        drawn = [(truth.xywh_px[one], TRUTH_BGR) for one in there] + [(box, CHALLENGER_BGR)]
        what = f"is {truth.class_names[truth.class_ids[labelled[near.argmax()]]]}" if len(there) else "nothing there"
        shown.append(Shown(image, box, drawn, f"said {said}; {what}"))
    return shown


def lost(model: Measured, champion: Measured, truth: Truth, limit: int) -> list[Shown]:
    """Boxes that the champion finds and the challenger does not, the champion's surest first."""
    before = found_boxes(champion.matches, champion.thresholds)
    now = found_boxes(model.matches, model.thresholds)
    gone = np.flatnonzero(np.isfinite(before) & np.isnan(now))
    shown = []
    for box in gone[np.argsort(-before[gone], kind="stable")][:limit]:
        seen = _missed(int(box), model, truth)
        theirs = _nearest(int(box), champion.predictions, truth, int(truth.class_ids[box]))
        drawn = [*seen.drawn, (champion.predictions.xywh_px[theirs], CHAMPION_BGR)] if theirs >= 0 else seen.drawn
        shown.append(Shown(seen.image, seen.xywh_px, drawn, f"{seen.caption}; champion {before[box]:.2f}"))
    return shown


def pictures(shown: list[Shown], truth: Truth) -> Iterator[str]:
    """Each as HTML, captioned with its image's tags."""
    for one in shown:
        tags = " ".join(
            value for tag, value in sorted(truth.tags[one.image].items()) if tag in ("camera", "shift", "site")
        )
        yield picture(cut_out(read_image(truth.images[one.image]), one), f"{one.caption}{f' ({tags})' if tags else ''}")


def cut_out(image: np.ndarray, shown: Shown) -> np.ndarray:
    """(SIDE_PX, SIDE_PX, 3) around the box, with the boxes drawn thin enough to see what is in them."""
    x, y, width, height = shown.xywh_px
    side = min(max(width, height) * CONTEXT, max(image.shape[:2]))
    side = max(side, min(48, max(image.shape[:2])))
    left = float(np.clip(x + width / 2 - side / 2, 0, max(image.shape[1] - side, 0)))
    top = float(np.clip(y + height / 2 - side / 2, 0, max(image.shape[0] - side, 0)))
    scale = SIDE_PX / side
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    part = image[int(top) : int(np.ceil(top + side)), int(left) : int(np.ceil(left + side))]
    size = round(part.shape[1] * scale), round(part.shape[0] * scale)
    canvas = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
    resized = cv2.resize(part, size, interpolation=how)[:SIDE_PX, :SIDE_PX]
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    for (bx, by, bw, bh), colour in shown.drawn:
        start = round((bx - int(left)) * scale), round((by - int(top)) * scale)
        end = round((bx + bw - int(left)) * scale), round((by + bh - int(top)) * scale)
        cv2.rectangle(canvas, start, end, (0, 0, 0), 3)
        cv2.rectangle(canvas, start, end, colour, 2)
    return canvas


def _missed(box: int, model: Measured, truth: Truth) -> Shown:
    predictions, kind = model.predictions, int(truth.class_ids[box])
    guess = _nearest(box, predictions, truth)
    drawn = [(truth.xywh_px[box], TRUTH_BGR)]
    caption = f"{truth.class_names[kind]} missed: saw nothing"
    if guess >= 0:
        drawn.append((predictions.xywh_px[guess], CHALLENGER_BGR))
        said, score = int(predictions.class_ids[guess]), predictions.scores[guess]
        caption = f"{truth.class_names[kind]} missed: saw {truth.class_names[said]} {score:.2f}"
        if said == kind:
            unsure = score < model.thresholds[kind]
            caption += f", needs {model.thresholds[kind]:.2f}" if unsure else ", badly placed or taken"
    return Shown(int(truth.image_index[box]), truth.xywh_px[box], drawn, caption)


def _nearest(box: int, predictions: Predictions, truth: Truth, class_id: int = -1) -> int:
    """The surest detection (of a class, or of any) that lies on the labelled box; -1 for none."""
    start, end = np.searchsorted(predictions.image_index, [truth.image_index[box], truth.image_index[box] + 1])
    overlap = overlaps(predictions.xywh_px[start:end], truth.xywh_px[box][None], np.zeros(1, bool))
    here = (overlap >= 0.3) & (predictions.scores[start:end] >= FAINTEST)
    if class_id >= 0:
        here &= predictions.class_ids[start:end] == class_id
    if not here.any():
        return -1
    return int(start + np.where(here, predictions.scores[start:end], -1).argmax())
