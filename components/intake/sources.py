"""Where exports come from: the inbox, and the named files of each export in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlparse

from components.shared.digests import digest_file, digest_json
from components.shared.errors import InvalidInput

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class Export(Protocol):
    """One batch: named bytes. Names are relative POSIX paths and never become paths of ours."""

    name: str
    where: str

    def names(self) -> list[str]: ...
    def size(self, name: str) -> int: ...
    def head(self, name: str, count: int) -> bytes: ...
    def open(self, name: str) -> BinaryIO: ...
    def read(self, name: str) -> bytes: ...
    def prints(self) -> dict[str, str]: ...


class FolderExport:
    """A batch in a local folder."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.where, self._root = name, str(root), root
        paths = (path for path in sorted(root.rglob("*")) if path.is_file() and not _hidden(path.relative_to(root)))
        self._files = {path.relative_to(root).as_posix(): path for path in paths}

    def names(self) -> list[str]:
        """Names of all files, in order."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """Bytes of one file."""
        return self._files[name].read_bytes()

    def size(self, name: str) -> int:
        """Bytes of one file, counted."""
        return self._files[name].stat().st_size

    def open(self, name: str) -> BinaryIO:
        """One file as a stream."""
        return self._files[name].open("rb")

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of one file."""
        with self.open(name) as stream:
            return stream.read(count)

    def prints(self) -> dict[str, str]:
        """What tells every file's content from any other, by name: here the SHA-256 of its bytes."""
        return {name: digest_file(path) for name, path in self._files.items()}


def content_digest(prints: dict[str, str]) -> str:
    """Digest of a batch: names and contents of its files, wherever they lie."""
    return digest_json(sorted(prints.items()))


def find_exports(inbox_uri: str, is_export: Callable[[Export], bool]) -> list[Export]:
    """The batches of an inbox in the order of their names: the inbox itself, or its sub-folders.

    Args:
        inbox_uri: `file:///folder` or a local path.
        is_export: Says whether an export's files are in a format that we read.

    Raises:
        InvalidInput: there is no such inbox, or something in it is no export.
    """
    root = _local(inbox_uri)
    if not root.is_dir():
        raise InvalidInput(f"inbox {inbox_uri}: no such folder, expected one export or a folder of exports")
    whole = FolderExport(root, root.name)
    if not whole.names():
        return []
    if is_export(whole):
        return [whole]
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not _hidden(path.relative_to(root))]
    exports: list[Export] = [FolderExport(path, path.name) for path in folders]
    strange = [export.name for export in exports if not is_export(export)]
    if strange or not exports:
        raise InvalidInput(f"inbox {inbox_uri}: no export found in {', '.join(strange) or 'it'}; expected {EXPECTED}")
    return exports


EXPECTED = "COCO JSON, YOLO with data.yaml, Pascal VOC XML, CVAT 1.1 XML or Label Studio JSON, with the images beside"


def _local(uri: str) -> Path:
    parts = urlparse(uri)
    if parts.scheme in ("file", ""):
        return Path(unquote(parts.path) if parts.scheme else uri)
    raise InvalidInput(f"inbox {uri!r}: got scheme {parts.scheme!r}, expected file:///folder or a local path")


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


def image_names(export: Export) -> Iterator[str]:
    """Names of the files that look like images."""
    return (name for name in export.names() if Path(name).suffix.lower() in IMAGE_SUFFIXES)
