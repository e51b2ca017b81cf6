"""Names made of content: SHA-256 of bytes, files, folders and JSON."""

import hashlib
import json
from pathlib import Path
from typing import IO, Any


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return digest_stream(file)


def digest_stream(stream: IO[bytes]) -> str:
    """SHA-256 of what is left in a stream as 64 hex digits."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def canonical_json(value: Any) -> bytes:
    """One spelling for one value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value))


def digest_path(path: Path) -> str:
    """Digest of a file, or of a folder's relative names and contents."""
    if path.is_file():
        return digest_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest_json([[file.relative_to(path).as_posix(), digest_file(file)] for file in files])
