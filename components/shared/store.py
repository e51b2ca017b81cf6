"""The store: named, immutable bytes in a folder (`file:///...`) or a bucket (`s3://bucket/prefix`).

A name is written once and never changes; a half-written object is never visible.
"""

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

from components.shared.errors import InvalidInput, ServiceFault

READERS = 16


class Store(Protocol):
    """What a step may ask of a store. Names are relative POSIX paths such as `objects/ab/abcd...`."""

    uri: str

    def get(self, name: str) -> bytes: ...
    def get_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]: ...
    def put(self, name: str, data: bytes) -> None: ...
    def put_new(self, name: str, data: bytes) -> bool: ...
    def put_new_all(self, objects: Mapping[str, bytes]) -> None: ...
    def exists(self, name: str) -> bool: ...
    def list(self, prefix: str) -> Iterator[str]: ...
    def fetch(self, name: str, path: Path) -> None: ...
    def send(self, path: Path, name: str) -> None: ...


def open_store(uri: str) -> Store:
    """The store behind `uri`.

    Raises:
        InvalidInput: the scheme is unknown, or the folder or bucket cannot be written.
        ServiceFault: the bucket's server cannot be reached.
    """
    parts = urlparse(uri)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from components.shared.buckets import BucketStore  # its client costs 0.2 s to import

        return BucketStore(uri)
    raise InvalidInput(f"store URI {uri!r}: got scheme {parts.scheme!r}, expected file:///folder or s3://bucket/prefix")


class FolderStore:
    """A store in a local folder: written beside, then renamed or linked into place."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise InvalidInput(f"store folder {root}: cannot be made ({fault.strerror})") from fault
        if not os.access(root, os.W_OK):
            raise InvalidInput(f"store folder {root}: not writable")
        self.root = root.resolve()
        self.uri = self.root.as_uri()

    def get(self, name: str) -> bytes:
        """Bytes of `name`.

        Raises:
            InvalidInput: there is no such name.
        """
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError as missing:
            raise InvalidInput(f"{self.uri}: no object named {name!r}") from missing

    def get_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of many objects, in the order in which they are quickest read."""
        left = iter(names)
        with ThreadPoolExecutor(READERS) as pool:
            while part := list(islice(left, 16 * READERS)):
                yield from zip(part, pool.map(self.get, part), strict=True)

    def put(self, name: str, data: bytes) -> None:
        """Write `name` whole; an existing object is replaced in one step."""
        beside = self._beside(name, data)
        beside.replace(self._path(name))

    def put_new(self, name: str, data: bytes) -> bool:
        """Write `name` only if nobody has: False says that somebody was first."""
        path = self._path(name)
        if path.exists():
            return False
        beside = self._beside(name, data)
        try:
            os.link(beside, path)
            return True
        except FileExistsError:
            return False
        finally:
            beside.unlink()

    def put_new_all(self, objects: Mapping[str, bytes]) -> None:
        """`put_new` for many: all are on their way to the disk before the first is waited for."""
        beside: dict[Path, Path] = {}
        try:
            for name, data in objects.items():
                if not (path := self._path(name)).exists():
                    beside[path] = self._beside(name, data, wait=False)
            _wait_for_disk(self.root, beside.values())
            for path, written in beside.items():
                with contextlib.suppress(FileExistsError):
                    os.link(written, path)
        finally:
            for written in beside.values():
                written.unlink()

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        """Names that begin with the folder `prefix`, in order."""
        top = self._path(prefix)
        found = (path for path in top.rglob("*") if path.is_file() and not path.name.startswith(".writing-"))
        yield from sorted(path.relative_to(self.root).as_posix() for path in found)

    def fetch(self, name: str, path: Path) -> None:
        """Copy `name` to a local file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".writing-{secrets.token_hex(8)}")
        beside.write_bytes(self.get(name))
        beside.replace(path)

    def send(self, path: Path, name: str) -> None:
        """Copy a local file to `name`."""
        self.put(name, path.read_bytes())

    def _path(self, name: str) -> Path:
        path = self.root / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise InvalidInput(f"{self.uri}: {name!r} is no object name")
        return path

    def _beside(self, name: str, data: bytes, wait: bool = True) -> Path:
        path = self._path(name)
        beside = path.with_name(f".writing-{secrets.token_hex(8)}")
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                if wait:
                    os.fsync(file.fileno())
        except OSError as fault:
            beside.unlink(missing_ok=True)  # a full disk is not filled by halves
            ours = fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
            kind = InvalidInput if ours else ServiceFault
            raise kind(f"{self.uri}: cannot write {name!r} ({fault.strerror})") from fault
        return beside


def _wait_for_disk(folder: Path, files: Iterable[Path]) -> None:
    """Until all that was written is durable: one call for a Linux file system costs a fifth of one for every file.

    Source: syncfs(2), https://man7.org/linux/man-pages/man2/syncfs.2.html
    """
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
    for path in [folder] if syncfs else files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if not syncfs:
                os.fsync(descriptor)
            elif syncfs(descriptor):
                raise ServiceFault(f"{folder}: syncfs failed: what was written may not be on the disk")
        finally:
            os.close(descriptor)
