"""What every version is, derived from its bundle and the ledger and from nothing else."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from components.shared.ledger import Record, read_ledger
from components.shared.releases import Release, releases
from components.shared.store import Store


class State(StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    CHALLENGER = "challenger"
    CHAMPION = "champion"
    REJECTED = "rejected"
    RETIRED = "retired"


@dataclass(frozen=True)
class Standing:
    """One moment's view: the ledger, the whole bundles, and the state of each version."""

    records: tuple[Record, ...]
    releases: tuple[Release, ...]
    states: dict[int, State]

    @property
    def head(self) -> Record | None:
        return self.records[-1] if self.records else None

    @property
    def champion(self) -> int:
        """The champion's version, 0 where there is none."""
        return self.head.body["champion"] if self.head else 0

    @property
    def challenger(self) -> int:
        """The version that waits for a reviewer, 0 where there is none."""
        return next((version for version, state in self.states.items() if state == State.CHALLENGER), 0)


def standing(store: Store, model_name: str) -> Standing:
    """The state of every version of `model_name`."""
    records, whole = read_ledger(store, model_name), releases(store, model_name)
    still_open = {one.version for one in whole if set(one.open_rules) - set(waived_gates(records, one))}
    states = version_states([one.version for one in whole], records, still_open)
    return Standing(tuple(records), tuple(whole), states)


def waived_gates(records: Sequence[Record], release: Release) -> list[str]:
    """Gates that a reviewer waived for this very bundle."""
    mine = [record.body for record in records if record.body["release_sha256"] == release.digest]
    return [body["gate_waived"] for body in mine if body["kind"] == "waive"]


def version_states(
    versions: Sequence[int], records: Sequence[Record], still_open: Collection[int] = ()
) -> dict[int, State]:
    """State by version: the newest version after the newest one ever promoted, and not decided yet, is the challenger.

    Args:
        versions: Whole ones.
        records: Of the ledger.
        still_open: Versions that the gate could not decide and no reviewer has waived: they stay candidates.
    """
    states = dict.fromkeys(sorted(versions), State.CANDIDATE)
    promoted = {0}
    for record in records:
        version, champion = record.body["version"], record.body["champion"]
        if record.body["kind"] == "reject":
            states[version] = State.REJECTED
        if champion and champion != record.body["champion_before"]:
            if record.body["champion_before"]:
                states[record.body["champion_before"]] = State.RETIRED
            states[champion] = State.CHAMPION
            promoted.add(champion)
    candidates = {version for version, state in states.items() if state == State.CANDIDATE} - set(still_open)
    if waiting := [version for version in candidates if version > max(promoted)]:
        states[max(waiting)] = State.CHALLENGER
    return states
