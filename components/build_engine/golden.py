"""Golden images: a few training images with the boxes that FP32 finds, so that a device can test itself."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from components.shared.detection import Detections, Detector, load_detector
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput

MIN_SCORE = 0.25
MIN_OVERLAP = 0.5


def choose_golden(rows: pa.Table, count: int, seed: int) -> pa.Table:
    """Training rows for the golden set: seeded, images with boxes first, small ones before large ones.

    Raises:
        InvalidInput: there is no training image.
    """
    if not rows.num_rows:
        raise InvalidInput("golden images: got no train images, expected at least one")
    order = np.random.default_rng(seed).permutation(rows.num_rows)
    empty = np.array([not ids for ids in rows["class_ids"].to_pylist()])
    pixels = rows["width_px"].to_numpy().astype(np.int64) * rows["height_px"].to_numpy()
    ranked = order[np.lexsort((pixels[order] // 1_000_000, empty[order]))]
    return rows.take(np.sort(ranked[:count]))


def write_golden(model: Path, images: Sequence[Path], folder: Path, threads: int) -> dict:
    """Copy `images` to `folder` and write detections.json: what `model`, the FP32 reference, finds on them."""
    folder.mkdir(parents=True)
    detector = load_detector(model, threads)
    entries = []
    for image in images:
        shutil.copyfile(image, folder / image.name)
        found = detector.detect([read_pixels(image)], MIN_SCORE, every_class=False)[0]
        entries.append({"file": image.name, "sha256": digest_file(image), "detections": _as_json(found)})
    golden = {
        "model_sha256": digest_file(model),
        "class_names": list(detector.class_names),
        "image_size_px": list(detector.image_size_px),
        "min_score": MIN_SCORE,
        "min_overlap": MIN_OVERLAP,
        "images": entries,
    }
    (folder / "detections.json").write_text(json.dumps(golden, indent=2, sort_keys=True))
    return golden


def parity(detector: Detector, golden: dict, folder: Path) -> dict[str, float]:
    """How a target's boxes answer the golden ones.

    Returns:
        `boxes` expected, the share `found` (same class, overlap of at least 0.5; 1.0 when none is expected), the share
        of `extra` boxes, `mean_overlap` and `max_score_change` over those found.
    """
    overlaps: list[float] = []
    changes: list[float] = []
    expected = got = 0
    for entry in golden["images"]:
        found = detector.detect([read_pixels(folder / entry["file"])], golden["min_score"], every_class=False)[0]
        expected, got = expected + len(entry["detections"]), got + len(found.scores)
        for overlap, change in _matches(entry["detections"], found):
            overlaps.append(overlap)
            changes.append(change)
    return {
        "boxes": expected,
        "found": round(len(overlaps) / expected, 4) if expected else 1.0,
        "extra": round((got - len(overlaps)) / got, 4) if got else 0.0,
        "mean_overlap": round(float(np.mean(overlaps)), 4) if overlaps else 1.0,
        "max_score_change": round(max(changes), 4) if changes else 0.0,
    }


def read_pixels(image: Path) -> np.ndarray:
    """(H, W, 3) uint8, blue first.

    Raises:
        InvalidInput: the file is no image.
    """
    data = np.fromfile(image, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if pixels is None:
        raise InvalidInput(f"image {image}: cannot be read, expected JPEG, PNG, BMP or WebP")
    return pixels


def _as_json(found: Detections) -> list[dict]:
    return [
        {"xyxy_px": [round(float(side), 2) for side in box], "score": round(float(score), 5), "class_id": int(number)}
        for box, score, number in zip(found.xyxy_px, found.scores, found.class_ids, strict=True)
    ]


def _matches(expected: Sequence[dict], found: Detections) -> list[tuple[float, float]]:
    """(overlap, change of score) of each expected box that is answered; each answer counts once."""
    free = np.ones(len(found.scores), bool)
    matched = []
    for box in expected:
        overlaps = _overlaps(np.asarray(box["xyxy_px"], np.float32), found.xyxy_px)
        overlaps[~free | (found.class_ids != box["class_id"])] = 0
        if len(overlaps) and overlaps.max() >= MIN_OVERLAP:
            best = int(overlaps.argmax())
            free[best] = False
            matched.append((float(overlaps[best]), abs(float(found.scores[best]) - box["score"])))
    return matched


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    top_left, bottom_right = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
    return np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)
