"""Zip exports, read member by member: nothing is ever unpacked to a path, and what smells of an attack is refused."""

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import BinaryIO

from components.intake.findings import Code
from components.shared.digests import digest_stream
from components.shared.errors import InvalidInput
from components.shared.store import Store

MAX_MEMBERS = 500_000
MAX_TOTAL_BYTES = 256 * 2**30
MAX_MEMBER_BYTES = 4 * 2**30
MAX_RATIO = 100
"""Unpacked by packed bytes of one member: photographs stay under 2, label files under 60."""
RATIO_FREE_BYTES = 2**20
"""Members smaller than this may shrink by more: a short file of one repeated word is no bomb."""
NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
OWN_FOLDERS = ("images", "labels", "annotations", "jpegimages")
"""Top folders that belong to a format; any other single top folder only wraps the export."""
_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    struct.error,
)


class ZipExport:
    """A batch in a zip file. A member's name is only ever a key."""

    def __init__(self, stream: BinaryIO, digest: str, name: str, where: str) -> None:
        """Open the archive and check its directory; no member is unpacked.

        Args:
            stream: The archive, seekable.
            digest: SHA-256 of its bytes.
            name: Of the batch.
            where: For messages.

        Raises:
            InvalidInput: it is damaged, or something in its directory must not be read.
        """
        self.name, self.where, self._digest = name, where, digest
        _check_count(stream, where)
        try:
            self._zip = zipfile.ZipFile(stream)
        except _FAULTS as fault:
            raise _refusal(Code.ARC_DAMAGED, where, f"no zip that can be read ({fault})") from fault
        members = [member for member in self._zip.infolist() if not member.is_dir()]
        _check_directory(self._zip.infolist(), members, where)
        self._members = dict(sorted(_without_wrapper(members).items()))

    def names(self) -> list[str]:
        """Names of all files, in order."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Bytes of one file, unpacked."""
        return self._members[name].file_size

    def open(self, name: str) -> BinaryIO:
        """One file as a stream, which ends with an error where the directory lied about it."""
        return self._zip.open(self._members[name])  # type: ignore[return-value]

    def digest(self, name: str) -> str:
        """SHA-256 of one file's bytes, unpacked."""
        try:
            with self._zip.open(self._members[name]) as member:
                return digest_stream(member)
        except _FAULTS as fault:
            raise self._damaged(name, fault) from fault

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of one file."""
        return self._unpack(name, count)

    def read(self, name: str) -> bytes:
        """Bytes of one file.

        Raises:
            InvalidInput: the packed bytes are damaged, encrypted, or not what the directory said.
        """
        return self._unpack(name, -1)

    def prints(self, store: Store) -> dict[str, str]:
        """What tells every file's content from any other, by name: its place in this very archive."""
        return dict.fromkeys(self._members, f"zip:{self._digest}")

    def _unpack(self, name: str, count: int) -> bytes:
        try:
            with self._zip.open(self._members[name]) as member:
                return member.read(count)
        except _FAULTS as fault:
            raise self._damaged(name, fault) from fault

    def _damaged(self, name: str, fault: Exception) -> InvalidInput:
        return _refusal(Code.ARC_DAMAGED, self.where, f"member {name!r} cannot be unpacked ({fault})")


def _refusal(code: Code, where: str, message: str) -> InvalidInput:
    return InvalidInput(f"{code}: {where}: {message}; the archive was not read")


def _check_count(stream: BinaryIO, where: str) -> None:
    """How many members the archive claims, before its directory is read into memory."""
    end = stream.seek(0, 2)
    start = max(0, end - 2**16 - 1024)
    stream.seek(start)
    tail = stream.read()
    wide, plain = tail.rfind(b"PK\x06\x06"), tail.rfind(b"PK\x05\x06")
    count = 0
    if plain >= 0 and len(tail) >= plain + 12:
        (count,) = struct.unpack_from("<H", tail, plain + 10)
    if wide >= 0 and len(tail) >= wide + 40:
        (count,) = struct.unpack_from("<Q", tail, wide + 32)
    if count > MAX_MEMBERS:
        raise _refusal(Code.ARC_COUNT, where, f"{count} members, expected at most {MAX_MEMBERS}")
    stream.seek(0)


def _check_directory(every: list[zipfile.ZipInfo], members: list[zipfile.ZipInfo], where: str) -> None:
    total, packed = sum(one.file_size for one in members), sum(one.compress_size for one in members)
    if len(every) > MAX_MEMBERS:
        raise _refusal(Code.ARC_COUNT, where, f"{len(every)} members, expected at most {MAX_MEMBERS}")
    for one in every:
        _check_member(one, where)
    if total > MAX_TOTAL_BYTES:
        raise _refusal(Code.ARC_BOMB, where, f"{total} bytes unpacked, expected at most {MAX_TOTAL_BYTES}")
    starts = sorted((one.header_offset, one.compress_size) for one in members)
    if any(start + size > following for (start, size), (following, _) in pairwise(starts)):
        raise _refusal(Code.ARC_BOMB, where, f"members overlap ({packed} packed bytes in all)")
    alike = Counter(unicodedata.normalize("NFC", one.filename).casefold() for one in members)
    if twice := [name for name, count in alike.items() if count > 1]:
        raise _refusal(Code.ARC_CASE, where, f"{len(twice)} names differ in case only or repeat, such as {twice[0]!r}")


def _check_member(one: zipfile.ZipInfo, where: str) -> None:
    name, mode = one.filename.replace("\\", "/"), one.external_attr >> 16
    if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0] or "\0" in one.orig_filename:
        raise _refusal(Code.ARC_PATH, where, f"member {one.filename!r} points out of the archive")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(Code.ARC_LINK, where, f"member {one.filename!r} is a link or device, expected files")
    if one.flag_bits & 1:
        raise _refusal(Code.ARC_ENCRYPTED, where, f"member {one.filename!r} is encrypted")
    if name.lower().endswith(NESTED):
        raise _refusal(Code.ARC_NESTED, where, f"member {one.filename!r} is an archive, expected images and labels")
    ratio = one.file_size / max(1, one.compress_size)
    if one.file_size > MAX_MEMBER_BYTES or (one.file_size > RATIO_FREE_BYTES and ratio > MAX_RATIO):
        sizes = f"{one.file_size} bytes packed into {one.compress_size}"
        raise _refusal(Code.ARC_BOMB, where, f"member {one.filename!r}: {sizes}, expected at most {MAX_RATIO} times")


def _without_wrapper(members: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Members by name, hidden ones left out, without a single top folder that only wraps the export."""
    named = {one.filename.replace("\\", "/"): one for one in members}
    seen = {name: one for name, one in named.items() if not is_hidden(name)}
    tops = {name.partition("/")[0] for name in seen}
    wrapped = len(tops) == 1 and all("/" in name for name in seen) and tops.pop().lower() not in OWN_FOLDERS
    return {name.partition("/")[2]: one for name, one in seen.items()} if wrapped else seen


def is_hidden(name: str) -> bool:
    """Whether a file is none of the export's own: editors and systems leave such files."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
