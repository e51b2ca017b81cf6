"""New training images made of labelled ones: planned from the data set's digest, made by all cores."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from components.augment.geometry import crop, paste
from components.augment.photometry import PHOTOMETRY
from components.augment.settings import AugmentSettings
from components.shared.dataset import object_name, read_images
from components.shared.digests import digest_bytes
from components.shared.progress import progress
from components.shared.store import Store

PIECES = 3
"""Objects pasted into one image, at most."""
AT_ONCE = 128
"""Images made together; as many again wait for the processes, so that none of them ever waits for the store."""
WORTH_PROCESSES = 64


@dataclass(frozen=True)
class Variant:
    """One image to make: which kind, of which train row, with which draw, and what is pasted into it."""

    kind: str
    place: int
    seed: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...] = ()
    """(row, box) of each object to paste."""


def plan_variants(
    rows: Sequence[dict[str, Any]],
    settings: AugmentSettings,
    num_classes: int,
    key_class_ids: Sequence[int],
    digest: str,
) -> list[Variant]:
    """What to make of train `rows`: the same for the same digest, settings and rows.

    Args:
        rows: Train rows in the data set's order.
        settings: Shares and seed.
        num_classes: Of the data set.
        key_class_ids: Classes whose objects are pasted more often.
        digest: Of the data set version.
    """
    root = int(digest[:16], 16)
    draw = np.random.default_rng([settings.seed, root, 1])
    kinds = sorted(set(settings.photometry))
    planned = []
    for place in _drawn(rows, settings.photometry_share if kinds else 0.0, draw):
        planned.append(Variant(kinds[int(draw.integers(len(kinds)))], place, ()))
    planned += [Variant("crop", place, ()) for place in _drawn(rows, settings.crop_share, draw) if rows[place]["boxes"]]
    objects, odds = _supply(rows, num_classes, settings, key_class_ids)
    for place in _drawn(rows, settings.paste_share if objects else 0.0, draw):
        chosen = draw.choice(len(objects), size=int(draw.integers(1, PIECES + 1)), p=odds)
        planned.append(Variant("paste", place, (), tuple(objects[one] for one in chosen)))
    return [
        Variant(one.kind, one.place, (settings.seed, root, 2, number), one.pieces) for number, one in enumerate(planned)
    ]


def _drawn(rows: Sequence[dict[str, Any]], share: float, draw: np.random.Generator) -> list[int]:
    return np.flatnonzero(draw.random(len(rows)) < share).tolist()


def _supply(
    rows: Sequence[dict[str, Any]], num_classes: int, settings: AugmentSettings, key_class_ids: Sequence[int]
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Objects that may be pasted, people's labels only, and how likely each is: rare and key classes first."""
    objects = [
        (place, box) for place, row in enumerate(rows) if row["origin"] != "teacher" for box in range(len(row["boxes"]))
    ]
    classes = np.array([rows[place]["class_ids"][box] for place, box in objects], int)
    weight = 1.0 / np.bincount(classes, minlength=num_classes).clip(min=1) ** 2
    weight[list(key_class_ids)] *= settings.key_class_gain
    odds = weight[classes]
    return objects, odds / odds.sum() if len(odds) else odds


def make_variants(
    store: Store, rows: Sequence[dict[str, Any]], variants: Sequence[Variant]
) -> Iterator[dict[str, Any]]:
    """Make the images, put them into the store and give their rows, in the order of `variants`.

    Args:
        store: Holds the rows' images; receives the new ones.
        rows: What the variants' places point into.
        variants: To make.
    """
    workers = os.cpu_count() or 1
    many = len(variants) >= WORTH_PROCESSES and workers > 1
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(workers, get_context("forkserver"))) if many else None
        for variant, made in progress(_made(store, rows, variants, pool), "augment", len(variants)):
            yield _row(rows[variant.place], variant, made)


@dataclass(frozen=True)
class Made:
    """What a worker gives back."""

    data: bytes
    sha256: str
    boxes: np.ndarray
    class_ids: list[int]
    size: tuple[int, int]
    """(height, width)"""


@dataclass(frozen=True)
class Job:
    """What a worker gets: a variant and all pixels that it needs."""

    variant: Variant
    data: bytes
    boxes: np.ndarray
    class_ids: list[int]
    pieces: list[tuple[bytes, list[float]]]
    """Image and box of each object to paste."""
    piece_classes: list[int]


def _made(
    store: Store,
    rows: Sequence[dict[str, Any]],
    variants: Sequence[Variant],
    pool: ProcessPoolExecutor | None,
) -> Iterator[tuple[Variant, Made]]:
    under_way: deque[tuple[Sequence[Variant], Iterator[Made]]] = deque()
    for start in range(0, len(variants), AT_ONCE):
        part = variants[start : start + AT_ONCE]
        jobs = _jobs(store, rows, part)
        under_way.append((part, pool.map(_make, jobs, chunksize=8) if pool else map(_make, jobs)))
        if len(under_way) > 1:
            yield from _kept(store, *under_way.popleft())
    for waiting in under_way:
        yield from _kept(store, *waiting)


def _kept(store: Store, part: Sequence[Variant], making: Iterator[Made]) -> Iterator[tuple[Variant, Made]]:
    """The images of a part, once they are in the store."""
    made = list(making)
    store.put_new_all({object_name(one.sha256): one.data for one in made})
    yield from zip(part, made, strict=True)


def _jobs(store: Store, rows: Sequence[dict[str, Any]], variants: Sequence[Variant]) -> list[Job]:
    needed = sorted({one.place for one in variants} | {place for one in variants for place, _ in one.pieces})
    digests = [rows[place]["image_sha256"] for place in needed]
    images = dict(zip(needed, read_images(store, digests), strict=True))
    jobs = []
    for one in variants:
        row = rows[one.place]
        pieces = [(images[place], rows[place]["boxes"][box]) for place, box in one.pieces]
        kinds = [rows[place]["class_ids"][box] for place, box in one.pieces]
        boxes = np.asarray(row["boxes"], np.float32).reshape(-1, 4)
        jobs.append(Job(one, images[one.place], boxes, list(row["class_ids"]), pieces, kinds))
    return jobs


def _cut(data: bytes, box: Sequence[float]) -> np.ndarray:
    x0, y0, x1, y1 = (round(float(edge)) for edge in box)
    return _decode(data)[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)].copy()


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def _make(job: Job) -> Made:
    cv2.setNumThreads(1)
    draw, image = np.random.default_rng(job.variant.seed), _decode(job.data)
    boxes, class_ids = job.boxes, job.class_ids
    if job.variant.kind == "crop":
        image, boxes, kept = crop(image, boxes, draw)
        class_ids = [class_ids[place] for place in kept]
    elif job.variant.kind == "paste":
        image, placed, used = paste(image, boxes, [_cut(*piece) for piece in job.pieces], draw)
        boxes, class_ids = np.concatenate([boxes, placed]), [*class_ids, *(job.piece_classes[one] for one in used)]
    else:
        image = PHOTOMETRY[job.variant.kind](image, draw)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    return Made(encoded, digest_bytes(encoded), boxes, class_ids, (image.shape[0], image.shape[1]))


def _row(source: dict[str, Any], variant: Variant, made: Made) -> dict[str, Any]:
    changed = {"image_sha256": made.sha256, "format": "jpg", "phash": 0}
    changed |= {"height_px": made.size[0], "width_px": made.size[1], "boxes": made.boxes.tolist()}
    changed |= {"class_ids": made.class_ids, "source": f"{source['source']}+{variant.kind}"}
    return source | changed | {"flags": [*(source["flags"] or []), f"augmented:{variant.kind}"]}


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table, one a distinct image (two variants may come out byte for byte the same)."""
    return pa.Table.from_pylist(list({row["image_sha256"]: row for row in rows}.values()), schema=schema)
