"""CVAT XML 1.1: for images (one element a picture) and for video (tracks over numbered frames), streamed.

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.labels import Label, LabeledImage, Parsed, hull_of, number, side_px, text, unlisted
from components.intake.lookup import ImageLookup
from components.intake.sources import Export
from components.shared.errors import InvalidInput

HEAD_BYTES = 4096
HULLS = ("polygon", "ellipse")
NO_BOXES = ("polyline", "points", "mask", "cuboid", "skeleton")


def is_cvat(export: Export) -> bool:
    """Whether some XML file of the export is an <annotations>."""
    return bool(_files(export))


def parse_cvat(export: Export) -> Parsed:
    """Open a CVAT export.

    Raises:
        InvalidInput: a file is no XML that may be read, or declares no labels.
    """
    files = _files(export)
    lists = [_label_names(export, name) for name in files]
    for name, names in zip(files, lists, strict=True):
        if names != lists[0]:
            raise InvalidInput(f"{export.where}/{name}: labels {names}, expected those of {files[0]}: {lists[0]}")
    return Parsed(tuple(lists[0]), False, _images(export, files))


def _files(export: Export) -> list[str]:
    named = [name for name in export.names() if name.lower().endswith(".xml")]
    return [name for name in named if b"<annotations" in export.head(name, HEAD_BYTES)]


def _elements(export: Export, name: str, tags: tuple[str, ...]) -> Iterator[Element]:
    """Elements directly under the root with one of `tags`, each forgotten after its turn: memory stays flat."""
    try:
        with export.open(name) as stream:
            depth, root = 0, None
            for event, element in iterparse(stream, events=("start", "end")):
                depth += 1 if event == "start" else -1
                root = element if root is None else root
                if event == "end" and depth == 1:
                    if element.tag in tags:
                        yield element
                    root.clear()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as fault:
        raise InvalidInput(
            f"{export.where}/{name}: no XML that may be read ({type(fault).__name__} {fault})"
        ) from fault


def _label_names(export: Export, name: str) -> list[str]:
    for meta in _elements(export, name, ("meta",)):
        names = [text((label.findtext("name") or "").strip()) for label in meta.iter("label")]
        if names:
            return list(dict.fromkeys(names))
    raise InvalidInput(f"{export.where}/{name}: no <label> in <meta>, expected CVAT for images or video 1.1")


def _images(export: Export, files: list[str]) -> Iterator[LabeledImage]:
    lookup = ImageLookup(export)
    used = set()
    for name in files:
        for told in (*_pictures(export, name, lookup), *_frames(export, name, lookup)):
            used.add(told.file)
            yield told
    yield from unlisted(lookup.names(), used)


def _pictures(export: Export, name: str, lookup: ImageLookup) -> Iterator[LabeledImage]:
    for image in _elements(export, name, ("image",)):
        source = text(image.get("name") or f"image {image.get('id')}")
        labels, findings = _shapes(source, list(image))
        yield LabeledImage(
            source=source,
            file=lookup.find(image.get("name") or "", beside=name),
            labels=labels,
            width_px=side_px(image.get("width")),
            height_px=side_px(image.get("height")),
            tags=_tags(image),
            findings=findings,
        )


def _tags(image: Element) -> dict[str, str]:
    """Attributes of the image's tags; an image's tag without attributes says itself."""
    tags: dict[str, str] = {}
    for tag in image.findall("tag"):
        attributes = {text(one.get("name", "")): text((one.text or "").strip()) for one in tag.findall("attribute")}
        tags |= attributes or {text(tag.get("label", "tag")): "yes"}
    return {key: value for key, value in tags.items() if key and value}


def _shapes(source: str, shapes: list[Element]) -> tuple[tuple[Label, ...], tuple[Finding, ...]]:
    labels, findings = [], []
    for at, shape in enumerate((one for one in shapes if one.tag != "tag"), start=1):
        row = f"{shape.tag} {at}"
        label = _label(row, shape, shape.get("label") or "")
        if label is None:
            findings.append(Finding(source, row, Code.BOX_SHAPE, QUARANTINED, f"a {shape.tag}, expected a box"))
            continue
        labels.append(label)
        if shape.tag in HULLS:
            findings.append(Finding(source, row, Code.BOX_SHAPE, REPAIRED, f"a {shape.tag}: its hull"))
    return tuple(labels), tuple(findings)


def _label(row: str, shape: Element, class_name: str) -> Label | None:
    rotation = number(shape.get("rotation") or 0)
    if shape.tag == "box":
        x0, y0, x1, y1 = (number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        return Label(row, text(class_name), (x0, y0, x1, y1), rotation)
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (number(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
        return Label(row, text(class_name), (cx - rx, cy - ry, cx + rx, cy + ry), rotation)
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    if shape.tag != "polygon" or not all(len(pair) == 2 for pair in pairs):
        return None
    return Label(row, text(class_name), hull_of([(number(x), number(y)) for x, y in pairs]))


def _frames(export: Export, name: str, lookup: ImageLookup) -> Iterator[LabeledImage]:
    """Frames of a video task: labeled ones from the tracks, others of the job as backgrounds."""
    shapes: dict[int, list[tuple[str, Element, str]]] = defaultdict(list)
    for track in _elements(export, name, ("track",)):
        for shape in track:
            if shape.get("outside") != "1" and (frame := number(shape.get("frame"))).is_integer():
                shapes[int(frame)].append((f"track {text(track.get('id'))}", shape, track.get("label") or ""))
    files = _numbered(lookup)
    for frame in sorted({*shapes, *(_job_frames(export, name, files) if shapes else ())}):
        source = f"frame_{frame:06d}"
        labels, findings = [], []
        for row, shape, class_name in shapes[frame]:
            label = _label(row, shape, class_name)
            if label is None:
                findings.append(Finding(source, row, Code.BOX_SHAPE, QUARANTINED, f"a {shape.tag}, expected a box"))
            else:
                labels.append(label)
        yield LabeledImage(source, files.get(frame, ""), tuple(labels), findings=tuple(findings))


def _numbered(lookup: ImageLookup) -> dict[int, str]:
    """Files of a video's frames by number: the digits at the end of their names."""
    found = ((re.search(r"(\d+)$", PurePosixPath(name).stem), name) for name in lookup.names())
    return {int(digits[1]): name for digits, name in found if digits}


def _job_frames(export: Export, name: str, files: dict[int, str]) -> list[int]:
    for meta in _elements(export, name, ("meta",)):
        first, last = (number(meta.findtext(f".//{key}_frame")) for key in ("start", "stop"))
        return [frame for frame in files if first <= frame <= last]
    return []
