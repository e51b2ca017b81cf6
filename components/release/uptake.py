"""What a reviewer did in MLflow's own pages becomes a record of the ledger; what anybody else did is put back."""

import logging
from pathlib import Path
from typing import Any

from components.release.audit import read_lines
from components.release.decisions import rollback
from components.release.promotion import Regate, Reviewer, promote_as
from components.release.registry import open_registry
from components.release.states import Standing, State, standing
from components.release.verification import reconcile
from components.shared.errors import InvalidInput, Refused
from components.shared.store import Store

logger = logging.getLogger(__name__)
REASON = "set alias champion in MLflow"


def take_up(
    store: Store, model_name: str, tracking_uri: str, audit: Path, service: str, regate: Regate | None = None
) -> dict[str, Any]:
    """Bring ledger and registry together again, once.

    A champion alias that a reviewer set is treated as that reviewer's promotion (or rollback): same checks, one record,
    signed by the service's key. Where the checks refuse it, or nobody entitled set it, the alias goes back.

    Args:
        audit: File that the server's guard writes.
        service: Name of this service's key in the list, of role registry.

    Returns:
        {"did": "nothing" | "recorded" | "put back", "why", ...}.

    Raises:
        ServiceFault: the registry failed; the next round tries again.
    """
    with open_registry(tracking_uri) as client:
        shown = int(client.get_registered_model(model_name).aliases.get("champion", 0))
    seen = standing(store, model_name)
    if shown == seen.champion:
        return {"did": "nothing", "why": f"alias and ledger both say {shown or 'none'}"}
    order = last_order(audit, model_name)
    if not shown or order is None or int(order["version"]) != shown:
        return _put_back(store, model_name, tracking_uri, f"nobody is on record for setting champion to {shown}")
    who = Reviewer(order["user"], f"{REASON} at {order['at']:.0f}", "", service, "mlflow")
    try:
        record = _decide(store, model_name, shown, who, seen, tracking_uri, regate)
    except (Refused, InvalidInput) as no:
        return _put_back(store, model_name, tracking_uri, str(no))
    logger.info("recorded model=%s version=%d reviewer=%s", model_name, shown, order["user"])
    return {"did": "recorded", "why": f"{order['user']} {REASON}", "record": record}


def last_order(audit: Path, model_name: str) -> dict[str, Any] | None:
    """The newest audit line in which somebody set the champion alias of this model."""
    newest = None
    for line in read_lines(audit):
        if (line["method"], line["status"], line.get("name")) != ("POST", 200, model_name):
            continue
        if line["path"].rstrip("/").endswith("/registered-models/alias") and line.get("alias") == "champion":
            newest = line
    return newest


def _decide(
    store: Store,
    model_name: str,
    version: int,
    who: Reviewer,
    seen: Standing,
    tracking_uri: str,
    regate: Regate | None,
) -> dict[str, Any]:
    if seen.states.get(version) == State.RETIRED:
        return rollback(store, model_name, version, who, tracking_uri, seen.champion)
    return promote_as(store, model_name, version, who, tracking_uri, seen.champion, regate)


def _put_back(store: Store, model_name: str, tracking_uri: str, why: str) -> dict[str, Any]:
    found = reconcile(store, model_name, tracking_uri)
    logger.warning("put_back model=%s why=%s", model_name, why)
    return {"did": "put back", "why": why, "found": [finding.as_json() for finding in found]}
