"""The registry server's audit file: one JSON line an attempt to change the registry, each naming the one before."""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.digests import canonical_json, digest_bytes
from components.shared.errors import InvalidInput

TAIL_BYTES = 65536


def write_line(audit: Path, entry: Mapping[str, Any]) -> None:
    """Append `entry` with the time and the digest of the line before it."""
    audit.parent.mkdir(parents=True, exist_ok=True)
    with audit.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = canonical_json({**entry, "at": time.time(), "previous": _last_digest(file)})
        file.write(line + b"\n")
        file.flush()


def read_lines(audit: Path) -> Iterator[dict[str, Any]]:
    """Every line in order, the chain checked.

    Raises:
        InvalidInput: a line was changed, taken out or put in.
    """
    previous = ""
    for number, line in enumerate(audit.read_bytes().splitlines() if audit.exists() else [], start=1):
        try:
            entry = json.loads(line)
            stated = entry["previous"]
        except (ValueError, KeyError, TypeError) as fault:
            raise InvalidInput(f"{audit}, line {number}: not an audit line ({fault})") from fault
        if stated != previous:
            raise InvalidInput(f"{audit}, line {number}: does not name the line before it: the file was changed")
        previous = digest_bytes(line)
        yield entry


def _last_digest(file: Any) -> str:
    file.seek(0, 2)
    file.seek(max(0, file.tell() - TAIL_BYTES))
    lines = file.read().splitlines()
    return digest_bytes(lines[-1]) if lines else ""
