"""The ledger of reviewers' decisions: hash-chained records, each written once, never changed.

`ledger/<model_name>/<seq>.json` holds one envelope: the record, and the signatures over it. A record names the digest
of the file before it, so that no record can be changed, dropped from the middle or put in between unseen. The
create-only write of the next number is the compare-and-swap: of two writers who saw the same head, one is refused.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from components.shared.digests import canonical_json, digest_bytes
from components.shared.errors import InvalidInput, Refused
from components.shared.signatures import TrustedKey, signed_by
from components.shared.store import Store

SCHEMA = 1
CHUNK = 64
Sign = Callable[[bytes], list[dict[str, str]]]


@dataclass(frozen=True)
class Record:
    """One entry of the ledger as it lies in the store."""

    seq: int
    digest: str
    """SHA-256 of the stored file: the next record names it."""
    body: dict[str, Any]
    """What was decided: kind, version, champion, champion_before, actor, reason, at, previous ..."""
    signatures: tuple[dict[str, str], ...]


def record_name(model_name: str, seq: int) -> str:
    """Where record `seq` lies in the store."""
    return f"ledger/{checked_name(model_name)}/{seq:06d}.json"


def checked_name(model_name: str) -> str:
    """`model_name` itself.

    Raises:
        InvalidInput: it cannot be the name of a folder and of a registered model.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", model_name):
        raise InvalidInput(f"model name: got {model_name!r}, expected up to 100 letters, digits, dots, dashes")
    return model_name


def read_ledger(store: Store, model_name: str) -> list[Record]:
    """All records in order, the chain checked.

    Raises:
        InvalidInput: a record is missing, unreadable, or does not name the one before it.
    """
    count = _count(store, model_name)
    # A thread takes many records at once: on a local disk handing them out one by one costs more than reading them.
    parts = [range(start, min(start + CHUNK, count + 1)) for start in range(1, count + 1, CHUNK)]
    with ThreadPoolExecutor(16) as pool:
        chunks = pool.map(lambda part: [_read(store, model_name, seq) for seq in part], parts)
        records = [record for chunk in chunks for record in chunk]
    before = None
    for record in records:
        _check_link(store, model_name, before, record)
        before = record
    return records


def head(store: Store, model_name: str) -> Record | None:
    """The newest record, its link to the one before checked; None for an empty ledger.

    Raises:
        InvalidInput: a number is missing, or the last link is broken.
    """
    count = _count(store, model_name)
    if not count:
        return None
    newest = _read(store, model_name, count)
    _check_link(store, model_name, _read(store, model_name, count - 1) if count > 1 else None, newest)
    return newest


def append_record(
    store: Store, model_name: str, entry: Mapping[str, Any], seen: Record | None, sign: Sign | None = None
) -> Record:
    """Write the record after `seen`, unless somebody else has.

    Args:
        entry: kind, version, champion (the version after this record), actor, reason and whatever proves them.
        seen: The head on which the decision stands; None for an empty ledger.
        sign: Signatures over the record's canonical JSON.

    Raises:
        Refused: another record was written after `seen`.
    """
    seq = seen.seq + 1 if seen else 1
    body = {
        **entry,
        "schema": SCHEMA,
        "seq": seq,
        "model_name": model_name,
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "previous": seen.digest if seen else "",
        "champion_before": seen.body["champion"] if seen else 0,
    }
    signatures = sign(canonical_json(body)) if sign else []
    data = canonical_json({"record": body, "signatures": signatures})
    if not store.put_new(record_name(model_name, seq), data):
        raise Refused(
            f"{store.uri}/{record_name(model_name, seq)}: another decision about {model_name} was recorded first; "
            "nothing was changed: look again (`yanshan review`) and decide anew"
        )
    return Record(seq, digest_bytes(data), body, tuple(signatures))


def check_signatures(record: Record, keys: Sequence[TrustedKey]) -> None:
    """Check that whoever a record names signed it, with a key that held then.

    Raises:
        Refused: unsigned, or no trusted key of the actor's (or of the registry's service) made the signature.
    """
    if not record.signatures:
        raise Refused(f"record {record.seq} of {record.body['model_name']} is not signed")
    for signature in record.signatures:
        key = signed_by(signature, keys, canonical_json(record.body), record.body["at"])
        if key.name != record.body["actor"] and key.role != "registry":
            raise Refused(f"record {record.seq} names {record.body['actor']!r}, but {key.name!r} signed it")


def _count(store: Store, model_name: str) -> int:
    names = list(store.list(f"ledger/{checked_name(model_name)}"))
    for seq, name in enumerate(names, start=1):
        if name != record_name(model_name, seq):
            raise InvalidInput(
                f"{store.uri}/ledger/{model_name}: got {name!r}, expected {record_name(model_name, seq)!r}: "
                "a record is missing or foreign"
            )
    return len(names)


def _read(store: Store, model_name: str, seq: int) -> Record:
    name = record_name(model_name, seq)
    data = store.get(name)
    try:
        envelope = json.loads(data)
        body, signatures = dict(envelope["record"]), tuple(envelope["signatures"])
    except (ValueError, KeyError, TypeError) as fault:
        raise InvalidInput(f"{store.uri}/{name}: not a ledger record ({fault})") from fault
    return Record(seq, digest_bytes(data), body, signatures)


def _check_link(store: Store, model_name: str, before: Record | None, record: Record) -> None:
    where = f"{store.uri}/{record_name(model_name, record.seq)}"
    got = (record.body.get("model_name"), record.body.get("seq"), record.body.get("schema"))
    if got != (model_name, record.seq, SCHEMA):
        raise InvalidInput(f"{where}: got model, number and schema {got}, expected {(model_name, record.seq, SCHEMA)}")
    expected = before.digest if before else ""
    if record.body.get("previous") != expected:
        raise InvalidInput(
            f"{where}: the chain is broken here: got previous {record.body.get('previous')!r}, expected {expected!r}; "
            "this record or the one before it was changed after it was written"
        )
