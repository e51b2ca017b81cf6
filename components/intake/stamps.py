"""Digests of files that nobody touched since they were last read, told by the file system's own stamps.

A name, a size and a time prove nothing: anybody can set them. The time of a file's last change of any kind (ctime) is
set by the kernel alone, and a file that changed within the last seconds before it was read is read again next time.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.digests import digest_bytes, digest_file
from components.shared.store import Store

READERS = 8
AT_ONCE = 64
SETTLED_NS = 2_000_000_000
"""A file younger than this when it is read may change again under the same stamp."""
NUMBERS = ("size", "inode", "modified_ns", "changed_ns")
_Stamp = tuple[int, ...]


def digests_of(root: Path, files: Mapping[str, str], store: Store) -> dict[str, str]:
    """SHA-256 of every file's bytes, by its name; only files that are new or were touched are read.

    Args:
        root: Folder that the files are below.
        files: Path of each file by its name.
        store: Remembers the stamps of this folder.
    """
    place = f"stamps/{digest_bytes(str(root.resolve()).encode())}.parquet"
    seen = _recall(store, place)
    now = time.time_ns()
    stamps = {name: _stamp(path) for name, path in files.items()}
    found = {name: seen[name][1] for name, stamp in stamps.items() if name in seen and seen[name][0] == stamp}
    unread = [name for name in files if name not in found]
    parts = [unread[start : start + AT_ONCE] for start in range(0, len(unread), AT_ONCE)]
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(lambda names: {name: digest_file(Path(files[name])) for name in names}, parts):
            found |= part
    settled = {name: stamp for name, stamp in stamps.items() if max(stamp[2:]) + SETTLED_NS < now}
    if unread or len(seen) != len(settled):
        _remember(store, place, settled, found)
    return {name: found[name] for name in files}


def _stamp(path: str) -> _Stamp:
    told = os.stat(path)  # noqa: PTH116  # a Path for each of a million files costs more than the call
    return (told.st_size, told.st_ino, told.st_mtime_ns, told.st_ctime_ns)


def _recall(store: Store, place: str) -> dict[str, tuple[_Stamp, str]]:
    if not store.exists(place):
        return {}
    try:
        table = pq.ParquetFile(BytesIO(store.get(place))).read()
    except (OSError, pa.ArrowException):
        return {}  # a damaged memory costs one more reading, nothing else
    numbers = zip(*(table[name].to_pylist() for name in NUMBERS), strict=True)
    return dict(zip(table["name"].to_pylist(), zip(numbers, table["sha256"].to_pylist(), strict=True), strict=True))


def _remember(store: Store, place: str, stamps: Mapping[str, _Stamp], digests: Mapping[str, str]) -> None:
    columns: dict[str, list] = {"name": list(stamps), "sha256": [digests[name] for name in stamps]}
    columns |= {name: [stamp[at] for stamp in stamps.values()] for at, name in enumerate(NUMBERS)}
    kinds = {"name": pa.string(), "sha256": pa.string()} | dict.fromkeys(NUMBERS, pa.uint64())
    arrays = [pa.array(values, kinds[name]) for name, values in columns.items()]
    buffer = BytesIO()
    pq.write_table(pa.table(arrays, names=list(columns)), buffer, compression="zstd")
    store.put(place, buffer.getvalue())
