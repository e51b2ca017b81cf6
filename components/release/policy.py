"""Who may decide, and what it takes: the policy and the keys in the folder of trust."""

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from components.shared.errors import InvalidInput, MissingCapability, Refused
from components.shared.settings import Settings, read_settings
from components.shared.signatures import (
    SigningKey,
    TrustedKey,
    key_id,
    new_key_file,
    public_pem,
    read_key,
    read_release_keys,
    read_trusted,
    trust_folder,
)
from components.shared.store import Store

logger = logging.getLogger(__name__)


class PromotionPolicy(Settings):
    """What a promotion takes. These defaults hold where a folder of trust has no `policy.json`."""

    reviewers: Literal["listed", "open"] = "listed"
    """listed: only those in `reviewers.json`; open: a new name gets a key and an entry (one person on one machine)."""
    author_may_review: bool = False
    """Whether whoever started a night may promote what came of it."""
    approvals: PositiveInt = 1
    """How many different reviewers must agree."""
    clock_skew_s: NonNegativeInt = 300
    """How far the clocks of reviewers' machines may differ."""
    gate: dict[str, bool | int | float | str | list[str]] = Field(default_factory=dict)
    """Settings of the gate that replace those of the night when it is asked again."""


@dataclass(frozen=True)
class Trust:
    """The folder of trust as it is now."""

    folder: Path
    policy: PromotionPolicy
    reviewers: tuple[TrustedKey, ...]

    @property
    def release_keys(self) -> tuple[TrustedKey, ...]:
        return read_release_keys(self.folder / "release-keys.pem")


def read_trust(store: Store) -> Trust:
    """Policy and keys that hold for `store`; beside a folder store they are made on first use.

    Raises:
        MissingCapability: no folder of trust is known.
        InvalidInput: a file in it is not what it should be.
    """
    folder = trust_folder(store)
    if folder is None or (not folder.is_dir() and "YANSHAN_TRUST" in os.environ):
        raise MissingCapability(
            f"no folder of trust for {store.uri}: got {folder}, expected YANSHAN_TRUST to name one with "
            "release-keys.pem, reviewers.json and policy.json"
        )
    if not folder.is_dir():
        _found(folder)
    policy = PromotionPolicy()
    if (folder / "policy.json").exists():
        try:
            policy = read_settings(PromotionPolicy, json.loads((folder / "policy.json").read_text()))
        except ValueError as fault:
            raise InvalidInput(f"{folder / 'policy.json'}: not JSON ({fault})") from fault
    return Trust(folder, policy, read_trusted(folder / "reviewers.json"))


def release_key(store: Store) -> SigningKey:
    """The key that seals bundles: `YANSHAN_SIGNING_KEY` (PEM, file or exec:COMMAND), or the workspace's own.

    Raises:
        MissingCapability: there is none.
    """
    if named := os.environ.get("YANSHAN_SIGNING_KEY"):
        return read_key(named)
    trust = read_trust(store)
    path = trust.folder / "release.pem"
    if not path.is_file():
        raise MissingCapability(f"{path}: no key to seal bundles with; expected it there or in YANSHAN_SIGNING_KEY")
    return read_key(str(path))


def reviewer_key(trust: Trust, reviewer: str, key: str = "") -> tuple[SigningKey, TrustedKey]:
    """The reviewer's signing key and its entry in the list.

    Args:
        key: PEM text, a file or exec:COMMAND; empty: YANSHAN_REVIEWER_KEY, or the workspace's key of that name.

    Raises:
        Refused: the reviewer is not in the list, the key is another one, or it does not hold today.
        MissingCapability: no key was given.
    """
    own = trust.folder / f"reviewer-{_slug(reviewer)}.pem"
    named = key or os.environ.get("YANSHAN_REVIEWER_KEY", "")
    if not named and not own.is_file() and trust.policy.reviewers == "open":
        new_key_file(own)
        logger.warning("a key for reviewer %s was made: whoever can read %s can decide in that name", reviewer, own)
    if not named and not own.is_file():
        raise MissingCapability(f"reviewer {reviewer!r}: no key; expected --key, YANSHAN_REVIEWER_KEY or {own}")
    signing = read_key(named or str(own))
    listed = _listed(trust, reviewer, signing)
    now = datetime.now(UTC).isoformat()
    if not listed.holds_at(now):
        span = f"{listed.valid_from or 'always'} to {listed.valid_until or 'always'}"
        raise Refused(f"reviewer {reviewer!r}: key {listed.id} is valid from {span}; today is {now[:10]}")
    return signing, listed


def _listed(trust: Trust, reviewer: str, signing: SigningKey) -> TrustedKey:
    wanted = key_id(public_pem(signing))
    with _locked(trust.folder) if trust.policy.reviewers == "open" else contextlib.nullcontext():
        known = [key for key in read_trusted(trust.folder / "reviewers.json") if key.name == reviewer]
        found = next((key for key in known if key.id == wanted), None)
        if found:
            return found
        if known:
            raise Refused(f"reviewer {reviewer!r}: got key {wanted}, the list has {[key.id for key in known]}")
        if trust.policy.reviewers == "listed":
            raise Refused(f"reviewer {reviewer!r} is not in {trust.folder / 'reviewers.json'}")
        return _enlist(trust.folder, TrustedKey(reviewer, public_pem(signing)))


def _enlist(folder: Path, key: TrustedKey) -> TrustedKey:
    path = folder / "reviewers.json"
    listed = json.loads(path.read_text())["reviewers"] if path.exists() else []
    listed.append({"name": key.name, "public_key": key.pem, "valid_from": key.valid_from, "role": key.role})
    _write(path, json.dumps({"reviewers": listed}, indent=1))
    return key


def _found(folder: Path) -> None:
    """Make the folder of trust of one person on one machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if (folder / "policy.json").exists():
            return
        key = new_key_file(folder / "release.pem")
        _write(folder / "release-keys.pem", public_pem(key))
        _write(folder / "policy.json", json.dumps({"reviewers": "open", "author_may_review": True}, indent=1) + "\n")
    logger.warning(
        "keys were made in %s: whoever can read it can release and decide. That suits one person on one machine; "
        "a team lists its reviewers in reviewers.json and tightens policy.json there",
        folder,
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    beside.write_text(text)
    beside.replace(path)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-") or "unnamed"
