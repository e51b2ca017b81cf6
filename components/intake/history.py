"""Looking back at a data set: its versions, what changed between two, whether all bytes are what they were."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from components.shared.dataset import (
    READERS,
    DatasetVersion,
    object_name,
    read_dataset,
    read_rows,
    read_segments,
    segment_digest,
)
from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, YanshanError
from components.shared.store import Store

MIN_PREFIX = 6


@dataclass(frozen=True)
class Entry:
    """One line of a data set's log."""

    number: int
    written_at: str
    version: DatasetVersion


def log(store: Store, name: str) -> list[Entry]:
    """All versions, oldest first.

    Raises:
        InvalidInput: there is no data set of this name.
    """
    heads = [json.loads(store.get(head)) for head in store.list(f"heads/{name}")]
    if not heads:
        raise InvalidInput(f"{store.uri}: no data set {name!r}, expected one that intake has written")
    versions = [read_dataset(store, head["digest"]) for head in heads]
    return [Entry(at, head["written_at"], one) for at, (head, one) in enumerate(zip(heads, versions, strict=True), 1)]


def find_version(store: Store, name: str, reference: str) -> DatasetVersion:
    """The version that `reference` means: `newest`, a number of the log, or the beginning of a digest.

    Raises:
        InvalidInput: none or several fit.
    """
    entries = log(store, name)
    if reference == "newest":
        return entries[-1].version
    fitting = [one.version for one in entries if str(one.number) == reference]
    if len(reference) >= MIN_PREFIX:
        fitting = fitting or [one.version for one in entries if one.version.digest.startswith(reference)]
    if len(fitting) != 1:
        raise InvalidInput(
            f"{store.uri}: {len(fitting)} versions of {name!r} fit {reference!r}; "
            f"expected `newest`, a number from 1 to {len(entries)}, or {MIN_PREFIX} digits of a digest"
        )
    return fitting[0]


def difference(store: Store, old: DatasetVersion, new: DatasetVersion) -> dict[str, Any]:
    """What is in `new` and not in `old`, and the other way round, image by image."""
    before, after = (_labels_by_image(read_rows(store, version)) for version in (old, new))
    shared = before.keys() & after.keys()
    counts = {key: [old.counts[key], new.counts[key]] for key in new.counts if isinstance(new.counts[key], int)}
    classes = {name: [old.counts["by_class"].get(name, 0), count] for name, count in new.counts["by_class"].items()}
    return {
        "old": old.digest,
        "new": new.digest,
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "relabeled": sorted(image for image in shared if before[image] != after[image]),
        "test_set": [old.test_set, new.test_set],
        "counts": counts,
        "boxes_by_class": classes,
    }


def _labels_by_image(rows: pa.Table) -> dict[str, Any]:
    listed = rows.select(["image_sha256", "boxes", "class_ids", "origin"]).to_pylist()
    return {row["image_sha256"]: (row["boxes"], row["class_ids"], row["origin"]) for row in listed}


def problems(store: Store, version: DatasetVersion) -> Iterator[str]:
    """One sentence for everything that is not as it was written: manifests, segments, test sets and every image."""
    ancestor = version
    while ancestor.parent:
        try:
            ancestor = read_dataset(store, ancestor.parent)
        except YanshanError as fault:
            yield str(fault)
            break
    readable = []
    for name in version.segments:
        try:
            if segment_digest(read_segments(store, [name])) != name:
                yield f"segments/{name}.parquet: rows do not match the name"
            readable.append(name)
        except YanshanError as fault:
            yield str(fault)
    images = read_segments(store, readable, ["image_sha256"])["image_sha256"].unique().to_pylist()
    yield from _test_set_problems(store, version, set(images))
    with ThreadPoolExecutor(READERS) as pool:
        yield from (told for told in pool.map(lambda image: _image_problem(store, image), images) if told)


def _test_set_problems(store: Store, version: DatasetVersion, images: set[str]) -> Iterator[str]:
    name = f"testsets/{version.test_set}.json"
    if not version.test_set:
        return
    try:
        frozen = set(json.loads(store.get(name))["images"])
    except (YanshanError, ValueError, KeyError) as fault:
        yield f"{name}: {fault}"
        return
    if missing := frozen - images:
        yield f"{name}: {len(missing)} of {len(frozen)} images have no row"
    if len(frozen) != version.counts["frozen_test"]:
        yield f"{name}: {len(frozen)} images, the version was made with {version.counts['frozen_test']}"


def _image_problem(store: Store, image: str) -> str:
    try:
        return "" if digest_bytes(store.get(object_name(image))) == image else f"{object_name(image)}: bytes changed"
    except YanshanError as fault:
        return str(fault)
