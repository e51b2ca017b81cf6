"""Which new images show a picture that is there already: copies of test images leak, others link their groups."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.intake.batch import Candidate, Examined, in_order
from components.intake.duplicates import HashIndex, Labeled, Looker, NearRows
from components.intake.known import Known, KnownImage
from components.shared.store import Store

LOOKS = 4
"""Near images looked at closely, of each split of the data set and among the new ones: one match is enough."""


@dataclass
class Links:
    """Copies found: by new image, the known image or the earlier new one that it shows."""

    known: dict[str, KnownImage] = field(default_factory=dict)
    new: dict[str, Candidate] = field(default_factory=dict)


def find_links(examined: Sequence[Examined], groups: dict[str, str], known: Known, store: Store) -> Links:
    """Look up every new image among the known ones and among the new ones of other groups.

    Args:
        examined: Images of all new batches, in order.
        groups: Group of every new image.
        known: The data set so far.
        store: Where the pictures lie.
    """
    candidates = (one.candidate for one in examined)
    new = list({one.image_sha256: one for one in candidates if one is not None and one.known is None}.values())
    looker, links = Looker(store), Links()
    hashes = np.array([one.phash for one in new], np.uint64)
    near = NearRows(known.hashes(), known.splits()).look_up(hashes, LOOKS) if new else {}

    def look_at_known(at: int) -> KnownImage | None:
        rows = (known.at(row) for row in near[at])
        return next(
            (row for row in rows if _counts(row, groups[new[at].image_sha256]) and _same(looker, new[at], row)), None
        )

    def look_at_new(pair: tuple[int, list[int]]) -> int | None:
        return next((other for other in pair[1] if _same(looker, new[pair[0]], new[other])), None)

    for at, row in zip(near, in_order(look_at_known, near), strict=True):
        if row:
            links.known[new[at].image_sha256] = row
    pairs = list(_near_among(hashes, [groups[one.image_sha256] for one in new]))
    for (at, _), other in zip(pairs, in_order(look_at_new, pairs), strict=True):
        if other is not None:
            links.new[new[at].image_sha256] = new[other]
    return links


def _counts(row: KnownImage, group: str) -> bool:
    """Inside one group nothing can leak; but a copy of a test image is none worth waiting in the pool."""
    return row.split == "test" or row.group != group


def _near_among(hashes: np.ndarray, groups: list[str]) -> Iterator[tuple[int, list[int]]]:
    """For every new image some earlier new ones of other groups with a near hash."""
    unique, bucket_of = np.unique(hashes, return_inverse=True)
    buckets: dict[int, list[int]] = defaultdict(list)
    near: dict[int, list[int]] = defaultdict(list)
    for one, other in zip(*(places.tolist() for places in HashIndex(unique).near(unique)), strict=True):
        near[one].append(other)
    for at, bucket in enumerate(bucket_of.tolist()):
        earlier = [other for one in near[bucket] for other in buckets[one][-LOOKS:] if groups[other] != groups[at]]
        if earlier:
            yield at, sorted(earlier)[-LOOKS:]
        buckets[bucket].append(at)


def _same(looker: Looker, first: Candidate, second: Candidate | KnownImage) -> bool:
    return looker.same_picture(_labeled(first), _labeled(second))


def _labeled(one: Candidate | KnownImage) -> Labeled:
    return Labeled(one.image_sha256, one.boxes / np.tile([one.width_px, one.height_px], 2), one.class_ids)
