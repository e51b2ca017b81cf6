"""One batch: every image examined, every label checked, all in the export's order, several images at once."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from components.intake.boxes import CheckedLabels, check_labels
from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.images import Picture, UnfitImage, examine
from components.intake.known import ORIENTATION, ORIGINAL, Known, KnownImage
from components.intake.labels import Box, LabeledImage, text
from components.intake.memory import Batch
from components.intake.outcomes import Tally, tally
from components.intake.settings import IntakeSettings
from components.intake.splits import name_tags
from components.shared.dataset import object_name
from components.shared.digests import digest_bytes
from components.shared.store import Store

WORKERS = min(16, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Examined:
    """An image of a batch after its examination; `candidate` is empty when it was quarantined."""

    source: str
    camera: str
    rows: Tally
    findings: tuple[Finding, ...]
    candidate: "Candidate | None"
    lost: Mapping[str, Box]
    """Boxes of quarantined rows, in pixels, where they can be drawn."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may enter the data set: the part of its row that does not depend on other images."""

    image_sha256: str
    format: str
    width_px: int
    height_px: int
    phash: int
    boxes: np.ndarray
    class_ids: list[int]
    flags: tuple[str, ...]
    tags: Mapping[str, str]
    known: KnownImage | None
    """What the data set says about this very image."""


def examine_batch(
    batch: Batch,
    images: Iterable[LabeledImage],
    store: Store,
    known: Known,
    class_ids: Mapping[str, int],
    settings: IntakeSettings,
) -> Iterator[Examined]:
    """Examine every image, in order.

    Objects are written on the way: an image that no row names is invisible and harmless.
    """
    return in_order(partial(_examine_one, batch, store, known, class_ids, settings), images)


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
    batch: Batch,
    store: Store,
    known: Known,
    class_ids: Mapping[str, int],
    settings: IntakeSettings,
    told: LabeledImage,
) -> Examined:
    tags = name_tags(told.source, settings.name_pattern) | dict(told.tags)
    seen = partial(Examined, told.source, tags.get("camera", ""))
    lost = any(finding.row == "" and finding.action == QUARANTINED for finding in told.findings)
    if lost or (told.findings and not told.file and not told.labels):
        return seen(tally(told, told.findings), told.findings, None, {})
    try:
        picture, original, before = _picture(batch, told, known, settings)
    except UnfitImage as unfit:
        findings = (*told.findings, Finding(told.source, "", unfit.code, QUARANTINED, unfit.message))
        return seen(tally(told, findings), findings, None, {})
    if picture.data:
        store.put_new(object_name(picture.sha256), picture.data)
    checked = check_labels(told, (picture.width_px, picture.height_px), picture.orientation, class_ids, settings)
    repairs = tuple(Finding(told.source, "", code, REPAIRED, message) for code, message in picture.repairs)
    findings = (*told.findings, *repairs, *checked.findings)
    if original != picture.sha256:
        tags |= {ORIGINAL: original, ORIENTATION: str(picture.orientation)}
    return seen(tally(told, findings), findings, _candidate(picture, checked, findings, tags, before), checked.lost)


def _picture(
    batch: Batch, told: LabeledImage, known: Known, settings: IntakeSettings
) -> tuple[Picture, str, KnownImage | None]:
    """The picture, the digest of its bytes in the export, and what the data set says about it.

    Raises:
        UnfitImage: it is missing, cannot be decoded, or has other sides than its labels say.
    """
    if not told.file:
        raise UnfitImage(Code.IMG_MISSING, "not among the export's images")
    original, data = batch.sha256(told.file), b""
    if not original:
        data = batch.export.read(told.file)
        original = digest_bytes(data)
    before = known.find(original)
    if before:
        size = (before.width_px, before.height_px)
        picture = Picture(before.image_sha256, before.format, *size, before.phash, before.orientation, (), b"")
    else:
        picture = examine(data or batch.export.read(told.file), settings.max_image_megapixels)
        before = known.find(picture.sha256)
    _check_size(told, picture)
    return picture, original, before


def _check_size(told: LabeledImage, picture: Picture) -> None:
    declared, actual = (told.width_px, told.height_px), (picture.width_px, picture.height_px)
    swapped = picture.orientation >= 5 and declared == actual[::-1]
    if all(declared) and declared != actual and not swapped:
        message = f"labels say {declared[0]}x{declared[1]} px, the image has {actual[0]}x{actual[1]} px"
        raise UnfitImage(Code.IMG_SIZE_MISMATCH, message)


def _candidate(
    picture: Picture,
    checked: CheckedLabels,
    findings: tuple[Finding, ...],
    tags: Mapping[str, str],
    before: KnownImage | None,
) -> Candidate:
    flags = tuple(sorted({str(finding.code) for finding in findings}))
    told = {text(key): text(value) for key, value in sorted(tags.items())}
    size = (picture.width_px, picture.height_px)
    fields = (picture.sha256, picture.format, *size, picture.phash, checked.boxes, checked.class_ids)
    return Candidate(*fields, flags, told, before)
