"""Where exports come from: an inbox in a folder or a bucket, and the named files of each export in it."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlparse

from components.intake.archives import ZipExport, is_hidden
from components.intake.stamps import digests_of
from components.shared.digests import digest_file, digest_json
from components.shared.errors import InvalidInput
from components.shared.store import Store

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
EXPECTED = (
    "COCO JSON, YOLO with data.yaml, Pascal VOC XML, CVAT 1.1 XML or Label Studio JSON, "
    "with the images beside, in a folder or a zip"
)


class Export(Protocol):
    """One batch: named bytes. Names are relative POSIX paths and never become paths of ours."""

    name: str
    where: str

    def names(self) -> list[str]: ...
    def size(self, name: str) -> int: ...
    def head(self, name: str, count: int) -> bytes: ...
    def open(self, name: str) -> BinaryIO: ...
    def read(self, name: str) -> bytes: ...
    def digest(self, name: str) -> str: ...
    def prints(self, store: Store) -> dict[str, str]: ...


class FolderExport:
    """A batch in a local folder."""

    def __init__(self, root: Path, name: str, files: dict[str, str]) -> None:
        """`files` holds the path of each file by its name in the export."""
        self.name, self.where, self._files = name, str(root), files

    def names(self) -> list[str]:
        """Names of all files, in order."""
        return list(self._files)

    def size(self, name: str) -> int:
        """Bytes of one file, counted."""
        return Path(self._files[name]).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """One file as a stream."""
        return Path(self._files[name]).open("rb")

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of one file."""
        with self.open(name) as stream:
            return stream.read(count)

    def read(self, name: str) -> bytes:
        """Bytes of one file."""
        return Path(self._files[name]).read_bytes()

    def digest(self, name: str) -> str:
        """SHA-256 of one file's bytes."""
        return digest_file(Path(self._files[name]))

    def prints(self, store: Store) -> dict[str, str]:
        """What tells every file's content from any other, by name: here the SHA-256 of its bytes."""
        return digests_of(Path(self.where), self._files, store)


def content_digest(prints: dict[str, str]) -> str:
    """Digest of a batch: names and contents of its files, wherever they lie."""
    return digest_json(sorted(prints.items()))


def find_exports(inbox_uri: str, is_export: Callable[[Export], bool]) -> list[Export]:
    """The batches of an inbox in the order of their names: the inbox itself, or its sub-folders and zip files.

    Args:
        inbox_uri: `s3://bucket/prefix`, `file:///folder`, or a local path; of a folder or of one zip file.
        is_export: Says whether an export's files are in a format that we read.

    Raises:
        InvalidInput: there is no such inbox, or something in it is no export.
    """
    whole, parts = _bucket(inbox_uri) if inbox_uri.startswith("s3://") else _local(inbox_uri)
    if whole is None:
        return parts
    if not whole.names():
        return []
    if is_export(whole):
        return [whole]
    strange = [export.name for export in parts if not is_export(export)]
    if strange or not parts:
        raise InvalidInput(f"inbox {inbox_uri}: no export found in {', '.join(strange) or 'it'}; expected {EXPECTED}")
    return parts


def _local(uri: str) -> tuple[Export | None, list[Export]]:
    """The inbox as one export, and as a folder of exports."""
    parts = urlparse(uri)
    if parts.scheme not in ("file", ""):
        raise InvalidInput(f"inbox {uri!r}: got scheme {parts.scheme!r}, expected s3://, file:/// or a local path")
    root = Path(unquote(parts.path) if parts.scheme else uri)
    if root.is_file() and root.suffix.lower() == ".zip":
        return None, [_open_zip(root, root.name, str(root))]
    if not root.is_dir():
        raise InvalidInput(f"inbox {uri}: no such folder, expected one export or a folder of exports")
    files = _walk(root)
    return FolderExport(root, root.name, files), list(_within(root, files))


def _walk(root: Path) -> dict[str, str]:
    """Paths of all files by their names below `root`, in order; ten thousand take a hundredth of a second."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_hidden(name)]
        top = Path(folder).relative_to(root).as_posix()
        below = "" if top == "." else f"{top}/"
        found |= {below + name: os.path.join(folder, name) for name in files if not is_hidden(name)}  # noqa: PTH118
    return dict(sorted(found.items()))


def _within(root: Path, files: dict[str, str]) -> Iterator[Export]:
    """Sub-folders and zip files as exports."""
    inside: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in files.items():
        top, _, rest = name.partition("/")
        inside[top][rest] = path
    for top in sorted(inside):
        if "" not in inside[top]:
            yield FolderExport(root / top, top, inside[top])
        elif top.lower().endswith(".zip"):
            yield _open_zip(root / top, top, str(root / top))


def _open_zip(path: Path, name: str, where: str) -> ZipExport:
    return ZipExport(path.open("rb"), digest_file(path), name, where)


def _bucket(uri: str) -> tuple[Export | None, list[Export]]:
    """The same for an inbox in a bucket; zip files are copied to this machine first, other objects read as needed."""
    from components.intake.remote import Bucket, ObjectsExport

    bucket = Bucket(uri)
    if list(bucket.keys) == [""] and uri.lower().endswith(".zip"):
        return None, [bucket.zip_export(bucket.keys[""], PurePosixPath(uri).name)]
    if not bucket.keys:
        raise InvalidInput(f"inbox {uri}: nothing there, expected one export or a folder of exports")
    parts: list[Export] = []
    for top in sorted({name.partition("/")[0] for name in bucket.keys}):
        inside = {name.partition("/")[2]: key for name, key in bucket.keys.items() if name.startswith(f"{top}/")}
        if inside:
            parts.append(ObjectsExport(bucket, top, inside))
        elif top.lower().endswith(".zip"):
            parts.append(bucket.zip_export(bucket.keys[top], top))
    return ObjectsExport(bucket, PurePosixPath(bucket.uri).name, bucket.keys), parts


def image_names(export: Export) -> Iterator[str]:
    """Names of the files that look like images."""
    return (name for name in export.names() if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)
