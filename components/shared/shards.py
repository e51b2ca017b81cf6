"""Many small images of a bucket in one object: a tar, and beside it an index of where in the tar each image lies.

A request costs a bucket's client a millisecond however little it carries. An image in a tar is still an object of the
store under its own name; a tar without an index (its writer was killed) is invisible and harmless.
"""

import contextlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, YanshanError

FOLDER = "shards"
SMALL_BYTES = 128 * 2**10
WORTH = 16
"""Fewer small images than this are written one by one."""
SHARD_BYTES = 8 * 2**20
MERGED_FROM = 256
"""So many indexes are merged into one by whoever reads them first."""
WASTE = 8
"""A shard is read in one request while it carries at most this many bytes for each wanted one."""
ENTRY = np.dtype([("image", "V32"), ("shard", "V32"), ("offset", "<u4"), ("size", "<u4")])
_IMAGE = re.compile(r"objects/[0-9a-f]{2}/([0-9a-f]{64})")


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Where an image lies: `size` bytes from `offset` of the object `shard`."""

    shard: str
    offset: int
    size: int


class Bucket(Protocol):
    """What shards need of the store that they lie in."""

    def read(self, name: str, offset: int = 0, length: int = 0) -> bytes: ...
    def put_new(self, name: str, data: bytes) -> bool: ...
    def list(self, prefix: str) -> Iterator[str]: ...


def is_small(name: str, data: bytes) -> bool:
    """Whether an object may travel in a shard."""
    return len(data) <= SMALL_BYTES and _IMAGE.fullmatch(name) is not None


def write_shards(bucket: Bucket, objects: Mapping[str, bytes]) -> None:
    """Write small images as tars, each with the index that makes it visible; the same images make the same bytes."""
    names = sorted(objects)
    sizes = np.cumsum([len(objects[name]) for name in names]) // SHARD_BYTES
    for number in np.unique(sizes):
        _write_shard(bucket, {names[at]: objects[names[at]] for at in np.flatnonzero(sizes == number)})


def _write_shard(bucket: Bucket, objects: Mapping[str, bytes]) -> None:
    buffer, places = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in objects.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            places.append((_sha256(name), tar.offset + tarfile.BLOCKSIZE, len(data)))
            tar.addfile(member, io.BytesIO(data))
    digest = digest_bytes(buffer.getvalue())
    entries = np.array([(sha256, bytes.fromhex(digest), offset, size) for sha256, offset, size in places], ENTRY)
    bucket.put_new(f"{FOLDER}/{digest}.tar", buffer.getvalue())
    bucket.put_new(f"{FOLDER}/{digest}.index", entries.tobytes())


class Shards:
    """Where the images of a bucket's shards lie; what other processes add is found when it is asked for."""

    def __init__(self, bucket: Bucket, over_connections: Callable[[Callable, Iterable], Iterable]) -> None:
        self._bucket, self._map = bucket, over_connections
        self._lock = threading.Lock()
        self._read: set[str] | None = None
        self._take(np.empty(0, ENTRY))

    def find(self, names: Iterable[str]) -> dict[str, Place]:
        """Places of those of `names` that are known to lie in a shard."""
        wanted = {name: _sha256(name) for name in names if _IMAGE.fullmatch(name)}
        if wanted and self._read is None:
            self.look_again()
        return {name: place for name, sha256 in wanted.items() if (place := self._find(sha256))}

    def look_again(self) -> bool:
        """Read the indexes that were written since; whether there were any."""
        with self._lock:
            before = self._read or set()
            listed = {name for name in self._bucket.list(FOLDER) if not name.endswith(".tar")} - before
            merged = {name for name in listed if name.endswith(".merged")}
            fresh = [self._entries(name, data) for name, data in self._map(self._load, sorted(merged))]
            held = {f"{FOLDER}/{shard.hex()}.index" for part in fresh for shard in _shards(part)}
            alone = sorted(listed - merged - held)
            single = [self._entries(name, data) for name, data in self._map(self._load, alone)]
            self._take(np.concatenate([self._table[0], *fresh, *single]))
            self._read = before | listed
            if len(single) >= MERGED_FROM:
                self._merge(single)
            return bool(listed)

    def _merge(self, single: Sequence[np.ndarray]) -> None:
        data = np.concatenate(single).tobytes()
        with contextlib.suppress(YanshanError):  # who may only read still reads, more slowly
            self._bucket.put_new(f"{FOLDER}/{digest_bytes(data)}.merged", data)

    def _load(self, name: str) -> tuple[str, bytes]:
        return name, self._bucket.read(name)

    def _entries(self, name: str, data: bytes) -> np.ndarray:
        if len(data) % ENTRY.itemsize or (name.endswith(".merged") and digest_bytes(data) not in name):
            raise InvalidInput(f"{name}: damaged index of a shard, {len(data)} bytes; restore it")
        return np.frombuffer(data, ENTRY)

    def _take(self, entries: np.ndarray) -> None:
        keys = np.frombuffer(entries["image"].tobytes(), ">u8").reshape(-1, 4)[:, 0]
        order = np.argsort(keys, kind="stable")
        self._table = entries[order], keys[order].astype(np.uint64)  # one assignment: other threads are looking

    def _find(self, sha256: bytes) -> Place | None:
        (entries, keys), key = self._table, np.uint64(int.from_bytes(sha256[:8], "big"))
        for row in range(int(np.searchsorted(keys, key)), len(keys)):
            entry = entries[row]
            if entry["image"].tobytes() == sha256:
                return Place(f"{FOLDER}/{entry['shard'].tobytes().hex()}.tar", int(entry["offset"]), int(entry["size"]))
            if keys[row] != key:
                break
        return None


Span = list[tuple[str, Place]]
"""Images that one request brings, in the order of their shard."""


def spans(places: Mapping[str, Place]) -> Iterator[Span]:
    """How images are read with few requests and little that nobody wants."""
    by_shard: dict[str, Span] = {}
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        by_shard.setdefault(place.shard, []).append((name, place))
    for held in by_shard.values():
        length = held[-1][1].offset + held[-1][1].size - held[0][1].offset
        if length <= WASTE * sum(place.size for _, place in held):
            yield held
        else:
            yield from ([one] for one in held)


def read_span(bucket: Bucket, span: Span) -> list[tuple[str, bytes]]:
    """Names and bytes of the images of one span."""
    start, last = span[0][1].offset, span[-1][1]
    data = bucket.read(last.shard, start, last.offset + last.size - start)
    return [(name, data[place.offset - start : place.offset - start + place.size]) for name, place in span]


def _sha256(name: str) -> bytes:
    return bytes.fromhex(name[-64:])


def _shards(entries: np.ndarray) -> set[bytes]:
    return {shard.tobytes() for shard in np.unique(entries["shard"])}
