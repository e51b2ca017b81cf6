"""A labeling export made by hand: nothing about it is as our own factory writes it."""

import json
from pathlib import Path

import cv2
import numpy as np

SHAPES = {"traffic cone": (0, 120, 255), "Päckchen": (200, 80, 40)}


def write_export(folder: Path, images: int = 24, seed: int = 3) -> Path:
    """A COCO export as no factory of ours writes it: other classes, sizes, category ids, PNG and JPEG mixed."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    listing, boxes = [], []
    for number in range(1, images + 1):
        width, height = int(rng.integers(90, 200)), int(rng.integers(70, 160))
        picture = rng.integers(90, 140, (height, width, 3)).astype(np.uint8)
        for category, colour in enumerate(SHAPES.values(), start=4):
            w, h = int(rng.integers(24, 40)), int(rng.integers(24, 40))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), colour, -1)
            box = {"id": len(boxes) + 1, "image_id": number, "category_id": category, "bbox": [x, y, w, h]}
            boxes.append(box | {"area": w * h, "iscrowd": 0})
        name = f"frame {number}.{'png' if number % 2 else 'jpg'}"
        cv2.imwrite(str(folder / "images" / name), picture)
        listing.append({"id": number, "file_name": name, "width": width, "height": height})
    categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES, start=4)]
    coco = {"images": listing, "annotations": boxes, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(coco, ensure_ascii=False))
    return folder
