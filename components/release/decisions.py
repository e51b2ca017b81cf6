"""The decisions besides promotion: turn a version down, waive one gate of it, return to an earlier champion."""

import json
from typing import Any

from components.release.gate import COMPARED
from components.release.promotion import Desk, Reviewer, deciding, flat_record
from components.release.states import State
from components.shared.errors import Refused
from components.shared.store import Store


def reject(store: Store, model_name: str, version: int, who: Reviewer, tracking_uri: str = "") -> dict[str, Any]:
    """Turn `version` down for good: it is never promoted.

    Raises:
        InvalidInput: no such version, or no reviewer or reason.
        Refused: it is or was champion, or is rejected already; or the reviewer may not decide.
        ServiceFault: the registry failed; the same call completes the decision.
    """
    with deciding(store, model_name, version, who, tracking_uri) as desk:
        record = desk.recorded("reject")
        if record is None:
            state = desk.seen.states[version]
            if state not in (State.CANDIDATE, State.CHALLENGER):
                raise Refused(f"{model_name}: version {version} is {state}; only a candidate or challenger is rejected")
            record = desk.write("reject", desk.seen.champion)
    return flat_record(record)


def waive(
    store: Store, model_name: str, version: int, gate: str, who: Reviewer, tracking_uri: str = ""
) -> dict[str, Any]:
    """Let one rule of the gate not count against `version`; who waived it and why stays on record.

    Raises:
        InvalidInput: no such version, or no reviewer or reason.
        Refused: the version was never asked that rule, or is decided; or the reviewer may not decide.
    """
    with deciding(store, model_name, version, who, tracking_uri) as desk:
        record = desk.recorded("waive")
        if record is None or record.body["gate_waived"] != gate:
            desk.check_author()
            asked = rules_of(store, desk)
            if gate not in asked:
                raise Refused(f"{model_name} version {version} has no gate {gate!r}; it was asked: {', '.join(asked)}")
            state = desk.seen.states[version]
            if state not in (State.CANDIDATE, State.CHALLENGER):
                raise Refused(f"{model_name}: version {version} is {state}; there is nothing left to waive")
            record = desk.write("waive", desk.seen.champion, {"gate_waived": gate})
    return flat_record(record)


def rollback(
    store: Store,
    model_name: str,
    version: int,
    who: Reviewer,
    tracking_uri: str = "",
    expect_champion: int | None = None,
) -> dict[str, Any]:
    """Return to `version`, which was champion before: a new record, nothing is taken back.

    Its bundle's digests and seal are checked anew; the gate is not asked, since it was good enough once.

    Raises:
        InvalidInput: no such version, or its bundle was changed.
        Refused: it never was champion, or is; another champion than expected; or the reviewer may not decide.
        ServiceFault: the registry failed; the same call completes the decision.
    """
    with deciding(store, model_name, version, who, tracking_uri) as desk:
        record = desk.recorded("rollback")
        if record is None:
            if expect_champion is not None and expect_champion != desk.seen.champion:
                raise Refused(f"{model_name}: the champion is {desk.seen.champion}, you expected {expect_champion}")
            if desk.seen.states[version] != State.RETIRED:
                raise Refused(
                    f"{model_name}: version {version} is {desk.seen.states[version]}; a rollback goes to one that was "
                    f"champion before: {earlier_champions(desk) or 'there is none'}"
                )
            record = desk.write("rollback", version, desk.check_seal())
    return flat_record(record)


def earlier_champions(desk: Desk) -> list[int]:
    """Versions that a rollback may go to, newest last."""
    return [version for version, state in desk.seen.states.items() if state == State.RETIRED]


def rules_of(store: Store, desk: Desk) -> list[str]:
    """Names of the rules that the version's gate was asked."""
    decision = json.loads(store.get(f"{desk.release.prefix}/decision/decision.json"))
    return [*(rule["rule"] for rule in decision["rules"]), COMPARED]
