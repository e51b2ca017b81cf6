"""The review queue: suspicious images as Label Studio tasks and as CVAT XML with pre-annotations.

What people send back goes through intake like any export: the images are the stored bytes, so rows are replaced by
digest and the old ones stay in the history.
"""

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import pyarrow as pa

from components.intake.suspects import SEEN, Doubt, doubts
from components.shared.dataset import DatasetVersion, bring_images, read_rows
from components.shared.detection import Detections, load_detector
from components.shared.errors import InvalidInput
from components.shared.progress import progress
from components.shared.store import Store

BATCH = 16
NMS_IOU = 0.45
"""Stricter than for scores: two detections of one object would doubt each other."""


@dataclass(frozen=True)
class Suspect:
    """An image to look at again, with what the champion saw in it."""

    row: dict[str, Any]
    seen: Detections
    doubts: list[Doubt]

    @property
    def weight(self) -> float:
        """How much is doubted, all in all."""
        return sum(doubt.weight for doubt in self.doubts)

    @property
    def file(self) -> str:
        """Name of the image file."""
        return f"{self.row['image_sha256']}.{self.row['format']}"


def write_queue(
    store: Store, version: DatasetVersion, model: Path, key_classes: Sequence[str], limit: int, folder: Path
) -> int:
    """Write the `limit` most suspicious images of `version` as a review queue; returns how many there are.

    Args:
        store: Holds the images.
        version: Data set version; its frozen test set is looked at like the rest.
        model: The champion, ONNX or OpenVINO.
        key_classes: Classes that must not be missed.
        limit: Images at most.
        folder: A new folder; appears whole or not at all.

    Raises:
        InvalidInput: the folder exists, or the model knows other classes.
    """
    if folder.exists():
        raise InvalidInput(f"{folder}: exists already, expected a new folder")
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        rows = read_rows(store, version)
        suspects = _suspects(store, version, rows, model, key_classes, beside / "all")
        chosen = sorted(suspects, key=lambda one: (-one.weight, one.file))[:limit]
        (beside / "images").mkdir(parents=True)
        for one in chosen:
            (beside / "all" / one.file).rename(beside / "images" / one.file)
        shutil.rmtree(beside / "all", ignore_errors=True)
        _write(beside, version, chosen)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(chosen)


def _suspects(
    store: Store, version: DatasetVersion, rows: pa.Table, model: Path, key_classes: Sequence[str], folder: Path
) -> Iterator[Suspect]:
    detector = load_detector(model)
    if tuple(detector.class_names) != version.class_names:
        names = list(detector.class_names)
        raise InvalidInput(f"{model}: classes {names}, expected those of the data set {list(version.class_names)}")
    starts = range(0, rows.num_rows, BATCH)
    for start in progress(starts, "look for suspicious labels", len(starts)):
        part = rows.slice(start, BATCH)
        paths = bring_images(store, part, folder)
        images = [np.asarray(cv2.imread(str(path))) for path in paths]
        for path, row, seen in zip(
            paths, part.to_pylist(), detector.detect(images, min_score=SEEN, iou=NMS_IOU), strict=True
        ):
            found = doubts(row, seen, version.class_names, key_classes)
            if found:
                yield Suspect(row, seen, found)
            else:
                path.unlink()


def _write(folder: Path, version: DatasetVersion, suspects: Sequence[Suspect]) -> None:
    tasks = [_task(one, version.class_names) for one in suspects]
    (folder / "label_studio.json").write_text(json.dumps(tasks, indent=1))
    (folder / "cvat.xml").write_text(_cvat(suspects, version.class_names))
    told = [{"image": one.file, "weight": round(one.weight, 4), "doubts": _plain(one.doubts)} for one in suspects]
    (folder / "reasons.json").write_text(json.dumps({"dataset": version.digest, "images": told}, indent=1))


def _plain(doubts_: Sequence[Doubt]) -> list[dict[str, Any]]:
    return [asdict(doubt) for doubt in doubts_]


def _task(one: Suspect, class_names: Sequence[str]) -> dict[str, Any]:
    """A Label Studio task: the labels as they are, and what the champion saw, both as predictions to start from."""
    told = zip(one.row["boxes"], one.row["class_ids"], strict=True)
    champion = zip(one.seen.xyxy_px.tolist(), one.seen.class_ids.tolist(), one.seen.scores.tolist(), strict=True)
    by_whom = {
        "current labels": [_rectangle(one.row, box, class_names[class_id]) for box, class_id in told],
        "champion": [_rectangle(one.row, box, class_names[at]) for box, at, score in champion if score >= SEEN],
    }
    score = min(1.0, one.weight / 10)
    predictions = [{"model_version": who, "score": score, "result": found} for who, found in by_whom.items()]
    why = "; ".join(f"{doubt.kind} ({doubt.class_name})" for doubt in one.doubts[:5])
    data = {"image": f"/data/local-files/?d=images/{one.file}", "why": why, **dict(one.row["tags"])}
    return {"data": data, "predictions": predictions}


def _rectangle(row: dict[str, Any], box: Sequence[float], class_name: str) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    across, down = 100 / row["width_px"], 100 / row["height_px"]
    value = {"x": x0 * across, "y": y0 * down, "width": (x1 - x0) * across, "height": (y1 - y0) * down, "rotation": 0}
    size = {"original_width": row["width_px"], "original_height": row["height_px"]}
    names = {"from_name": "label", "to_name": "image", "type": "rectanglelabels"}
    return {**names, **size, "value": {**value, "rectanglelabels": [class_name]}}


def _cvat(suspects: Sequence[Suspect], class_names: Sequence[str]) -> str:
    """CVAT for images 1.1 with the labels as they are, the heaviest doubts first."""
    labels = "".join(f"<label><name>{_escaped(name)}</name></label>" for name in class_names)
    images = "".join(_cvat_image(number, one, class_names) for number, one in enumerate(suspects))
    head = f"<version>1.1</version>\n<meta><task><labels>{labels}</labels></task></meta>\n"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{head}{images}</annotations>\n'


def _cvat_image(number: int, one: Suspect, class_names: Sequence[str]) -> str:
    boxes = "".join(
        f'  <box label={quoteattr(class_names[class_id])} source="file" occluded="0" '
        f'xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}" z_order="0"/>\n'
        for (x0, y0, x1, y1), class_id in zip(one.row["boxes"], one.row["class_ids"], strict=True)
    )
    size = f'width="{one.row["width_px"]}" height="{one.row["height_px"]}"'
    return f'<image id="{number}" name="{one.file}" {size}>\n{boxes}</image>\n'


def _escaped(text: str) -> str:
    return quoteattr(text)[1:-1]
