"""COCO JSON: images, annotations and categories in one file (or one a split).

Source: https://cocodataset.org/#format-data
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson

from components.intake.findings import QUARANTINED, Code, Finding
from components.intake.labels import Label, LabeledImage, Parsed
from components.intake.lookup import ImageLookup
from components.intake.sources import Export
from components.shared.errors import InvalidInput

STANDARD_KEYS = {"id", "width", "height", "file_name", "license", "flickr_url", "coco_url", "date_captured"}
FOLDERS = ("", "annotations")
"""Where in an export its COCO files lie."""


def is_coco(export: Export) -> bool:
    """Whether the export has a COCO file at its root or in annotations/."""
    return bool(_files(export))


def parse_coco(export: Export) -> Parsed:
    """Open a COCO export.

    Raises:
        InvalidInput: a file is no COCO JSON, or two files declare different categories.
    """
    documents = [(name, _document(export, name)) for name in _files(export)]
    lists = [(name, _categories(export, name, document)) for name, document in documents]
    for name, categories in lists[1:]:
        if categories != lists[0][1]:
            raise InvalidInput(
                f"{export.where}/{name}: categories differ from those of {lists[0][0]}, expected one list"
            )
    lookup = ImageLookup(export)

    def images() -> Iterator[LabeledImage]:
        for name, document in documents:
            yield from _images(name, document, lists[0][1], lookup)

    return Parsed(tuple(lists[0][1].values()), False, images())


def _files(export: Export) -> list[str]:
    candidates = [name for name in export.names() if name.endswith(".json") and name.rpartition("/")[0] in FOLDERS]
    return [name for name in candidates if _looks_coco(export.read(name))]


def _looks_coco(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{" and b'"images"' in data and b'"annotations"' in data


def _document(export: Export, name: str) -> dict[str, Any]:
    try:
        document = orjson.loads(export.read(name))
    except orjson.JSONDecodeError as fault:
        raise InvalidInput(f"{export.where}/{name}: no valid JSON ({fault}), expected a COCO file") from fault
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise InvalidInput(f"{export.where}/{name}: key {key!r} holds no list, expected a COCO file")
    return document


def _categories(export: Export, name: str, document: dict[str, Any]) -> dict[Any, str]:
    """Names by category id, in the order of the ids."""
    try:
        pairs = sorted((category["id"], str(category["name"])) for category in document["categories"])
    except (TypeError, KeyError) as fault:
        raise InvalidInput(f"{export.where}/{name}: a category lacks id or name ({fault})") from fault
    if len(dict(pairs)) != len(pairs) or len({told for _, told in pairs}) != len(pairs):
        raise InvalidInput(f"{export.where}/{name}: categories repeat an id or a name: {pairs}")
    return dict(pairs)


def _images(name: str, document: dict[str, Any], categories: dict[Any, str], lookup: ImageLookup):
    by_image = defaultdict(list)
    for place, annotation in enumerate(document["annotations"]):
        by_image[annotation.get("image_id") if isinstance(annotation, dict) else None].append((place, annotation))
    rescale = document.get("info", {}).get("contributor") == "Label Studio"
    seen = set()
    for entry in document["images"]:
        if entry["id"] in seen:
            yield _refused(str(entry.get("file_name")), Code.IMG_AMBIGUOUS, f"image id {entry['id']} is used twice")
            continue
        seen.add(entry["id"])
        yield _image(name, entry, by_image.pop(entry["id"], []), categories, lookup, rescale)
    for image_id, annotations in by_image.items():
        labels = tuple(_row(annotation, place) for place, annotation in annotations)
        message = f"{len(labels)} annotations of image id {image_id}, which the file does not list"
        findings = tuple(Finding(f"id {image_id}", row, Code.LBL_ORPHAN, QUARANTINED, message) for row in labels)
        yield LabeledImage(source=f"id {image_id}", file="", findings=findings)


def _refused(source: str, code: Code, message: str) -> LabeledImage:
    return LabeledImage(source=source, file="", findings=(Finding(source, "", code, QUARANTINED, message),))


def _image(name: str, entry: dict, annotations: list, categories: dict, lookup: ImageLookup, rescale: bool):
    source = str(entry["file_name"])
    labels, findings = [], []
    for place, annotation in annotations:
        row = _row(annotation, place)
        box = annotation.get("bbox")
        if not _is_box(box):
            findings.append(Finding(source, row, Code.BOX_SHAPE, QUARANTINED, f"bbox {box!r}, expected 4 numbers"))
            continue
        class_name = categories.get(annotation.get("category_id"))
        if class_name is None:
            message = f"category id {annotation.get('category_id')!r}, expected one of {list(categories)}"
            findings.append(Finding(source, row, Code.CLS_UNKNOWN, QUARANTINED, message))
            continue
        x, y, width, height = map(float, box)
        labels.append(Label(row, class_name, (x, y, x + width, y + height)))
    return LabeledImage(
        source=source,
        file=lookup.find(source, beside=name),
        labels=tuple(labels),
        width_px=int(entry.get("width") or 0),
        height_px=int(entry.get("height") or 0),
        rescale=rescale,
        tags=_tags(entry),
        findings=tuple(findings),
    )


def _row(annotation: Any, place: int) -> str:
    told = annotation.get("id") if isinstance(annotation, dict) else None
    return f"annotation {place if told is None else told}"


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)


def _tags(entry: dict[str, Any]) -> dict[str, str]:
    """Keys of our own (camera, session, shift, ...) are tags; COCO's date_captured is the tag captured_at."""
    tags = {
        key: str(value)
        for key, value in entry.items()
        if key not in STANDARD_KEYS and isinstance(value, str | int | float) and value != ""
    }
    if entry.get("date_captured"):
        tags.setdefault("captured_at", str(entry["date_captured"]))
    return tags
