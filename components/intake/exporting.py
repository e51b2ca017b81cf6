"""Any version as a plain export: the same bytes every time, whoever asks and wherever the store lies."""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from components.shared.dataset import DatasetVersion, bring_images, read_rows
from components.shared.errors import InvalidInput
from components.shared.store import Store

ExportFormat = Literal["coco", "yolo", "voc"]
IMAGE_FOLDER = {"coco": "images", "yolo": "images", "voc": "JPEGImages"}


def export_version(store: Store, version: DatasetVersion, export_format: ExportFormat, split: str, folder: Path) -> int:
    """Write `version` (or one split of it) as an export; `folder` appears whole or not at all.

    Returns:
        How many images it has.

    Raises:
        InvalidInput: the folder is there already.
    """
    if folder.exists():
        raise InvalidInput(f"{folder}: exists already, expected a new folder")
    rows = read_rows(store, version, split)
    listed = rows.to_pylist()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        bring_images(store, rows, beside / IMAGE_FOLDER[export_format])
        {"coco": _coco, "yolo": _yolo, "voc": _voc}[export_format](beside, version, listed)
        os.replace(beside, folder)  # noqa: PTH105  # as atomic as the file system
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(listed)


def _name(row: dict[str, Any]) -> str:
    return f"{row['image_sha256']}.{row['format']}"


def _coco(folder: Path, version: DatasetVersion, rows: list[dict[str, Any]]) -> None:
    """labels.json: tags, split and origin as keys of each image."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, row in enumerate(rows, start=1):
        size = {"width": row["width_px"], "height": row["height_px"]}
        facts = dict(row["tags"]) | {"split": row["split"], "origin": row["origin"]}
        images.append(facts | {"id": image_id, "file_name": _name(row), **size})
        for (x0, y0, x1, y1), class_id in zip(row["boxes"], row["class_ids"], strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": class_id + 1, **box})
    categories = [{"id": at, "name": name} for at, name in enumerate(version.class_names, start=1)]
    info = {"description": f"data set {version.name}", "version": version.digest}
    document = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(document, sort_keys=True, indent=1), encoding="utf-8")


def _yolo(folder: Path, version: DatasetVersion, rows: list[dict[str, Any]]) -> None:
    """labels/*.txt with as many digits as a float32 has, data.yaml, and a list of images for each split."""
    (folder / "labels").mkdir()
    for row in rows:
        lines = [_yolo_line(row, box, class_id) for box, class_id in zip(row["boxes"], row["class_ids"], strict=True)]
        (folder / "labels" / f"{row['image_sha256']}.txt").write_text("".join(lines))
    splits = [split for split in ("train", "val", "test") if any(row["split"] == split for row in rows)]
    for split in splits:
        listed = [f"./images/{_name(row)}\n" for row in rows if row["split"] == split]
        (folder / f"{split}.txt").write_text("".join(listed))
    names = "".join(f"  {at}: {json.dumps(name)}\n" for at, name in enumerate(version.class_names))
    parts = "".join(f"{split}: {split}.txt\n" for split in splits)
    (folder / "data.yaml").write_text(f"path: .\n{parts}nc: {len(version.class_names)}\nnames:\n{names}")


def _yolo_line(row: dict[str, Any], box: list[float], class_id: int) -> str:
    (x0, y0, x1, y1), width, height = box, row["width_px"], row["height_px"]
    shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return f"{class_id} " + " ".join(f"{share:.9f}" for share in shares) + "\n"


def _voc(folder: Path, version: DatasetVersion, rows: list[dict[str, Any]]) -> None:
    """Annotations/*.xml: pixels counted from 1, the last one included; classes.txt keeps the registry's order."""
    (folder / "Annotations").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in version.class_names))
    for row in rows:
        objects = "".join(
            f"  <object>\n    <name>{escape(version.class_names[class_id])}</name>\n"
            f"    <bndbox><xmin>{x0 + 1:.3f}</xmin><ymin>{y0 + 1:.3f}</ymin>"
            f"<xmax>{x1:.3f}</xmax><ymax>{y1:.3f}</ymax></bndbox>\n  </object>\n"
            for (x0, y0, x1, y1), class_id in zip(row["boxes"], row["class_ids"], strict=True)
        )
        size = f"<width>{row['width_px']}</width><height>{row['height_px']}</height><depth>3</depth>"
        head = f"<annotation>\n  <filename>{_name(row)}</filename>\n  <size>{size}</size>\n"
        (folder / "Annotations" / f"{row['image_sha256']}.xml").write_text(f"{head}{objects}</annotation>\n")
