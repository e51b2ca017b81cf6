"""The registry shows what the ledger says: aliases and state tags are written from it, never read as truth."""

import logging
from typing import TYPE_CHECKING

from components.release.states import Standing, standing
from components.shared.digests import digest_bytes
from components.shared.errors import Refused
from components.shared.ledger import record_name
from components.shared.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

logger = logging.getLogger(__name__)
STATE = "promotion.state"
HEAD = "yanshan.ledger_head"
DIGEST = "yanshan.release_sha256"


def project(client: "MlflowClient", store: Store, model_name: str, decided: bool = True) -> Standing:
    """Bring aliases and tags in line with the ledger; run twice, it changes nothing.

    Whoever writes an alias looks at the ledger again afterwards, so the last of several writers leaves the truth.

    Args:
        decided: Also alias `champion` and the mark of the ledger, which a release may not touch.

    Raises:
        Refused: the ledger is shorter than the registry remembers, or another one.
    """
    seen = standing(store, model_name)
    while True:
        _write(client, store, model_name, seen, decided)
        now = standing(store, model_name)
        if now.head == seen.head and now.states == seen.states:
            return now
        seen = now


def check_mark(store: Store, model: "RegisteredModel") -> None:
    """Check that the ledger still holds the record that the registry remembers as its newest.

    Raises:
        Refused: the ledger was cut short, or written anew.
    """
    seq, digest = read_mark(model)
    name = record_name(model.name, seq)
    if seq and not store.exists(name):
        raise Refused(f"ledger of {model.name}: record {seq}, which the registry remembers, is gone: it was cut short")
    if seq and digest_bytes(store.get(name)) != digest:
        raise Refused(f"ledger of {model.name}: record {seq} is not the one that the registry remembers")


def read_mark(model: "RegisteredModel") -> tuple[int, str]:
    """Number and digest of the newest record that the registry remembers; 0 where it remembers none."""
    seq, _, digest = model.tags.get(HEAD, "0:").partition(":")
    return (int(seq), digest) if seq.isdigit() else (0, "")


def head_mark(seen: Standing) -> str:
    """Length and digest of the ledger, as the registry remembers them: a ledger cut short is noticed."""
    return f"{seen.head.seq}:{seen.head.digest}" if seen.head else "0:"


def _write(client: "MlflowClient", store: Store, model_name: str, seen: Standing, decided: bool) -> None:
    model = client.get_registered_model(model_name)
    check_mark(store, model)
    registered = {int(one.version): one for one in client.search_model_versions(f"name = '{model_name}'")}
    aliases = {"challenger": seen.challenger} | ({"champion": seen.champion} if decided else {})
    for alias, version in aliases.items():
        if not version and not decided:
            continue  # MLflow lets only those who may decide take an alias away
        _set_alias(client, model, alias, version if version in registered else 0)
    for version, state in seen.states.items():
        if version in registered and registered[version].tags.get(STATE) != state:
            client.set_model_version_tag(model_name, str(version), STATE, str(state))
    if decided and seen.head and model.tags.get(HEAD) != head_mark(seen):
        client.set_registered_model_tag(model_name, HEAD, head_mark(seen))


def _set_alias(client: "MlflowClient", model: "RegisteredModel", alias: str, version: int) -> None:
    now = int(model.aliases.get(alias, 0))
    if now == version:
        return
    if version:
        client.set_registered_model_alias(model.name, alias, str(version))
    else:
        client.delete_registered_model_alias(model.name, alias)
    logger.info("alias=%s model=%s before=%d after=%d", alias, model.name, now, version)
