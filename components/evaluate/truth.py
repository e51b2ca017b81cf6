"""What is really in the images: labelled boxes as flat arrays, from data set rows or from a COCO file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.digests import digest_file, digest_json
from components.shared.errors import InvalidInput


@dataclass(frozen=True)
class Truth:
    """Labelled boxes of a set of images. Box arrays share one order, sorted by image."""

    class_names: tuple[str, ...]
    images: list[Path]
    groups: np.ndarray
    """(I,) int64: images of one group are resampled together."""
    tags: list[dict[str, str]]
    """One an image: camera, shift, site, ..."""
    xywh_px: np.ndarray
    """(G, 4) float64: left, top, width, height."""
    areas_px2: np.ndarray
    """(G,) float64, of the box or of the mask that the file states."""
    class_ids: np.ndarray
    """(G,) int64."""
    image_index: np.ndarray
    """(G,) int64, into `images`."""
    crowd: np.ndarray
    """(G,) bool: a region of many; finding it is no merit, missing it no fault."""
    digest: str
    """Names images and labels."""

    def boxes_of_class(self) -> np.ndarray:
        """(C,) int64: labelled boxes of each class, crowds left out."""
        return np.bincount(self.class_ids[~self.crowd], minlength=len(self.class_names))


def truth_of_rows(rows: Any, class_names: Sequence[str], images: list[Path]) -> Truth:
    """Truth of data set rows.

    Args:
        rows: pyarrow Table in the order of `images`.
        class_names: Of the data set version.
        images: Local copies.
    """
    boxes = [np.asarray(row, np.float64).reshape(-1, 4) for row in rows["boxes"].to_pylist()]
    class_ids = [np.asarray(row, np.int64) for row in rows["class_ids"].to_pylist()]
    xyxy = np.concatenate([np.zeros((0, 4)), *boxes])
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    _, groups = np.unique(np.asarray(rows["group"].to_pylist(), dtype=object).astype(str), return_inverse=True)
    return Truth(
        tuple(class_names),
        images,
        groups.astype(np.int64),
        [dict(row or {}) for row in rows["tags"].to_pylist()],
        xywh,
        xywh[:, 2] * xywh[:, 3],
        np.concatenate([np.zeros(0, np.int64), *class_ids]),
        np.repeat(np.arange(len(boxes)), [len(row) for row in boxes]),
        np.zeros(len(xywh), bool),
        digest_json([rows["image_sha256"].to_pylist(), digest_json(xyxy.tolist()), list(class_names)]),
    )


def truth_of_coco(file: Path, image_folder: Path) -> Truth:
    """Truth of a COCO detection file.

    Raises:
        InvalidInput: not COCO, nothing in it, or images that are not in `image_folder`.
    """
    try:
        content = json.loads(file.read_bytes())
        images = sorted(content["images"], key=lambda image: image["id"])
        categories = sorted(content["categories"], key=lambda category: category["id"])
        annotations = content["annotations"]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InvalidInput(f"{file}: no COCO detection file ({type(fault).__name__}: {fault})") from fault
    if not images or not categories:
        raise InvalidInput(f"{file}: got {len(images)} images and {len(categories)} categories, expected some of each")
    paths = [image_folder / image["file_name"] for image in images]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise InvalidInput(f"{image_folder}: {len(missing)} of {len(paths)} images are missing, first {missing[0]!r}")
    place = {image["id"]: index for index, image in enumerate(images)}
    number = {category["id"]: index for index, category in enumerate(categories)}
    try:
        annotations = sorted(annotations, key=lambda one: place[one["image_id"]])
        class_ids = np.array([number[one["category_id"]] for one in annotations], np.int64)
        xywh = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    except (KeyError, ValueError) as fault:
        raise InvalidInput(f"{file}: an annotation has no bbox or names nothing known: {fault}") from fault
    areas = [one.get("area", box[2] * box[3]) for one, box in zip(annotations, xywh, strict=True)]
    return Truth(
        tuple(category["name"] for category in categories),
        paths,
        np.arange(len(images)),
        [{} for _ in images],
        xywh,
        np.array(areas, np.float64),
        class_ids,
        np.array([place[one["image_id"]] for one in annotations], np.int64),
        np.array([bool(one.get("iscrowd", 0)) for one in annotations], bool),
        digest_file(file),
    )
