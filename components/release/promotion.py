"""A reviewer's decisions: each becomes one signed record of the ledger, then the registry follows."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.release.gate import check_gate
from components.release.policy import PromotionPolicy, Trust, read_trust, reviewer_key
from components.release.projection import check_mark, project
from components.release.registered import check_registered
from components.release.registry import open_registry, tracking_uri_for
from components.release.seal import bring_verified, verify_bundle
from components.release.states import Standing, State, standing, waived_gates
from components.shared.digests import digest_json
from components.shared.errors import InvalidInput, Refused
from components.shared.ledger import Record, append_record, check_signatures
from components.shared.releases import Release, read_release
from components.shared.signatures import SigningKey, TrustedKey, sign
from components.shared.store import Store

Regate = Callable[[Path, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
"""Scores folder, the night's decision and the policy's changes in; the decision as it would be today out."""


@dataclass(frozen=True)
class Reviewer:
    """Who decides, why, and with which key."""

    name: str
    reason: str
    key: str = ""
    """PEM text, file or exec:COMMAND; empty: the key that the folder of trust keeps for that name."""
    signer: str = ""
    """Name of the key, where the registry's service records for the reviewer."""
    via: str = "command line"


def promote(
    store: Store,
    model_name: str,
    version: int,
    reviewer: str,
    reason: str,
    tracking_uri: str = "",
    expect_champion: int | None = None,
    key: str = "",
    regate: Regate | None = None,
) -> dict[str, Any]:
    """Make `version` the champion: a signed record in the ledger, then the alias.

    The bundle is fetched anew, its digests and seal are checked, the gate is asked again where `regate` is given, and
    the policy says who may decide. A promotion that was interrupted after its record is completed by the same call.

    Args:
        expect_champion: The champion that the reviewer saw (0: none); another one now refuses the promotion.

    Returns:
        The ledger's record, flat: kind `promote`, or `approve` where the policy asks for more reviewers.

    Raises:
        InvalidInput: no such version, no reviewer, no reason, or the bundle was changed.
        Refused: another champion than expected, a rejected version, a seal, key, gate or policy that says no.
        ServiceFault: the registry failed; once the record is written the same call completes it.
    """
    who = Reviewer(reviewer, reason, key)
    return promote_as(store, model_name, version, who, tracking_uri, expect_champion, regate)


def promote_as(
    store: Store,
    model_name: str,
    version: int,
    who: Reviewer,
    tracking_uri: str = "",
    expect_champion: int | None = None,
    regate: Regate | None = None,
) -> dict[str, Any]:
    """As `promote`, for a reviewer who may stand behind the registry's service."""
    with deciding(store, model_name, version, who, tracking_uri) as desk:
        record = desk.recorded("promote") or desk.recorded("approve")
        if record is None:
            check_promotable(desk.seen, model_name, version, expect_champion)
            desk.check_author()
            proof = desk.check_evidence(regate)
            given = desk.approvals_given()
            if len(given) + 1 < desk.trust.policy.approvals:
                record = desk.write("approve", desk.seen.champion, proof)
            else:
                record = desk.write("promote", version, proof | {"approvals": given})
    return flat_record(record)


@contextlib.contextmanager
def deciding(store: Store, model_name: str, version: int, who: Reviewer, tracking_uri: str = "") -> Iterator["Desk"]:
    """A desk to decide at: the registry answers before anything is recorded, and follows afterwards.

    Raises:
        Refused: the ledger is not the one that the registry remembers.
        ServiceFault: the registry does not answer.
    """
    with open_registry(tracking_uri or tracking_uri_for(store)) as client:
        desk = Desk.opened(store, model_name, version, who)
        check_mark(store, client.get_registered_model(model_name))
        yield desk
        project(client, store, model_name)


@dataclass(frozen=True)
class Desk:
    """One decision in the making: what the reviewer sees, and the key that will sign it."""

    store: Store
    release: Release
    seen: Standing
    trust: Trust
    who: Reviewer
    signing: SigningKey
    listed: TrustedKey

    @classmethod
    def opened(cls, store: Store, model_name: str, version: int, who: Reviewer) -> "Desk":
        """Check the words, the version, the ledger's signatures, the clock and the reviewer's key.

        Raises:
            InvalidInput: no such version, empty words, or a ledger that was changed.
            Refused: the key is unknown, foreign or expired; a record is not signed; the clocks differ too much.
        """
        if not who.name.strip() or not who.reason.strip():
            raise InvalidInput(f"a decision needs a reviewer and a reason, got {who.name!r} and {who.reason!r}")
        release = read_release(store, model_name, version)
        seen, trust = standing(store, model_name), read_trust(store)
        for record in seen.records:
            check_signatures(record, trust.reviewers)
        check_clock(seen.head, trust.policy)
        signing, listed = reviewer_key(trust, who.signer or who.name, who.key)
        entitled = {key.name for key in trust.reviewers if key.role == "reviewer"}
        if who.signer and (listed.role != "registry" or who.name not in entitled):
            raise Refused(f"{who.signer!r} (role {listed.role}) may not record for {who.name!r}; reviewers: {entitled}")
        return cls(store, release, seen, trust, who, signing, listed)

    def recorded(self, kind: str) -> Record | None:
        """The head, when it is this very decision: the reviewer's command was interrupted after its record."""
        same = {"kind": kind, "version": self.release.version, "actor": self.who.name, "reason": self.who.reason}
        head = self.seen.head
        return head if head and same.items() <= head.body.items() else None

    def check_author(self) -> None:
        """Nobody passes judgement on their own night, unless the policy lets them.

        Raises:
            Refused: the reviewer started the night.
        """
        author = self.release.record["author"]
        if author.casefold() == self.who.name.casefold() and not self.trust.policy.author_may_review:
            raise Refused(
                f"{self.release.model_name} version {self.release.version}: {author!r} started the night that made it; "
                "the policy asks for another reviewer"
            )

    def check_evidence(self, regate: Regate | None) -> dict[str, Any]:
        """Fetch bundle and registered models, check digests and seal, ask the gate again; returns what proves it.

        Raises:
            InvalidInput: a file was changed.
            Refused: the seal or the gate says no.
        """
        with tempfile.TemporaryDirectory(prefix="yanshan-review-") as scratch:
            check_registered(self.release)
            proof = bring_verified(self.store, self.release, self.trust.release_keys, Path(scratch))
            waived = waived_gates(self.seen.records, self.release)
            verdict = check_gate(Path(scratch) / "bundle", waived, self.trust.policy.gate, self.seen.champion, regate)
        return {"sealed_by": proof["sealed_by"], "gate": verdict}

    def check_seal(self) -> dict[str, Any]:
        """Fetch the bundle and check its digests and its seal.

        Raises:
            InvalidInput: a file was changed.
            Refused: no trusted key sealed it.
        """
        return {"sealed_by": verify_bundle(self.store, self.release, self.trust.release_keys)["sealed_by"]}

    def approvals_given(self) -> list[int]:
        """Numbers of the approvals of this very bundle by other reviewers, since the champion last changed.

        Raises:
            Refused: this reviewer has approved already.
        """
        given: dict[str, int] = {}
        for record in self.seen.records:
            body = record.body
            if body["champion"] != body["champion_before"] or body["kind"] == "reject":
                given = {}
            elif body["kind"] == "approve" and body["release_sha256"] == self.release.digest:
                given.setdefault(body["actor"], record.seq)
        if self.who.name in given:
            raise Refused(f"{self.who.name!r} has approved this version in record {given[self.who.name]} already")
        return sorted(given.values())

    def write(self, kind: str, champion: int, more: Mapping[str, Any] | None = None) -> Record:
        """Append the decision to the ledger, signed.

        Raises:
            Refused: somebody else's decision came first.
        """
        digests = {one.version: one.digest for one in self.seen.releases}
        entry = {
            "kind": kind,
            "version": self.release.version,
            "champion": champion,
            "champion_sha256": digests.get(champion, ""),
            "actor": self.who.name,
            "reason": self.who.reason,
            "via": self.who.via,
            "run_key": self.release.record["run_key"],
            "release_sha256": self.release.digest,
            "policy": digest_json(self.trust.policy.model_dump(mode="json")),
            **(more or {}),
        }
        head, model_name = self.seen.head, self.release.model_name
        return append_record(
            self.store, model_name, entry, head, lambda payload: [sign(self.signing, self.listed.name, payload)]
        )


def check_promotable(seen: Standing, model_name: str, version: int, expect_champion: int | None) -> None:
    """Check that the version may become champion from where it stands.

    Raises:
        Refused: another champion than expected, or a version that is champion, rejected or retired.
    """
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


def check_clock(head: Record | None, policy: PromotionPolicy) -> None:
    """Check that this machine's clock is not behind the newest record's by more than the policy allows.

    Raises:
        Refused: it is.
    """
    behind = datetime.fromisoformat(head.body["at"]) - datetime.now(UTC) if head else timedelta()
    if head and behind > timedelta(seconds=policy.clock_skew_s):
        raise Refused(
            f"record {head.seq} is of {head.body['at']}, {behind.total_seconds():.0f} s ahead of this machine's clock; "
            f"expected at most {policy.clock_skew_s} s: set the clock"
        )


def flat_record(record: Record) -> dict[str, Any]:
    """A record as commands print it."""
    return {**record.body, "digest": record.digest}
