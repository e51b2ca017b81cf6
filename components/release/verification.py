"""Does everything still fit: ledger, bundles and registry compared, and the registry mended where it drifted."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from components.release.policy import PromotionPolicy, Trust, read_trust
from components.release.projection import DIGEST, STATE, project, read_mark
from components.release.registered import check_registered
from components.release.registry import open_registry
from components.release.seal import verify_bundle
from components.release.states import Standing, State, standing
from components.shared.errors import InvalidInput, Refused, YanshanError
from components.shared.ledger import Record, check_signatures, read_ledger
from components.shared.releases import Release
from components.shared.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

KINDS = ("promote", "approve", "reject", "waive", "rollback")


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit."""

    what: str
    where: str
    message: str
    mended: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(store: Store, model_name: str, tracking_uri: str, bundles: bool = True) -> list[Finding]:
    """Everything that does not fit; an empty list when all does. Nothing is changed.

    Args:
        bundles: Also fetch every bundle, recompute its digests and check its seal.
    """
    found = list(ledger_findings(store, model_name))
    if any(finding.what == "ledger-broken" for finding in found):
        return found
    seen, trust = standing(store, model_name), read_trust(store)
    if bundles:
        found += bundle_findings(store, seen, trust)
    with open_registry(tracking_uri) as client:
        found += registry_findings(client, model_name, seen)
        known = {int(one.version) for one in client.search_model_versions(f"name = '{model_name}'")}
        if bundles:
            found += copy_findings([release for release in seen.releases if release.version in known])
    return found


def reconcile(store: Store, model_name: str, tracking_uri: str) -> list[Finding]:
    """Write aliases and tags anew from the ledger; says what drifted, and what only a person can mend.

    Raises:
        Refused: the ledger itself is broken or cut short: nothing is written from it.
    """
    found = list(ledger_findings(store, model_name))
    with open_registry(tracking_uri) as client:
        if not found:
            found = list(registry_findings(client, model_name, standing(store, model_name)))
        fatal = [finding for finding in found if finding.what.startswith(("ledger-broken", "ledger-cut", "record-"))]
        if fatal:
            raise Refused(f"{model_name}: nothing was mended: " + "; ".join(one.message for one in fatal))
        if not any(finding.what == "model-missing" for finding in found):
            project(client, store, model_name)
        left = {(one.what, one.where) for one in registry_findings(client, model_name, standing(store, model_name))}
    return [replace(one, mended=(one.what, one.where) not in left) for one in found]


def ledger_findings(store: Store, model_name: str) -> Iterator[Finding]:
    """What is wrong with the ledger itself: chain, signatures, order of time, kinds and states."""
    where = f"ledger/{model_name}"
    try:
        records = read_ledger(store, model_name)
    except InvalidInput as fault:
        yield Finding("ledger-broken", where, str(fault))
        return
    trust = read_trust(store)
    for record in records:
        try:
            check_signatures(record, trust.reviewers)
        except YanshanError as fault:
            yield Finding("record-signature", f"{where}/{record.seq:06d}.json", str(fault))
    yield from order_findings(where, records, trust.policy)


def order_findings(where: str, records: Sequence[Record], policy: PromotionPolicy) -> Iterator[Finding]:
    """Records whose kind, champion or time cannot follow the one before."""
    champion, at = 0, ""
    for record in records:
        body, name = record.body, f"{where}/{record.seq:06d}.json"
        if body["kind"] not in KINDS or body["champion_before"] != champion:
            told = f"{body['kind']} on champion {body['champion_before']}, expected one of {KINDS} on {champion}"
            yield Finding("record-order", name, f"record {record.seq}: {told}")
        moves = body["kind"] in ("promote", "rollback")
        if (body["champion"] != champion and not moves) or (moves and body["champion"] != body["version"]):
            yield Finding(
                "record-order", name, f"record {record.seq}: a {body['kind']} made {body['champion']} champion"
            )
        if at and datetime.fromisoformat(at) - datetime.fromisoformat(body["at"]) > _skew(policy):
            yield Finding("record-time", name, f"record {record.seq}: {body['at']} is before {at} of the one before it")
        champion, at = body["champion"], body["at"]


def bundle_findings(store: Store, seen: Standing, trust: Trust) -> Iterator[Finding]:
    """Bundles that were changed, are not sealed, or are named in the ledger and gone or other."""
    for release in seen.releases:
        try:
            verify_bundle(store, release, trust.release_keys)
        except YanshanError as fault:
            yield Finding("bundle", release.prefix, str(fault))
    digests = {release.version: release.digest for release in seen.releases}
    for record in seen.records:
        version, named = record.body["version"], record.body["release_sha256"]
        if digests.get(version, "") != named:
            got = digests.get(version) or "no whole bundle"
            message = f"version {version}: record {record.seq} names release.json {named[:12]}, got {got[:12]}"
            yield Finding("bundle-differs", f"record {record.seq}", message)


def copy_findings(registered: Sequence[Release]) -> Iterator[Finding]:
    """Models that the registry serves and that are not those of the bundle."""
    for release in registered:
        try:
            check_registered(release)
        except InvalidInput as fault:
            yield Finding("registry-copy", f"{release.model_name}/{release.version}", str(fault))


def registry_findings(client: "MlflowClient", model_name: str, seen: Standing) -> Iterator[Finding]:
    """Where MLflow shows something else than the ledger says."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(model_name)
    except MlflowException as fault:
        if getattr(fault, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
            raise
        if seen.releases or seen.records:
            yield Finding("model-missing", model_name, f"{model_name} is not in the registry: deleted or renamed there")
        return
    yield from _mark_findings(model, seen)
    yield from _alias_findings(model, seen)
    registered = {int(one.version): one for one in client.search_model_versions(f"name = '{model_name}'")}
    for version, state in seen.states.items():
        if version not in registered:
            message = f"version {version} ({state}) was deleted from the registry; its bundle is whole"
            yield Finding("version-missing", f"{model_name}/{version}", message)
        elif (shown := registered[version].tags.get(STATE, "")) != state:
            message = f"version {version} is tagged {shown!r}, the ledger says {str(state)!r}"
            yield Finding("state-tag", f"{model_name}/{version}", message)
    for release in seen.releases:
        shown = registered[release.version].tags.get(DIGEST, "") if release.version in registered else release.digest
        if shown != release.digest:
            message = (
                f"version {release.version} is tagged release.json {shown[:12]}, the bundle's is {release.digest[:12]}"
            )
            yield Finding("digest-tag", f"{model_name}/{release.version}", message)
    for version in sorted(registered.keys() - seen.states.keys()):
        message = f"version {version} has no whole bundle: a release that was interrupted, or registered by hand"
        yield Finding("version-without-bundle", f"{model_name}/{version}", message)


def _mark_findings(model: "RegisteredModel", seen: Standing) -> Iterator[Finding]:
    (marked, digest), length = read_mark(model), len(seen.records)
    if marked > length:
        message = f"the ledger has {length} records, the registry remembers {marked}: it was cut short"
        yield Finding("ledger-cut-short", f"ledger/{model.name}", message)
    elif marked and seen.records[marked - 1].digest != digest:
        message = f"record {marked} is not the one that the registry remembers: the ledger was written anew"
        yield Finding("ledger-cut-or-rewritten", f"ledger/{model.name}", message)
    elif marked < length:
        message = f"the registry remembers {marked} of {length} records: a decision was interrupted"
        yield Finding("ledger-mark-old", f"ledger/{model.name}", message)


def _alias_findings(model: "RegisteredModel", seen: Standing) -> Iterator[Finding]:
    for alias, version in ((State.CHAMPION, seen.champion), (State.CHALLENGER, seen.challenger)):
        shown = int(model.aliases.get(alias, 0))
        if shown != version:
            what = "alias-moved" if shown else "alias-missing"
            message = f"alias {alias} shows version {shown or 'none'}, the ledger says {version or 'none'}"
            yield Finding(what, f"{model.name}@{alias}", message)


def _skew(policy: PromotionPolicy) -> timedelta:
    return timedelta(seconds=policy.clock_skew_s)
