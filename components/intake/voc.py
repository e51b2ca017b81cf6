"""Pascal VOC XML: one file a picture, whole pixels counted from 1 with the last one included.

Source: https://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from components.intake.findings import QUARANTINED, Code, Finding
from components.intake.labels import Box, Label, LabeledImage, Parsed, number, refused, side_px, text
from components.intake.lookup import ImageLookup
from components.intake.sources import Export

HEAD_BYTES = 4096
MAX_XML_BYTES = 16 * 2**20


def is_voc(export: Export) -> bool:
    """Whether some XML file of the export is an <annotation>."""
    return any(_is_annotation(export, name) for name in _xml_files(export))


def parse_voc(export: Export, first_pixel: int) -> Parsed:
    """Open a Pascal VOC export, whose files declare no classes.

    Args:
        export: The batch.
        first_pixel: Number of the first pixel: 1 as VOC has it, 0 as some tools write it.
    """
    return Parsed((), False, _images(export, first_pixel), partial(_names_seen, export))


def _xml_files(export: Export) -> list[str]:
    return [name for name in export.names() if name.lower().endswith(".xml")]


def _is_annotation(export: Export, name: str) -> bool:
    head = export.head(name, HEAD_BYTES)
    return b"<annotation>" in head or b"<annotation " in head


def _names_seen(export: Export) -> set[str]:
    roots = (_root(export, name) for name in _xml_files(export))
    return {_text(part, "name") for root in roots if isinstance(root, Element) for part in root.findall("object")}


def _images(export: Export, first_pixel: int) -> Iterator[LabeledImage]:
    lookup = ImageLookup(export)
    used = set()
    for name in _xml_files(export):
        told = _image(export, name, lookup, first_pixel)
        used |= {told.file, lookup.find_stem(PurePosixPath(name).stem)}
        yield told
    for image in lookup.names():
        if image not in used:
            yield refused(image, Code.LBL_MISSING, "no XML file; a background needs one without objects")


def _image(export: Export, name: str, lookup: ImageLookup, first_pixel: int) -> LabeledImage:
    root = _root(export, name)
    if isinstance(root, str):
        return refused(name, Code.LBL_UNREADABLE, root)
    told = _text(root, "filename")
    by_name, by_stem = lookup.find(told, beside=name) if told else "", lookup.find_stem(PurePosixPath(name).stem)
    if by_name and by_stem and by_name != by_stem:
        return refused(name, Code.IMG_AMBIGUOUS, f"<filename> is {told}, but {by_stem} is named as this file")
    labels, findings = [], []
    for at, part in enumerate(root.findall("object"), start=1):
        row = f"object {at}"
        box, rotation = _box(part, first_pixel)
        if box is None:
            findings.append(Finding(name, row, Code.BOX_SHAPE, QUARANTINED, "no <bndbox> of four sides"))
        else:
            labels.append(Label(row, _text(part, "name"), box, rotation))
    size = root.find("size")
    sides = [0, 0] if size is None else [side_px(_text(size, "width")), side_px(_text(size, "height"))]
    return LabeledImage(
        source=told or name, file=by_name or by_stem, labels=tuple(labels), width_px=sides[0], height_px=sides[1],
        tags={}, findings=tuple(findings),
    )  # fmt: skip


def _root(export: Export, name: str) -> Element | str:
    """Root of one file, or why there is none."""
    if export.size(name) > MAX_XML_BYTES:
        return f"{export.size(name)} bytes, expected one image's labels"
    try:
        root = fromstring(export.read(name))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as fault:
        return f"no XML that may be read: {type(fault).__name__} {text(fault)}"
    return root if root.tag == "annotation" else f"root <{text(root.tag)}>, expected <annotation>"


def _box(part: Element, first_pixel: int) -> tuple[Box | None, float]:
    """Sides in pixels: where pixels are counted, a box ends behind its last one."""
    rotated = part.find("robndbox")
    if rotated is not None:  # roLabelImg: centre, size and radians
        cx, cy, width, height, angle = (number(_text(rotated, key)) for key in ("cx", "cy", "w", "h", "angle"))
        return (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), math.degrees(angle)
    sides = part.find("bndbox")
    if sides is None or any(sides.find(key) is None for key in ("xmin", "ymin", "xmax", "ymax")):
        return None, 0.0
    x0, y0, x1, y1 = (number(_text(sides, key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    return (x0 - first_pixel, y0 - first_pixel, x1, y1), 0.0


def _text(parent: Element, key: str) -> str:
    return text((parent.findtext(key) or "").strip())
