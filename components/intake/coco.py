"""COCO JSON: images, annotations and categories in one file (or one a split), streamed where the file is large.

Source: https://cocodataset.org/#format-data
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ijson
import orjson

from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.labels import (
    Box,
    Label,
    LabeledImage,
    Parsed,
    hull_of,
    number,
    side_px,
    tag_values,
    text,
    unlisted,
)
from components.intake.lookup import ImageLookup
from components.intake.sources import Export
from components.shared.errors import InvalidInput

FOLDERS = ("", "annotations")
"""Where in an export its COCO files lie."""
STANDARD_KEYS = {"id", "width", "height", "file_name", "license", "flickr_url", "coco_url", "date_captured"}
HEAD_BYTES = 65536
STREAMED_FROM_BYTES = 32 * 2**20
"""Larger files are read as a stream: slower by half, but their memory stays flat."""


def is_coco(export: Export) -> bool:
    """Whether the export has a COCO file at its root or in annotations/."""
    return bool(_files(export))


def parse_coco(export: Export) -> Parsed:
    """Open a COCO export.

    Raises:
        InvalidInput: a file is no COCO JSON, or two files declare different categories.
    """
    documents = [_Document(export, name) for name in _files(export)]
    categories = documents[0].categories()
    for document in documents[1:]:
        if (other := document.categories()) != categories:
            raise InvalidInput(f"{document.where}: categories {other}, expected those of the first file {categories}")
    lookup = ImageLookup(export)

    def images() -> Iterator[LabeledImage]:
        used = set()
        for document in documents:
            for told in _images(document, categories, lookup):
                used.add(told.file)
                yield told
        yield from unlisted(lookup.names(), used)

    return Parsed(tuple(categories.values()), False, images())


def _files(export: Export) -> list[str]:
    candidates = [name for name in export.names() if name.endswith(".json") and name.rpartition("/")[0] in FOLDERS]
    return [name for name in candidates if _looks_coco(export.head(name, HEAD_BYTES))]


def _looks_coco(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" and (b'"images"' in head or b'"annotations"' in head)


_Rows = tuple[list[Label], list[tuple[str, Any]]]
"""Labels of an image, and its odd annotations with their row names."""


class _Document:
    """One COCO file whose lists are read one item at a time."""

    def __init__(self, export: Export, name: str) -> None:
        self.name, self.where, self._export = name, f"{export.where}/{name}", export
        self._loaded = _load(export.read(name), self.where) if export.size(name) < STREAMED_FROM_BYTES else None

    def items(self, key: str) -> Iterator[Any]:
        """Items of the list `key`."""
        if self._loaded is not None:
            yield from self._loaded[key]
            return
        try:
            with self._export.open(self.name) as stream:
                yield from ijson.items(stream, f"{key}.item", use_float=True)
        except (ijson.JSONError, UnicodeDecodeError) as fault:
            raise InvalidInput(f"{self.where}: no valid JSON ({fault}), expected a COCO file") from fault

    def categories(self) -> dict[Any, str]:
        """Names by category id, in the order of the ids."""
        try:
            told = [(_key(one["id"]), text(one["name"])) for one in self.items("categories")]
            pairs = sorted(told)
        except (TypeError, KeyError, IndexError) as fault:
            raise InvalidInput(
                f"{self.where}: categories lack ids or names ({fault}), expected both in each"
            ) from fault
        if len(dict(pairs)) != len(pairs) or len({name for _, name in pairs}) != len(pairs):
            raise InvalidInput(f"{self.where}: categories repeat an id or a name: {pairs[:20]}")
        return dict(pairs)

    def from_label_studio(self) -> bool:
        """Whether Label Studio wrote this file, which stretches the boxes of photos that lie on their side."""
        return b'"Label Studio"' in self._export.head(self.name, HEAD_BYTES) or self._info() == "Label Studio"

    def _info(self) -> Any:
        info = self._loaded.get("info") if self._loaded is not None else None
        return info.get("contributor") if isinstance(info, dict) else None


def _load(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        document = _load_with_nan(data, where)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise InvalidInput(f"{where}: no list {key!r}, expected a COCO file")
    return document


def _load_with_nan(data: bytes, where: str) -> Any:
    """Python's own writer spells NaN, which is no JSON: read it, so that one such box does not cost the batch."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise InvalidInput(f"{where}: no valid JSON ({fault}), expected a COCO file") from fault


class _Annotations:
    """Annotations by image: plain ones packed in arrays (about 60 bytes each), odd ones as they are."""

    def __init__(self, document: _Document, categories: dict[Any, str]) -> None:
        self._names = list(categories.values())
        self._numbers = {category: at for at, category in enumerate(categories)}
        self._boxes, self._class, self._row = array("d"), array("i"), array("q")
        self._places: dict[Any, array] = defaultdict(lambda: array("l"))
        self._odd: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
        for place, annotation in enumerate(document.items("annotations")):
            self._add(place, annotation)

    def _add(self, place: int, annotation: Any) -> None:
        if not isinstance(annotation, dict):
            self._odd[None].append((f"annotation at {place}", annotation))
            return
        row, image = annotation.get("id", place), _key(annotation.get("image_id"))
        category = self._numbers.get(_key(annotation.get("category_id")))
        box: Any = annotation.get("bbox")
        plain = not annotation.get("iscrowd") and not annotation.get("attributes") and type(row) is int
        if not plain or category is None or not _is_box(box) or abs(row) >= 2**63:
            self._odd[image].append((f"annotation {text(row)}", annotation))
            return
        self._places[image].append(len(self._class))
        self._boxes.extend(map(number, box))
        self._class.append(category)
        self._row.append(row)

    def pop(self, image: Any) -> _Rows:
        """Plain labels of an image, and its odd annotations with their row names; handed out once."""
        labels = []
        for at in self._places.pop(image, ()):
            box = _corners(self._boxes[4 * at : 4 * at + 4])
            labels.append(Label(f"annotation {self._row[at]}", self._names[self._class[at]], box))
        return labels, self._odd.pop(image, [])

    def images(self) -> list[Any]:
        """Images whose annotations were not handed out."""
        return list(dict.fromkeys([*self._places, *self._odd]))


def _images(document: _Document, categories: dict[Any, str], lookup: ImageLookup) -> Iterator[LabeledImage]:
    annotations = _Annotations(document, categories)
    twice = _repeated(_key(entry.get("id")) for entry in document.items("images") if isinstance(entry, dict))
    rescale = document.from_label_studio()
    for place, entry in enumerate(document.items("images")):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            rows = annotations.pop(_key(entry.get("id"))) if isinstance(entry, dict) else ([], [])
            yield _refused(
                f"images at {place}", "", rows, Code.LBL_UNREADABLE, "expected an object with id and file_name"
            )
            continue
        image, source = _key(entry["id"]), text(entry["file_name"])
        if image in twice:
            message = f"image id {image} is used twice: its annotations may belong to either"
            file = lookup.find(entry["file_name"], beside=document.name)
            yield _refused(source, file, annotations.pop(image), Code.IMG_AMBIGUOUS, message)
            continue
        labels, findings = _labels(source, *annotations.pop(image), categories)
        yield LabeledImage(
            source=source,
            file=lookup.find(entry["file_name"], beside=document.name),
            labels=labels,
            width_px=side_px(entry.get("width")),
            height_px=side_px(entry.get("height")),
            rescale=rescale,
            tags=_tags(entry),
            findings=findings,
        )
    yield from (_orphans(image, annotations) for image in annotations.images())


def _refused(source: str, file: str, rows: _Rows, code: Code, message: str) -> LabeledImage:
    """An image that cannot be taken, with its annotations, which so are not taken either."""
    labels, odd = rows
    findings = [Finding(source, row, code, QUARANTINED, message) for row in ("", *(row for row, _ in odd))]
    return LabeledImage(source, file, tuple(labels), findings=tuple(findings))


def _orphans(image: Any, annotations: _Annotations) -> LabeledImage:
    return _refused(
        f"image id {image}", "", annotations.pop(image), Code.LBL_ORPHAN, "the file does not list this image"
    )


def _labels(
    source: str, labels: list[Label], odd: list[tuple[str, Any]], categories: dict[Any, str]
) -> tuple[tuple[Label, ...], tuple[Finding, ...]]:
    findings = []
    for row, annotation in odd:
        outcome = _odd_label(row, annotation, categories)
        if isinstance(outcome, Label):
            labels.append(outcome)
            if not _is_box(annotation.get("bbox")):
                message = "no bbox: the hull of its segmentation"
                findings.append(Finding(source, row, Code.BOX_SHAPE, REPAIRED, message))
        else:
            findings.append(Finding(source, row, outcome[0], QUARANTINED, outcome[1]))
    return tuple(labels), tuple(findings)


def _odd_label(row: str, annotation: dict[str, Any], categories: dict[Any, str]) -> Label | tuple[Code, str]:
    category = _key(annotation.get("category_id"))
    if category not in categories:
        return Code.CLS_UNKNOWN, f"category id {text(category)}, expected one of {list(categories)[:20]}"
    if annotation.get("iscrowd"):
        return Code.BOX_SHAPE, "iscrowd: a region of many objects, expected one object a box"
    box = _box_of(annotation)
    if box is None:
        return Code.BOX_SHAPE, f"bbox {text(annotation.get('bbox'))}, expected 4 numbers"
    attributes = annotation.get("attributes")
    rotation = number(attributes.get("rotation", 0)) if isinstance(attributes, dict) else 0.0
    return Label(row, categories[category], box, rotation)


def _box_of(annotation: dict[str, Any]) -> Box | None:
    if _is_box(annotation.get("bbox")):
        return _corners([number(value) for value in annotation["bbox"]])
    rings = annotation.get("segmentation")
    if not isinstance(rings, list) or not rings or not all(isinstance(ring, list) and len(ring) >= 6 for ring in rings):
        return None
    values = [[number(value) for value in ring] for ring in rings]
    return hull_of([point for ring in values for point in zip(ring[::2], ring[1::2], strict=False)])


def _corners(box: Sequence[float]) -> Box:
    x, y, width, height = box
    return (x, y, x + width, y + height)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)


def _key(value: Any) -> Any:
    """An id as something that can be looked up."""
    return value if isinstance(value, int | float | str) or value is None else text(value)


def _repeated(keys: Iterable[Any]) -> set[Any]:
    return {key for key, count in Counter(keys).items() if count > 1}


def _tags(entry: dict[str, Any]) -> dict[str, str]:
    """Keys of our own (camera, session, shift, ...) are tags; COCO's date_captured is the tag captured_at."""
    tags = tag_values({key: value for key, value in entry.items() if key not in STANDARD_KEYS})
    if entry.get("date_captured"):
        tags.setdefault("captured_at", text(entry["date_captured"]))
    return tags
