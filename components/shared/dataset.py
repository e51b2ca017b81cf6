"""Data set versions: immutable Parquet segments of rows, named by what is in them, and how every step reads them.

A version is `datasets/<digest>.json`: parent, class registry, segments, frozen test set. Its digest names everything
that a run saw. Rows are never changed: a later row about the same image supersedes the earlier one.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.shared.digests import digest_bytes, digest_json
from components.shared.errors import InvalidInput
from components.shared.store import Store

ROW_SCHEMA = pa.schema(
    [
        ("image_sha256", pa.string()),
        ("format", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
        ("class_ids", pa.list_(pa.int32())),
        ("group", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),
        ("source", pa.string()),
        ("batch", pa.string()),
        ("phash", pa.uint64()),
        ("flags", pa.list_(pa.string())),
        ("tags", pa.map_(pa.string(), pa.string())),
        ("added_at", pa.string()),
    ]
)
"""Columns of a row. `boxes` are x0 y0 x1 y1 in pixels of the stored image."""

SPLITS = ("train", "val", "test")
READERS = 16
_AT_ONCE = 256


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version: what it is made of, and what it came from (`parent` is empty for the first)."""

    digest: str
    class_names: tuple[str, ...]
    segments: tuple[str, ...]
    parent: str
    test_set: str
    counts: dict
    name: str = "main"
    batches: tuple[str, ...] = field(default=())


def digest_of(artifact: Path) -> str:
    """Version digest in the dataset.json of a `dataset` artifact folder.

    Raises:
        InvalidInput: there is no such file, or it names no version.
    """
    path = artifact / "dataset.json"
    try:
        return json.loads(path.read_bytes())["digest"]
    except (OSError, ValueError, KeyError) as fault:
        raise InvalidInput(f"{path}: no data set version in it, expected the folder that intake wrote") from fault


def read_dataset(store: Store, digest: str) -> DatasetVersion:
    """The version named by `digest`.

    Raises:
        InvalidInput: the store has no such version, or the manifest is not what its name says.
    """
    manifest = json.loads(store.get(f"datasets/{digest}.json"))
    if digest_json(manifest) != digest:
        raise InvalidInput(f"{store.uri}/datasets/{digest}.json: content does not match its name; restore it")
    listed = {key: tuple(manifest[key]) for key in ("class_names", "segments", "batches")}
    return DatasetVersion(
        digest=digest, parent=manifest["parent"], test_set=manifest["test_set"], counts=manifest["counts"],
        name=manifest["name"], **listed,
    )  # fmt: skip


def newest(store: Store, name: str) -> DatasetVersion | None:
    """The head of data set `name`, or nothing before the first intake."""
    heads = list(store.list(f"heads/{name}"))
    return read_dataset(store, json.loads(store.get(heads[-1]))["digest"]) if heads else None


def read_rows(store: Store, version: DatasetVersion, split: str = "") -> pa.Table:
    """Current rows of `version` (superseded ones dropped), ordered by image_sha256.

    Args:
        store: Where the segments lie.
        version: Which rows.
        split: train, val or test; all three when empty.
    """
    if split and split not in SPLITS:
        raise InvalidInput(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    rows = current_rows(read_segments(store, version.segments))
    return rows.filter(pc.equal(rows["split"], split)) if split else rows


def read_segments(store: Store, segments: Iterable[str], columns: list[str] | None = None) -> pa.Table:
    """All rows of `segments` in their order, superseded ones included."""
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda name: _read_segment(store, name, columns), segments))
    schema = ROW_SCHEMA if columns is None else pa.schema([ROW_SCHEMA.field(name) for name in columns])
    return pa.concat_tables([schema.empty_table(), *tables])


def current_rows(rows: pa.Table) -> pa.Table:
    """The last row about each image, ordered by image_sha256."""
    numbered = pa.table({"image": rows["image_sha256"], "place": np.arange(rows.num_rows)})
    last = numbered.group_by("image").aggregate([("place", "max")]).sort_by("image")
    return rows.take(last["place_max"]).combine_chunks()


def read_test_rows(store: Store, version: DatasetVersion) -> pa.Table:
    """Rows of the frozen test set that `version` names.

    Raises:
        InvalidInput: an image of the frozen set has no row any more.
    """
    frozen = json.loads(store.get(f"testsets/{version.test_set}.json"))["images"]
    rows = read_rows(store, version, "test")
    chosen = rows.filter(pc.is_in(rows["image_sha256"], pa.array(frozen, pa.string())))
    if chosen.num_rows != len(frozen):
        raise InvalidInput(f"test set {version.test_set}: {chosen.num_rows} rows, expected {len(frozen)}")
    return chosen


def object_name(image_sha256: str) -> str:
    """Name in the store of the image with this digest."""
    return f"objects/{image_sha256[:2]}/{image_sha256}"


def bring_images(store: Store, rows: pa.Table, folder: Path) -> list[Path]:
    """Private copies of the rows' images in `folder`, named `<sha256>.<format>`, in row order.

    Present ones are kept, so a killed call is carried on by the next one.

    Raises:
        InvalidInput: an object is missing, or its bytes are not what its name says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = zip(rows["image_sha256"].to_pylist(), rows["format"].to_pylist(), strict=True)
    paths = [folder / f"{digest}.{kind}" for digest, kind in pairs]
    present = {entry.name for entry in os.scandir(folder)}
    missing = {object_name(path.stem): path for path in paths if path.name not in present}
    for name, data in store.get_all(missing):
        beside = missing[name].with_name(f".bringing-{secrets.token_hex(8)}")
        beside.write_bytes(_checked(store, name, data))
        beside.replace(missing[name])
    return paths


def read_images(store: Store, digests: list[str]) -> Iterator[bytes]:
    """Bytes of the images named by `digests`, in their order, read ahead in parallel."""
    for start in range(0, len(digests), _AT_ONCE):
        names = [object_name(digest) for digest in digests[start : start + _AT_ONCE]]
        found = dict(store.get_all(set(names)))
        yield from (_checked(store, name, found[name]) for name in names)


def segment_digest(rows: pa.Table) -> str:
    """Digest of what the rows say: independent of the Parquet writer and of when the rows were added."""
    content, between = hashlib.sha256(), b""
    for batch in rows.drop_columns(["added_at"]).to_batches(_AT_ONCE):
        for row in batch.to_pylist():
            row["tags"] = sorted(row["tags"])
            content.update(between + orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
            between = b"\n"
    return content.hexdigest()


def write_segment(store: Store, rows: pa.Table) -> str:
    """Store `rows` as one immutable segment and return its name; the first to write a content keeps its added_at."""
    name = segment_digest(rows)
    buffer = BytesIO()
    pq.write_table(rows.cast(ROW_SCHEMA), buffer, compression="zstd", write_page_checksum=True)
    store.put_new(f"segments/{name}.parquet", buffer.getvalue())
    return name


def _read_segment(store: Store, name: str, columns: list[str] | None) -> pa.Table:
    data = store.get(f"segments/{name}.parquet")
    try:
        file = pq.ParquetFile(BytesIO(data), page_checksum_verification=True)  # read_table would import pandas: 0.5 s
        return file.read(columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as fault:
        raise InvalidInput(f"{store.uri}/segments/{name}.parquet: damaged ({fault}); restore it") from fault


def _checked(store: Store, name: str, data: bytes) -> bytes:
    if object_name(digest_bytes(data)) != name:
        raise InvalidInput(f"{store.uri}/{name}: bytes do not match the name; restore the object")
    return data
