"""The notify step: one message about how a night ended, recorded, and sent where somebody listens."""

import json
import logging
import urllib.request
from datetime import UTC, datetime
from typing import Any

from components.notify.settings import NotifySettings
from components.shared.digests import digest_json
from components.shared.nights import decided_nights
from components.shared.store import Store

logger = logging.getLogger(__name__)


def send_notice(
    state: str, error_message: str, store: Store, model_name: str, reason: str, settings: NotifySettings
) -> None:
    """Log the notice, keep it in the store under runs/notices/, and call the webhook where one is set.

    An ear that does not listen is logged, never raised: a night does not fail because of its message.
    """
    notice = compose(state, error_message, store, model_name, reason)
    logger.info("notice state=%s model=%s text=%r", state, model_name, notice["text"])
    store.put_new(_name(notice), json.dumps(notice, indent=1, sort_keys=True).encode())
    if settings.webhook_url:
        _post(notice, settings)


def compose(state: str, error_message: str, store: Store, model_name: str, reason: str) -> dict[str, Any]:
    """The notice: state, the newest decision of this model, and one sentence for people."""
    newest = next(iter(reversed(list(decided_nights(store, model_name)))), None)
    text = f"{model_name}: night {state.lower() or 'ended'}"
    text += f" ({reason})" if reason else ""
    if error_message:
        text += f": {error_message}"
    elif newest:
        text += f". Newest decision: {newest['verdict']}: {'; '.join(newest['reasons'])}"
    return {
        "text": text,
        "state": state,
        "error": error_message or "",
        "model_name": model_name,
        "reason": reason,
        "run_key": newest["run_key"] if newest else "",
        "verdict": newest["verdict"] if newest else "",
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _name(notice: dict[str, Any]) -> str:
    return f"runs/notices/{notice['at'].replace(':', '')}-{digest_json(notice)[:12]}.json"


def _post(notice: dict[str, Any], settings: NotifySettings) -> None:
    try:
        request = urllib.request.Request(
            settings.webhook_url,
            data=json.dumps(notice).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "yanshan"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=settings.timeout_s) as answer:
            logger.info("webhook status=%d", answer.status)
    except (OSError, ValueError) as fault:
        logger.warning("webhook failed, the night goes on: %s: %s", type(fault).__name__, fault)
