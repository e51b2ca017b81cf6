"""Writing a new version: segment, frozen test set, manifest, and last the head that makes them count."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared.dataset import SPLITS, DatasetVersion, read_dataset, write_segment
from components.shared.digests import canonical_json, digest_json
from components.shared.errors import ServiceFault
from components.shared.store import Store


def frozen_images(store: Store, test_set: str) -> list[str]:
    """Digests of the images of a frozen test set; none when there is no set yet."""
    return json.loads(store.get(f"testsets/{test_set}.json"))["images"] if test_set else []


def freeze(store: Store, name: str, head: DatasetVersion | None, rows: pa.Table, bump: bool) -> str:
    """Name of the test set of the next version: the head's, or a new one that holds it and the pool.

    Args:
        store: Where test sets lie.
        name: Data set.
        head: Version so far.
        rows: Current rows of the next version.
        bump: Let the pool in.
    """
    current = head.test_set if head else ""
    frozen = frozen_images(store, current)
    wanted = rows.filter(pc.equal(rows["split"], "test"))["image_sha256"].to_pylist()
    if current and (not bump or set(wanted) == set(frozen)):
        return current
    if not wanted:
        return ""
    number = int(current.rpartition("@v")[2]) + 1 if current else 1
    content = canonical_json({"name": name, "images": sorted(wanted)})
    # A number taken by a killed intake of other content is passed over: nothing written is ever changed.
    while not store.put_new(f"testsets/{name}@v{number}.json", content):
        if store.get(f"testsets/{name}@v{number}.json") == content:
            break
        number += 1
    return f"{name}@v{number}"


def commit(
    store: Store,
    head: DatasetVersion | None,
    name: str,
    class_names: tuple[str, ...],
    new_rows: pa.Table,
    rows: pa.Table,
    batches: list[str],
    bump: bool,
) -> DatasetVersion:
    """Write the next version, or return the head when nothing would differ.

    Args:
        store: Where it is written.
        head: Version so far.
        name: Data set.
        class_names: Registry.
        new_rows: What the next segment holds.
        rows: All current rows with them.
        batches: Keys of the batches that brought them.
        bump: Let waiting test images into the frozen test set.

    Raises:
        ServiceFault: another intake was faster.
    """
    test_set = freeze(store, name, head, rows, bump)
    if head and not new_rows.num_rows and (test_set, class_names) == (head.test_set, head.class_names):
        return head
    segments = [*(head.segments if head else ()), *([write_segment(store, new_rows)] if new_rows.num_rows else [])]
    manifest = {
        "name": name,
        "parent": head.digest if head else "",
        "class_names": list(class_names),
        "segments": segments,
        "test_set": test_set,
        "counts": counts(rows, class_names, len(frozen_images(store, test_set))),
        "batches": [*(head.batches if head else ()), *batches],
    }
    digest = digest_json(manifest)
    store.put_new(f"datasets/{digest}.json", canonical_json(manifest))
    _advance(store, name, digest)
    return read_dataset(store, digest)


def counts(rows: pa.Table, class_names: tuple[str, ...], frozen: int) -> dict[str, Any]:
    """How many images, boxes and groups a version has, by split and class."""
    splits = Counter(rows["split"].to_pylist())
    classes = Counter(pc.list_flatten(rows["class_ids"]).to_pylist())
    tags = rows["tags"].combine_chunks()
    cameras, days = (Counter(pc.map_lookup(tags, key, "first").to_pylist()) for key in ("camera", "captured_at"))
    return {
        "images": rows.num_rows,
        "boxes": sum(classes.values()),
        "groups": pc.count_distinct(rows["group"]).as_py(),
        **{split: splits[split] for split in SPLITS},
        "frozen_test": frozen,
        "by_class": {class_name: classes[class_id] for class_id, class_name in enumerate(class_names)},
        "by_size": _by_size(rows),
        "by_boxes": _by_boxes(rows),
        "by_camera": {camera: count for camera, count in sorted(cameras.items(), key=str) if camera},
        "by_day": _by_day(days),
    }


def _by_size(rows: pa.Table) -> dict[str, int]:
    """Boxes by the square root of their area, in octaves of pixels."""
    boxes = pc.list_flatten(pc.list_flatten(rows["boxes"])).to_numpy().reshape(-1, 4)
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1, dtype=np.float64))
    octaves = Counter(np.floor(np.log2(np.maximum(sides, 1.0))).astype(int).tolist())
    return {f"{2**octave} to {2 ** (octave + 1)}": octaves[octave] for octave in sorted(octaves)}


def _by_boxes(rows: pa.Table) -> dict[str, int]:
    """Images by how many boxes they hold; 20 and more together."""
    numbers = Counter(min(20, length) for length in pc.list_value_length(rows["class_ids"]).to_pylist())
    return {"20 and more" if number == 20 else str(number): numbers[number] for number in sorted(numbers)}


def _by_day(captured: Counter[str | None]) -> dict[str, int]:
    days: Counter[str] = Counter()
    for moment, count in captured.items():
        if moment:
            days[moment[:10]] += count
    return dict(sorted(days.items()))


def _advance(store: Store, name: str, digest: str) -> None:
    """Append to the data set's log; create-only, so one of two writers at once loses and says so."""
    number = sum(1 for _ in store.list(f"heads/{name}")) + 1
    entry = {"digest": digest, "written_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if not store.put_new(f"heads/{name}/{number:08d}.json", canonical_json(entry)):
        raise ServiceFault(f"{store.uri}: another intake into data set {name!r} was faster; run this one again")
