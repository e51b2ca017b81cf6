"""Near duplicates: found by perceptual hash in bands, believed only after a second look at labels and pixels.

On a fixed camera nearly all pictures have one perceptual hash, whatever the small objects in them do: a hash alone
would call nine of ten different events duplicates. It only says where to look.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import pairwise

import numpy as np
from PIL import Image, ImageFilter

from components.shared.dataset import SPLITS, object_name
from components.shared.store import Store

MAX_DISTANCE = 7
"""Differing bits of two hashes: copies of dark, noisy pictures reach 7, unrelated pictures start at 14 (measured)."""
BANDS = 4
"""Of 16 bits: with up to 7 differing bits at least one band differs in no more than one."""
PROBES = np.array([0, *(1 << np.arange(16))], np.uint16)
LOOK_PX = 192
"""Long side at which two pictures are compared."""
BLOCKS = 8
MAX_BLOCK_DIFFERENCE = 0.65
"""Mean difference of a block over its contrast: copies down to JPEG quality 40 at half size stay under 0.63."""
MAX_OBJECT_DIFFERENCE = 0.2
"""The same around a labeled object: copies stay under 0.2 by day and 0.4 by night, another object starts at 0.24."""
AGREEMENT_BONUS = 0.3
"""Added to that limit as far as the labels of both pictures agree; half of it when one has none."""
SAME_OBJECT_IOU = 0.3
CONTRAST_FLOOR = 12.0
"""Gray levels (of a picture stretched to 50 of them) under which contrast is noise."""
MAX_ASPECT_CHANGE = 1.03
_PAIRS_AT_ONCE = 4_000_000


class HashIndex:
    """Hashes, looked up by what is at most MAX_DISTANCE bits away."""

    def __init__(self, hashes: np.ndarray) -> None:
        """`hashes` is (N,) uint64, each value once."""
        self._hashes = hashes
        self._bands = []
        for band in range(BANDS):
            keys = _band(hashes, band)
            order = np.argsort(keys, kind="stable")
            self._bands.append((keys[order], order))

    def near(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in `queries` and in the index of all near pairs, each pair once, in order of the queries."""
        found = [self._in_band(queries, band) for band in range(BANDS)]
        pairs = np.unique(np.concatenate(found), axis=0) if queries.size else np.empty((0, 2), np.int64)
        return pairs[:, 0], pairs[:, 1]

    def _in_band(self, queries: np.ndarray, band: int) -> np.ndarray:
        keys, order = self._bands[band]
        wanted = (_band(queries, band)[:, None] ^ PROBES).ravel()
        start, stop = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        kept = [np.empty((0, 2), np.int64)]
        for first, last in _portions(stop - start):
            counts = (stop - start)[first:last]
            query = np.repeat(np.arange(first, last) // len(PROBES), counts)
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            item = order[np.repeat(start[first:last], counts) + within]
            near = np.bitwise_count(queries[query] ^ self._hashes[item]) <= MAX_DISTANCE
            kept.append(np.stack([query[near], item[near]], axis=1))
        return np.concatenate(kept)


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    return (hashes >> np.uint64(16 * band)).astype(np.uint16)


def _portions(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of queries whose pairs fit into memory together."""
    first, total = 0, 0
    for at, count in enumerate(counts.tolist()):
        if total and total + count > _PAIRS_AT_ONCE:
            yield first, at
            first, total = at, 0
        total += count
    yield first, len(counts)


class NearRows:
    """Rows near a hash, a few of each split: enough to find a copy, few enough to look at every one."""

    def __init__(self, hashes: np.ndarray, splits: list[str]) -> None:
        """`hashes` is (N,) uint64 of the rows, `splits` the split of each."""
        self._code_of = np.array([SPLITS.index(split) for split in splits], np.uint8)
        self._order = np.lexsort((self._code_of, hashes))
        self._hashes, self._codes = hashes[self._order], self._code_of[self._order]
        self._unique, self._starts = np.unique(self._hashes, return_index=True)
        self._ends = np.append(self._starts[1:], len(hashes))
        self._index = HashIndex(self._unique)

    def look_up(self, queries: np.ndarray, of_each_split: int) -> dict[int, list[int]]:
        """Near rows of each query that has some, test rows first."""
        near: dict[int, list[int]] = {}
        for query, unique in zip(*(places.tolist() for places in self._index.near(queries)), strict=True):
            near.setdefault(query, []).extend(self._some(unique, of_each_split))
        return {query: sorted(rows, key=lambda row: -int(self._code_of[row])) for query, rows in near.items()}

    def _some(self, unique: int, of_each_split: int) -> list[int]:
        start, end = self._starts[unique], self._ends[unique]
        edges = start + np.searchsorted(self._codes[start:end], np.arange(len(SPLITS) + 1))
        picked = [np.arange(a, min(a + of_each_split, b)) for a, b in pairwise(edges.tolist())]
        return self._order[np.concatenate(picked)].tolist()


@dataclass(frozen=True, slots=True)
class Labeled:
    """A stored picture with what is labeled in it: boxes (N, 4) in shares of its sides."""

    image_sha256: str
    boxes: np.ndarray
    class_ids: list[int]


class Looker:
    """Second looks at pairs of pictures of a store; each picture is decoded once."""

    def __init__(self, store: Store) -> None:
        self._gray = lru_cache(maxsize=4096)(lambda image: _gray(store.get(object_name(image))))

    def same_picture(self, first: Labeled, second: Labeled) -> bool:
        """Whether two stored images show one picture: copied, re-encoded or resized, labeled well or not at all."""
        agreement = _agreement(first, second)
        if agreement == 0:
            return False
        one, other = self._gray(first.image_sha256), self._gray(second.image_sha256)
        aspect = (one.shape[0] * other.shape[1]) / (one.shape[1] * other.shape[0])
        if not 1 / MAX_ASPECT_CHANGE <= aspect <= MAX_ASPECT_CHANGE:
            return False
        a, b = _alike(one, other)
        steps = np.arange(BLOCKS) / BLOCKS
        blocks = [(x, y, x + 1 / BLOCKS, y + 1 / BLOCKS) for y in steps for x in steps]
        if any(_difference(a, b, block, 0) > MAX_BLOCK_DIFFERENCE for block in blocks):
            return False
        limit = MAX_OBJECT_DIFFERENCE + AGREEMENT_BONUS * agreement
        boxes = np.concatenate([first.boxes, second.boxes]).tolist()
        return all(_difference(a, b, box, 0.5) <= limit for box in boxes)


def _agreement(first: Labeled, second: Labeled) -> float:
    """Share of objects that both labels hold: 1 for equal labels, 0 for other objects altogether, 0.5 unknown.

    Pictures whose labels agree in nothing are two events: no labeler misses everything.
    """
    if not len(first.boxes) or not len(second.boxes):
        return 1.0 if len(first.boxes) == len(second.boxes) else 0.5
    low = np.maximum(first.boxes[:, None, :2], second.boxes[None, :, :2])
    high = np.minimum(first.boxes[:, None, 2:], second.boxes[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    areas = [(one.boxes[:, 2:] - one.boxes[:, :2]).prod(axis=1) for one in (first, second)]
    overlap = shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-12)
    same_class = np.array(first.class_ids)[:, None] == np.array(second.class_ids)[None, :]
    matched = (overlap >= SAME_OBJECT_IOU) & same_class
    return float(min(matched.any(axis=1).sum(), matched.any(axis=0).sum()) / max(matched.shape))


def _gray(data: bytes) -> np.ndarray:
    image = Image.open(BytesIO(data))
    image.draft("L", (LOOK_PX, LOOK_PX))
    gray = image.convert("L")
    gray.thumbnail((LOOK_PX, LOOK_PX), Image.Resampling.BOX)
    return np.asarray(gray)


def _alike(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures at the smaller one's size, lightly blurred, their contrast stretched by one factor."""
    height, width = (min(sides) for sides in zip(first.shape, second.shape, strict=True))
    both = [Image.fromarray(image) for image in (first, second)]
    both = [one if one.size == (width, height) else one.resize((width, height), Image.Resampling.BOX) for one in both]
    a, b = (np.asarray(one.filter(ImageFilter.GaussianBlur(0.8)), np.float32) for one in both)
    gain = min(4.0, 50 / max(1.0, float(a.std() + b.std()) / 2))
    return (a - a.mean()) * gain, (b - b.mean()) * gain


def _difference(first: np.ndarray, second: np.ndarray, part: Sequence[float], margin: float) -> float:
    """Mean absolute difference inside a part of both pictures, and some of its surroundings, over its contrast."""
    height, width = first.shape
    x0, y0, x1, y1 = (share * side for share, side in zip(part, (width, height, width, height), strict=True))
    wide, high = (max(margin * (b - a), 2 * (margin > 0)) for a, b in ((x0, x1), (y0, y1)))
    rows = slice(max(0, int(y0 - high)), math.ceil(y1 + high))
    columns = slice(max(0, int(x0 - wide)), math.ceil(x1 + wide))
    a, b = first[rows, columns], second[rows, columns]
    return float(np.abs(a - b).mean() / max(CONTRAST_FLOOR, (a.std() + b.std()) / 2)) if a.size else 0.0
