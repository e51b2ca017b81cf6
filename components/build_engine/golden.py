"""Golden images: a few training images with the boxes that FP32 finds, so that a device can test itself."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from components.shared.agreement import MIN_OVERLAP, MIN_SCORE, agreement
from components.shared.detection import Detections, Detector, load_detector
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput


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
    """How a target's boxes answer the golden ones; see `components.shared.agreement`."""
    pairs = []
    for entry in golden["images"]:
        found = detector.detect([read_pixels(folder / entry["file"])], golden["min_score"], every_class=False)[0]
        pairs.append((_from_json(entry["detections"]), found))
    return agreement(pairs)


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


def _from_json(boxes: Sequence[dict]) -> Detections:
    return Detections(
        np.array([box["xyxy_px"] for box in boxes], np.float32).reshape(-1, 4),
        np.array([box["score"] for box in boxes], np.float32),
        np.array([box["class_id"] for box in boxes], np.int64),
    )
