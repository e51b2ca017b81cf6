"""Exports as the labeling tools write them: COCO, YOLO, Pascal VOC, CVAT 1.1 for images, Label Studio JSON."""

import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from xml.etree import ElementTree as xml

from components.shared.errors import InvalidInput, MissingCapability

Format = Literal["coco", "yolo", "voc", "cvat", "labelstudio"]
FORMATS: tuple[Format, ...] = get_args(Format)
IMAGE_FOLDERS = {"coco": "images", "yolo": "images", "voc": "JPEGImages", "cvat": "images", "labelstudio": "images"}
COCO_CATEGORY_IDS = (1, 2, 3, 7)  # with a gap, as after a category was deleted
REQUEST_FILE = ".sample.json"


@dataclass(frozen=True)
class Frame:
    """What a label file says about one image: `boxes` are (x0, y0, x1, y1) pixels, `facts` camera, session, shift..."""

    file_name: str
    width_px: int
    height_px: int
    boxes: tuple[tuple[float, float, float, float], ...]
    class_ids: tuple[int, ...]
    facts: dict[str, str]


def write_export(folder: Path, format: Format, frames: Sequence[Frame], class_names: Sequence[str]) -> None:
    """Write the label files of `format` into `folder`, whose images lie in `IMAGE_FOLDERS[format]` already."""
    writers = {"coco": _coco, "yolo": _yolo, "voc": _voc, "cvat": _cvat, "labelstudio": _label_studio}
    writers[format](folder, frames, class_names)


@contextmanager
def whole_export(folder: Path, request: dict) -> Iterator[Path]:
    """A folder to fill beside `folder`, renamed to it once the block ends; what a killed call left is removed first.

    Raises:
        InvalidInput: `folder` holds something else than an earlier sample export, or cannot be made.
        MissingCapability: there is no space left.
    """
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not (folder / REQUEST_FILE).is_file():
        raise InvalidInput(f"{folder}: holds files of somebody else, expected no folder or an earlier sample export")
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        (beside / REQUEST_FILE).write_text(json.dumps(request, sort_keys=True))
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    except OSError as fault:
        shutil.rmtree(beside, ignore_errors=True)
        kind = MissingCapability if fault.errno == errno.ENOSPC else InvalidInput
        raise kind(f"sample export {folder}: got {fault}, expected a folder that can be written") from fault


def holds_export(folder: Path, request: dict) -> bool:
    """Whether `folder` is the whole answer to `request`."""
    marker = folder / REQUEST_FILE
    return marker.is_file() and marker.read_text() == json.dumps(request, sort_keys=True)


def _coco(folder: Path, frames: Sequence[Frame], class_names: Sequence[str]) -> None:
    """annotations/instances.json: boxes as x, y, width, height; the facts as keys of each image."""
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, frame in enumerate(frames, start=1):
        size = {"width": frame.width_px, "height": frame.height_px}
        images.append({"id": image_id, "file_name": frame.file_name, **size, **frame.facts})
        for (x0, y0, x1, y1), class_id in zip(frame.boxes, frame.class_ids, strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "iscrowd": 0,
                    "bbox": box,
                    "category_id": COCO_CATEGORY_IDS[class_id],
                    "area": box[2] * box[3],
                }
            )
    categories = [{"id": key, "name": name} for key, name in zip(COCO_CATEGORY_IDS, class_names, strict=True)]
    _write(
        folder / "annotations" / "instances.json",
        json.dumps({"images": images, "annotations": annotations, "categories": categories}),
    )


def _yolo(folder: Path, frames: Sequence[Frame], class_names: Sequence[str]) -> None:
    """labels/*.txt: class, centre and size as shares of the image; data.yaml names the classes."""
    (folder / "labels").mkdir()
    for frame in frames:
        rows = []
        for (x0, y0, x1, y1), class_id in zip(frame.boxes, frame.class_ids, strict=True):
            across, down = (x0 + x1) / 2 / frame.width_px, (y0 + y1) / 2 / frame.height_px
            width, height = (x1 - x0) / frame.width_px, (y1 - y0) / frame.height_px
            rows.append(f"{class_id} {across:.6f} {down:.6f} {width:.6f} {height:.6f}\n")
        _write(folder / "labels" / f"{Path(frame.file_name).stem}.txt", "".join(rows))
    names = "".join(f"  {class_id}: {name}\n" for class_id, name in enumerate(class_names))
    _write(folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnc: {len(class_names)}\nnames:\n{names}")


def _voc(folder: Path, frames: Sequence[Frame], class_names: Sequence[str]) -> None:
    """Annotations/*.xml: whole pixels counted from 1, the last one included."""
    (folder / "Annotations").mkdir()
    for frame in frames:
        root = xml.Element("annotation")
        _leaves(root, folder="JPEGImages", filename=frame.file_name)
        _leaves(xml.SubElement(root, "size"), width=frame.width_px, height=frame.height_px, depth=3)
        _leaves(root, segmented=0)
        for (x0, y0, x1, y1), class_id in zip(frame.boxes, frame.class_ids, strict=True):
            part = xml.SubElement(root, "object")
            _leaves(part, name=class_names[class_id], pose="Unspecified", truncated=0, difficult=0)
            _leaves(
                xml.SubElement(part, "bndbox"), xmin=round(x0) + 1, ymin=round(y0) + 1, xmax=round(x1), ymax=round(y1)
            )
        _write(folder / "Annotations" / f"{Path(frame.file_name).stem}.xml", _document(root))


def _cvat(folder: Path, frames: Sequence[Frame], class_names: Sequence[str]) -> None:
    """annotations.xml, CVAT for images 1.1; the facts are tags on each image."""
    root = xml.Element("annotations")
    _leaves(root, version="1.1")
    task = xml.SubElement(xml.SubElement(root, "meta"), "task")
    _leaves(task, id=1, name="parts", size=len(frames), mode="annotation")
    labels = xml.SubElement(task, "labels")
    for name in class_names:
        _leaves(xml.SubElement(labels, "label"), name=name, type="rectangle")
    for number, frame in enumerate(frames):
        size = {"width": str(frame.width_px), "height": str(frame.height_px)}
        image = xml.SubElement(root, "image", {"id": str(number), "name": frame.file_name, **size})
        for box, class_id in zip(frame.boxes, frame.class_ids, strict=True):
            corners = {side: f"{at:.2f}" for side, at in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)}
            label = {"label": class_names[class_id], "source": "manual", "occluded": "0"}
            xml.SubElement(image, "box", {**label, **corners, "z_order": "0"})
        facts = xml.SubElement(image, "tag", label="frame", source="manual")
        for key, value in frame.facts.items():
            xml.SubElement(facts, "attribute", name=key).text = value
    _write(folder / "annotations.xml", _document(root))


def _label_studio(folder: Path, frames: Sequence[Frame], class_names: Sequence[str]) -> None:
    """export.json: one task an image, boxes in percent of the image; the facts lie in the task's data."""
    tasks = []
    for number, frame in enumerate(frames, start=1):
        found = [
            _rectangle(frame, f"r{number}_{row}", box, class_names[class_id])
            for row, (box, class_id) in enumerate(zip(frame.boxes, frame.class_ids, strict=True))
        ]
        annotation = {"id": number, "was_cancelled": False, "ground_truth": False, "result": found}
        data = {"image": f"/data/upload/1/{frame.file_name}", **frame.facts}
        tasks.append({"id": number, "data": data, "annotations": [annotation], "predictions": []})
    _write(folder / "export.json", json.dumps(tasks))


def _rectangle(frame: Frame, key: str, box: tuple[float, float, float, float], name: str) -> dict:
    """One box as Label Studio's RectangleLabels has it."""
    x0, y0, x1, y1 = box
    across, down = 100 / frame.width_px, 100 / frame.height_px
    value = {"x": x0 * across, "y": y0 * down, "width": (x1 - x0) * across, "height": (y1 - y0) * down}
    return {
        "id": key,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "image_rotation": 0,
        "original_width": frame.width_px,
        "original_height": frame.height_px,
        "value": {**value, "rotation": 0, "rectanglelabels": [name]},
    }


def _leaves(parent: xml.Element, **texts: object) -> None:
    """Append one child element per keyword, its value as text."""
    for name, text in texts.items():
        xml.SubElement(parent, name).text = str(text)


def _document(root: xml.Element) -> str:
    xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
