"""What a model sees in the images: its detections as flat arrays, in the classes of the truth."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth
from components.shared.detection import Detections, Detector, load_detector
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.memory import once
from components.shared.progress import progress
from components.shared.store import Store

logger = logging.getLogger(__name__)
AT_ONCE = 4
"""Images a worker takes: few enough to spread, enough to pay for the taking."""


@dataclass(frozen=True)
class Predictions:
    """Detections of a set of images, sorted by image, best score first within one."""

    xywh_px: np.ndarray
    """(N, 4) float64: left, top, width, height."""
    scores: np.ndarray
    """(N,) float64."""
    class_ids: np.ndarray
    """(N,) int64, numbers of the truth's classes."""
    image_index: np.ndarray
    """(N,) int64."""


def predict(model: Path, truth: Truth, settings: EvaluateSettings) -> Predictions:
    """Detections of `model` in the truth's images, in streaming batches.

    Raises:
        InvalidInput: no detector, an image that cannot be read, or no class in common with the truth.
    """
    detector = load_detector(model, threads=1)
    numbers = _common_classes(detector, truth.class_names)

    def look(start: int) -> list[np.ndarray]:
        images = [read_image(path) for path in truth.images[start : start + AT_ONCE]]
        found = detector.detect(images, settings.min_score, settings.nms_iou, settings.max_detections)
        return _in_classes(found, numbers, start)

    starts = range(0, len(truth.images), AT_ONCE)
    with ThreadPoolExecutor(settings.threads or len(os.sched_getaffinity(0))) as pool:
        parts = list(progress(pool.map(look, starts), f"predict {model.name}", len(starts)))
    return _flat(list(zip(*parts, strict=True)) or [[], [], [], []])


def remembered(model: Path, truth: Truth, settings: EvaluateSettings, store: Store, file: Path) -> Predictions:
    """`predict`, paid for once per model, images and settings; kept at `file`."""
    decided_by = {"min_score", "nms_iou", "max_detections"}
    inputs: dict[str, Any] = {
        "model": _model_digest(model),
        "runtime": model.suffix,
        "classes": list(truth.class_names),
    }
    inputs |= {"images": truth.digest, "settings": settings.model_dump(mode="json", include=decided_by)}
    once(store, "evaluate", inputs, {"predictions": file}, lambda: _save(predict(model, truth, settings), file))
    return read_predictions(file)


def read_predictions(file: Path) -> Predictions:
    """Predictions as `remembered` left them."""
    with np.load(file) as arrays:
        xyxy = [arrays["xyxy_px"]], [arrays["scores"]], [arrays["class_ids"]], [arrays["image_index"]]
        return _flat(xyxy)


def _save(predictions: Predictions, file: Path) -> None:
    xyxy = predictions.xywh_px.copy()
    xyxy[:, 2:] += xyxy[:, :2]
    np.savez(
        file,
        xyxy_px=xyxy.astype(np.float32),
        scores=predictions.scores.astype(np.float32),
        class_ids=predictions.class_ids.astype(np.int32),
        image_index=predictions.image_index.astype(np.int32),
    )


def _flat(parts: Sequence[Any]) -> Predictions:
    xyxy = np.concatenate([np.zeros((0, 4), np.float32), *parts[0]]).astype(np.float64)
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    scores, class_ids, image_index = (np.concatenate([np.zeros(0), *part]) for part in parts[1:])
    return Predictions(xywh, scores.astype(np.float64), class_ids.astype(np.int64), image_index.astype(np.int64))


def _model_digest(model: Path) -> list[str]:
    files = [model, model.with_suffix(".bin")] if model.suffix == ".xml" else [model]
    return [digest_file(file) for file in files]


def _in_classes(found: Sequence[Detections], numbers: np.ndarray, start: int) -> list[np.ndarray]:
    """Boxes, scores, the truth's class numbers and image places of some images' detections."""
    class_ids = numbers[np.concatenate([one.class_ids for one in found])]
    image_index = np.repeat(np.arange(start, start + len(found)), [len(one.scores) for one in found])
    boxes, scores = (np.concatenate([getattr(one, name) for one in found]) for name in ("xyxy_px", "scores"))
    known = class_ids >= 0
    return [values[known] for values in (boxes, scores, class_ids, image_index)]


def _common_classes(detector: Detector, class_names: Sequence[str]) -> np.ndarray:
    """(model classes,) number of each of the model's classes in the truth, -1 for those unknown to it."""
    known = {name: number for number, name in enumerate(class_names)}
    numbers = np.array([known.get(name, -1) for name in detector.class_names])
    if (numbers < 0).all():
        raise InvalidInput(
            f"{detector.path}: knows {list(detector.class_names)[:8]}, the labels know {list(class_names)[:8]}: "
            "expected at least one class name in common"
        )
    if missing := sorted(set(class_names) - set(detector.class_names)):
        logger.warning("model=%s lacks classes=%s: they score 0", detector.path.name, missing)
    return numbers


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR.

    Raises:
        InvalidInput: not an image that OpenCV reads.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidInput(f"{path}: not an image that can be read")
    return image
