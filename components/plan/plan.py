"""Is there anything to learn tonight that was not decided before?"""

import json
import logging
from pathlib import Path
from typing import Any

from components.plan.settings import PlanSettings
from components.shared.dataset import DatasetVersion, digest_of, read_dataset, read_rows
from components.shared.errors import InvalidInput
from components.shared.nights import decided_nights, read_decision, run_key
from components.shared.releases import release_of_night
from components.shared.store import Store

logger = logging.getLogger(__name__)


def worth_a_night(
    dataset: Path, store: Store, model_name: str, reason: str, made_with: list[dict[str, Any]], settings: PlanSettings
) -> str:
    """Decide, log why, and record it at `runs/<run key>/plan.json`.

    Args:
        dataset: Folder written by intake.
        store: Where nights and releases are recorded.
        model_name: The model that the night would improve.
        reason: Why the run was started.
        made_with: Settings of the steps that decide what the night comes to.
        settings: How much must be new.

    Returns:
        "train" or "skip".

    Raises:
        InvalidInput: the data set has nothing to train on or to judge with.
    """
    version = read_dataset(store, digest_of(dataset))
    _check(version)
    key = run_key(version.digest, made_with)
    answer, why = _decide(version, key, store, model_name, made_with, settings)
    logger.info("plan answer=%s run_key=%s why=%s", answer, key[:12], why)
    record = {
        "answer": answer, "why": why, "run_key": key, "dataset": version.digest, "model_name": model_name,
        "reason": reason,
    }  # fmt: skip
    store.put(f"runs/{key}/plan.json", json.dumps(record, indent=1, sort_keys=True).encode())
    return answer


def _check(version: DatasetVersion) -> None:
    counts = {name: version.counts[name] for name in ("train", "val", "frozen_test", "boxes")}
    if not all(counts.values()):
        raise InvalidInput(f"data set {version.digest[:12]}: {counts}, expected one of each or more; label more")


def _decide(
    version: DatasetVersion, key: str, store: Store, model_name: str, made_with: list[Any], settings: PlanSettings
) -> tuple[str, str]:
    decision = read_decision(store, key)
    if decision is not None and decision["verdict"] != "approved":
        return "skip", f"this very night was decided before: {decision['verdict']}"
    if decision is not None and release_of_night(store, model_name, key):
        return "skip", "this very night was decided and released before"
    if decision is not None:
        return "train", "this very night was approved before, but not released: carrying on"
    earlier = _last_comparable(store, model_name, made_with)
    if earlier is None:
        return "train", "no night with these settings was decided before"
    new = _new_train_images(store, version, earlier["dataset"])
    if new < settings.min_new_images:
        return "skip", f"{new} new training images since the last decided night, expected {settings.min_new_images}"
    return "train", f"{new} new training images since the last decided night"


def _last_comparable(store: Store, model_name: str, made_with: list[Any]) -> dict[str, Any] | None:
    """The newest decided night of this model that was made with these very settings: only its data set differs."""
    same = [one for one in decided_nights(store, model_name) if one["run_key"] == run_key(one["dataset"], made_with)]
    return same[-1] if same else None


def _new_train_images(store: Store, version: DatasetVersion, earlier: str) -> int:
    """Training images whose row is not in the earlier version: new ones, and old ones labeled anew."""
    if version.digest == earlier:
        return 0
    before = _train_labels(store, read_dataset(store, earlier))
    return len(_train_labels(store, version) - before)


def _train_labels(store: Store, version: DatasetVersion) -> set[tuple[str, str]]:
    rows = read_rows(store, version, "train").select(["image_sha256", "boxes", "class_ids"]).to_pylist()
    return {(row["image_sha256"], repr((row["boxes"], row["class_ids"]))) for row in rows}
