"""A reviewer's decisions: each becomes one record of the ledger, then the registry follows."""

from typing import Any

from components.release.projection import project
from components.release.registry import open_registry, tracking_uri_for
from components.release.states import Standing, State, standing
from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, Refused
from components.shared.ledger import Record, append_record
from components.shared.releases import Release, read_release
from components.shared.store import Store


def promote(
    store: Store,
    model_name: str,
    version: int,
    reviewer: str,
    reason: str,
    tracking_uri: str = "",
    expect_champion: int | None = None,
) -> dict[str, Any]:
    """Make `version` the champion: a record in the ledger, then the alias.

    A promotion that was interrupted after its record is completed by the same call.

    Args:
        expect_champion: The champion that the reviewer saw (0: none); another one now refuses the promotion.

    Returns:
        The ledger's record, flat.

    Raises:
        InvalidInput: no such version, no reviewer, no reason.
        Refused: the champion is another one than expected, the version was rejected, or somebody decided first.
        ServiceFault: the registry failed; once the record is written the same call completes it.
    """
    _check_words(reviewer, reason)
    release = read_release(store, model_name, version)
    seen = standing(store, model_name)
    record = _already(seen, "promote", version, reviewer, reason)
    if record is None:
        _check_promotable(seen, model_name, version, expect_champion)
        entry = decision_entry(store, release, "promote", version, reviewer, reason)
        record = append_record(store, model_name, entry, seen.head)
    follow(store, model_name, tracking_uri)
    return flat_record(record)


def decision_entry(
    store: Store, release: Release, kind: str, champion: int, reviewer: str, reason: str
) -> dict[str, Any]:
    """What a record says about the version that was decided on."""
    return {
        "kind": kind,
        "version": release.version,
        "champion": champion,
        "actor": reviewer,
        "reason": reason,
        "run_key": release.record["run_key"],
        "release_sha256": digest_bytes(store.get(f"{release.prefix}/release.json")),
    }


def follow(store: Store, model_name: str, tracking_uri: str = "") -> Standing:
    """Bring the registry in line with the ledger."""
    with open_registry(tracking_uri or tracking_uri_for(store)) as client:
        return project(client, store, model_name)


def flat_record(record: Record) -> dict[str, Any]:
    """A record as commands print it."""
    return {**record.body, "digest": record.digest}


def _check_words(reviewer: str, reason: str) -> None:
    if not reviewer.strip() or not reason.strip():
        raise InvalidInput(f"a decision needs a reviewer and a reason, got {reviewer!r} and {reason!r}")


def _check_promotable(seen: Standing, model_name: str, version: int, expect_champion: int | None) -> None:
    if expect_champion is not None and expect_champion != seen.champion:
        raise Refused(
            f"{model_name}: the champion is version {seen.champion}, you expected {expect_champion}; nothing was "
            "changed: look again (`yanshan review`)"
        )
    state = seen.states[version]
    if state == State.CHAMPION:
        raise Refused(f"{model_name}: version {version} is the champion already")
    if state == State.REJECTED:
        raise Refused(f"{model_name}: version {version} was rejected; a rejected version is not promoted")
    if state == State.RETIRED:
        raise Refused(f"{model_name}: version {version} was champion before: `yanshan rollback` returns to it")


def _already(seen: Standing, kind: str, version: int, reviewer: str, reason: str) -> Record | None:
    """The head, when it is this very decision: the reviewer's command was interrupted after its record."""
    same = {"kind": kind, "version": version, "actor": reviewer, "reason": reason}
    return seen.head if seen.head and same.items() <= seen.head.body.items() else None
