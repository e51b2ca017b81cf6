"""One night: the key that names what decided it, and the decision that was written down under that key."""

import json
import math
from collections.abc import Iterator
from typing import Any

from components.shared.digests import digest_json
from components.shared.memory import code_digest
from components.shared.store import Store


def run_key(dataset_digest: str, made_with: Any) -> str:
    """Name of a night: its data set version, and the settings and the code that decided what it came to.

    Kubeflow turns whole numbers into floats, so 1.0 and 1 are the same here.
    """
    return digest_json({"dataset": dataset_digest, "made_with": whole_numbers(made_with), "code": code_digest()})


def whole_numbers(value: Any) -> Any:
    """`value` with every float that is whole written as an int, at any depth."""
    if isinstance(value, dict):
        return {str(key): whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def decision_name(key: str) -> str:
    """Where the store keeps the decision of the night `key`."""
    return f"runs/{key}/decision.json"


def record_decision(store: Store, key: str, decision: dict) -> None:
    """Write a night's decision; a repeated night writes the same again."""
    store.put(decision_name(key), json.dumps(decision, indent=1, sort_keys=True).encode())


def read_decision(store: Store, key: str) -> dict | None:
    """The decision of the night `key`, None where none was reached."""
    name = decision_name(key)
    return json.loads(store.get(name)) if store.exists(name) else None


def decided_nights(store: Store, model_name: str = "") -> Iterator[dict]:
    """Decisions of all nights of `model_name` (all models when empty), oldest first by `decided_at`."""
    names = [name for name in store.list("runs") if name.count("/") == 2 and name.endswith("/decision.json")]
    decisions = [json.loads(store.get(name)) for name in names]
    mine = [decision for decision in decisions if model_name in ("", decision.get("model_name"))]
    yield from sorted(mine, key=lambda decision: (decision.get("decided_at", ""), decision["run_key"]))
