"""The registry shows what the ledger says: aliases and state tags are written from it, never read as truth."""

import logging
from typing import TYPE_CHECKING

from components.release.states import Standing, standing
from components.shared.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

logger = logging.getLogger(__name__)
STATE = "promotion.state"
HEAD = "yanshan.ledger_head"


def project(client: "MlflowClient", store: Store, model_name: str) -> Standing:
    """Bring aliases and tags in line with the ledger; run twice, it changes nothing.

    Whoever writes an alias looks at the ledger again afterwards, so the last of several writers leaves the truth.
    """
    seen = standing(store, model_name)
    while True:
        _write(client, model_name, seen)
        now = standing(store, model_name)
        if now.head == seen.head and now.states == seen.states:
            return now
        seen = now


def head_mark(seen: Standing) -> str:
    """Length and digest of the ledger, as the registry remembers them: a ledger cut short is noticed."""
    return f"{seen.head.seq}:{seen.head.digest}" if seen.head else "0:"


def _write(client: "MlflowClient", model_name: str, seen: Standing) -> None:
    model = client.get_registered_model(model_name)
    registered = {int(one.version): one for one in client.search_model_versions(f"name = '{model_name}'")}
    for alias, version in (("champion", seen.champion), ("challenger", seen.challenger)):
        _set_alias(client, model, alias, version if version in registered else 0)
    for version, state in seen.states.items():
        if version in registered and registered[version].tags.get(STATE) != state:
            client.set_model_version_tag(model_name, str(version), STATE, str(state))
    if model.tags.get(HEAD) != head_mark(seen):
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
