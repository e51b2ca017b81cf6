"""One batch: every image examined, every label checked, all in the export's order, several images at once."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from components.intake.boxes import CheckedLabels, check_labels
from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.images import Picture, UnfitImage, examine
from components.intake.known import ORIGINAL, Known
from components.intake.labels import LabeledImage
from components.intake.settings import IntakeSettings
from components.intake.sources import Export
from components.intake.splits import name_tags
from components.shared.dataset import object_name
from components.shared.store import Store

WORKERS = min(16, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Candidate:
    """An image that may enter the data set: the fields of its row that do not depend on other images."""

    told: LabeledImage
    fields: dict[str, Any]
    known: dict[str, Any] | None
    """Its current row, when the data set has it already."""
    findings: tuple[Finding, ...]


def examine_batch(
    export: Export,
    digests: dict[str, str],
    images: Iterable[LabeledImage],
    store: Store,
    known: Known,
    class_ids: dict[str, int],
    settings: IntakeSettings,
) -> Iterator[Candidate | tuple[LabeledImage, tuple[Finding, ...]]]:
    """Yield a candidate, or the findings that keep an image out, for every image in order.

    Objects are written on the way: an image that no row names is invisible and harmless.
    """

    def one(told: LabeledImage) -> Candidate | tuple[LabeledImage, tuple[Finding, ...]]:
        return _examine_one(export, digests, told, store, known, class_ids, settings)

    return in_order(one, images)


def in_order(work: Callable, items: Iterable, ahead: int = 8 * WORKERS) -> Iterator:
    """`map` over threads that keeps the order and only runs `ahead` items in advance: memory stays flat."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _examine_one(
    export: Export,
    digests: dict[str, str],
    told: LabeledImage,
    store: Store,
    known: Known,
    class_ids: dict[str, int],
    settings: IntakeSettings,
) -> Candidate | tuple[LabeledImage, tuple[Finding, ...]]:
    if any(finding.row == "" and finding.action == QUARANTINED for finding in told.findings):
        return told, told.findings
    if not told.file:
        message = f"{told.source}: not among the export's images"
        return told, (*told.findings, Finding(told.source, "", Code.IMG_MISSING, QUARANTINED, message))
    row = known.by_original(digests[told.file])
    try:
        picture = _picture_of(row) if row else examine(export.read(told.file), settings.max_image_megapixels)
        _check_size(told, picture)
    except UnfitImage as unfit:
        return told, (*told.findings, Finding(told.source, "", unfit.code, QUARANTINED, unfit.message))
    if not row:
        store.put_new(object_name(picture.sha256), picture.data)
    size = (picture.width_px, picture.height_px)
    checked = check_labels(told, size, picture.orientation, class_ids, settings)
    repairs = tuple(Finding(told.source, "", code, REPAIRED, message) for code, message in picture.repairs)
    findings = (*told.findings, *repairs, *checked.findings)
    fields = _fields(told, picture, checked, digests[told.file], findings, settings)
    return Candidate(told, fields, row or known.row(picture.sha256), findings)


def _picture_of(row: dict[str, Any]) -> Picture:
    """The picture of an image that the store already has: not decoded again."""
    orientation = int(row["tags"].get("exif_orientation", 1))
    size = (row["width_px"], row["height_px"])
    return Picture(row["image_sha256"], row["format"], *size, row["phash"], orientation, (), b"")


def _check_size(told: LabeledImage, picture: Picture) -> None:
    declared, actual = (told.width_px, told.height_px), (picture.width_px, picture.height_px)
    swapped = picture.orientation >= 5 and declared == actual[::-1]
    if all(declared) and declared != actual and not swapped:
        message = f"labels say {declared[0]}x{declared[1]} px, the image has {actual[0]}x{actual[1]} px"
        raise UnfitImage(Code.IMG_SIZE_MISMATCH, message)


def _fields(
    told: LabeledImage,
    picture: Picture,
    checked: CheckedLabels,
    original: str,
    findings: tuple[Finding, ...],
    settings: IntakeSettings,
) -> dict[str, Any]:
    tags = name_tags(told.source, settings.name_pattern) | dict(told.tags)
    if original != picture.sha256:
        tags |= {ORIGINAL: original, "exif_orientation": str(picture.orientation)}
    return {
        "image_sha256": picture.sha256,
        "format": picture.format,
        "width_px": picture.width_px,
        "height_px": picture.height_px,
        "boxes": checked.boxes.tolist(),
        "class_ids": checked.class_ids,
        "origin": settings.origin,
        "source": told.source,
        "phash": picture.phash,
        "flags": sorted({str(finding.code) for finding in findings}),
        "tags": tags,
    }
