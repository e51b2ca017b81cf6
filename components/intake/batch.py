"""One batch: every image examined, every label checked, all in the export's order, several images at once."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context

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
from components.shared.lifeline import die_with_parent
from components.shared.store import Store, open_store

WORKERS = min(16, 2 * (os.cpu_count() or 1))
AT_ONCE = 64
"""Images that a worker takes: their objects become durable together."""
WORTH_PROCESSES = 1000
"""Images from which on processes of their own pay for their start."""


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
    file: str = ""
    """The image's name in the export, where its bytes were read."""
    sha256: str = ""
    """Of those bytes."""


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


@dataclass(frozen=True, slots=True)
class Asked:
    """An image whose bytes were read, unless the data set has it already."""

    told: LabeledImage
    original: str
    """SHA-256 of the bytes in the export; empty for an image that is not there."""
    data: bytes
    before: KnownImage | None


@dataclass(frozen=True)
class Bench:
    """What examining needs beside the images."""

    store: Store
    class_ids: Mapping[str, int]
    settings: IntakeSettings


def examine_batch(
    batch: Batch,
    images: Iterable[LabeledImage],
    store: Store,
    known: Known,
    class_ids: Mapping[str, int],
    settings: IntakeSettings,
) -> Iterator[Examined]:
    """Examine every image, in order; a large batch is spread over processes.

    Objects are written on the way: an image that no row names is invisible and harmless.
    """
    bench, cores = Bench(store, class_ids, settings), os.cpu_count() or 1
    with ExitStack() as stack:
        answer: Callable[[list[Asked]], list[Examined]] = partial(_answer_all, bench)
        if len(batch.prints) >= WORTH_PROCESSES and cores > 1:
            place = (store.uri, class_ids, settings)
            pool = ProcessPoolExecutor(cores, get_context("forkserver"), initializer=_set_up, initargs=place)
            stack.enter_context(pool)
            answer = partial(_answer_apart, pool)
        told = iter(images)
        parts = iter(lambda: list(islice(told, AT_ONCE)), [])
        yield from chain.from_iterable(in_order(partial(_examine_part, batch, known, answer), parts, 2 * WORKERS))


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


def _examine_part(
    batch: Batch, known: Known, answer: Callable[[list[Asked]], list[Examined]], part: Sequence[LabeledImage]
) -> list[Examined]:
    asked = [_read(batch, known, told) for told in part]
    answers = [_recognised(one, of, known) for one, of in zip(answer(asked), asked, strict=True)]
    return [replace(one, file=of.told.file, sha256=of.original) for one, of in zip(answers, asked, strict=True)]


def _read(batch: Batch, known: Known, told: LabeledImage) -> Asked:
    if not told.file or _is_lost(told):
        return Asked(told, "", b"", None)
    original, data = batch.sha256(told.file), b""
    if not original:
        data = batch.export.read(told.file)
        original = digest_bytes(data)
    before = known.find(original)
    return Asked(told, original, b"" if before else data or batch.export.read(told.file), before)


def _recognised(one: Examined, of: Asked, known: Known) -> Examined:
    """With what the data set says about the image as it is stored, where that is another one than in the export."""
    if one.candidate is None or of.before or one.candidate.image_sha256 == of.original:
        return one
    return replace(one, candidate=replace(one.candidate, known=known.find(one.candidate.image_sha256)))


_bench: Bench
"""Of a worker process."""


def _set_up(store_uri: str, class_ids: Mapping[str, int], settings: IntakeSettings) -> None:
    global _bench
    die_with_parent()
    _bench = Bench(open_store(store_uri), class_ids, settings)


def _answer_apart(pool: ProcessPoolExecutor, asked: list[Asked]) -> list[Examined]:
    return pool.submit(_answer_here, asked).result()


def _answer_here(asked: list[Asked]) -> list[Examined]:
    return _answer_all(_bench, asked)


def _answer_all(bench: Bench, asked: Iterable[Asked]) -> list[Examined]:
    answers = [_answer(bench, one) for one in asked]
    bench.store.put_new_all({object_name(picture.sha256): picture.data for _, picture in answers if picture})
    return [examined for examined, _ in answers]


def _answer(bench: Bench, asked: Asked) -> tuple[Examined, Picture | None]:
    """An image examined, and its picture where that is still to be stored."""
    told, settings = asked.told, bench.settings
    tags = name_tags(told.source, settings.name_pattern) | dict(told.tags)
    seen = partial(Examined, told.source, tags.get("camera", ""))
    if _is_lost(told) or (told.findings and not told.file and not told.labels):
        return seen(tally(told, told.findings), told.findings, None, {}), None
    try:
        picture = _picture(asked, settings)
    except UnfitImage as unfit:
        findings = (*told.findings, Finding(told.source, "", unfit.code, QUARANTINED, unfit.message))
        return seen(tally(told, findings), findings, None, {}), None
    checked = check_labels(told, (picture.width_px, picture.height_px), picture.orientation, bench.class_ids, settings)
    repairs = tuple(Finding(told.source, "", code, REPAIRED, message) for code, message in picture.repairs)
    findings = (*told.findings, *repairs, *checked.findings)
    if asked.original != picture.sha256:
        tags |= {ORIGINAL: asked.original, ORIENTATION: str(picture.orientation)}
    candidate = _candidate(picture, checked, findings, tags, asked.before)
    return seen(tally(told, findings), findings, candidate, checked.lost), None if asked.before else picture


def _is_lost(told: LabeledImage) -> bool:
    return any(finding.row == "" and finding.action == QUARANTINED for finding in told.findings)


def _picture(asked: Asked, settings: IntakeSettings) -> Picture:
    """The picture as the store holds it or will hold it.

    Raises:
        UnfitImage: it is missing, cannot be decoded, or has other sides than its labels say.
    """
    if not asked.told.file:
        raise UnfitImage(Code.IMG_MISSING, "not among the export's images")
    if before := asked.before:
        size = (before.width_px, before.height_px)
        picture = Picture(before.image_sha256, before.format, *size, before.phash, before.orientation, (), b"")
    else:
        picture = examine(asked.data, settings.max_image_megapixels)
    _check_size(asked.told, picture)
    return picture


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
