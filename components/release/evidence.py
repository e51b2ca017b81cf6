"""What a reviewer looks at before deciding: the versions, one version in full, and what happened so far."""

import json
from typing import Any

from components.release.states import Standing, standing, waived_gates
from components.shared.errors import InvalidInput
from components.shared.releases import Release
from components.shared.store import Store

MEASURES = ("map_50_95", "map_50", "map_75", "ar_100", "size_bytes", "latency_ms")


def versions(store: Store, model_name: str) -> list[dict[str, Any]]:
    """One line a version, newest first.

    Raises:
        InvalidInput: nothing was ever released under this name.
    """
    seen = standing(store, model_name)
    if not seen.releases:
        raise InvalidInput(f"{store.uri}: no version of {model_name!r} was released; expected another --model or store")
    return [_line(release, seen) for release in reversed(seen.releases)]


def evidence(store: Store, model_name: str, version: int) -> dict[str, Any]:
    """Everything about one version: state, decision, scores beside the champion's, change in data, reports.

    Raises:
        InvalidInput: there is no such version.
    """
    seen = standing(store, model_name)
    release = find(seen, store, model_name, version)
    scores = _json(store, release, "scores/scores.json")
    return {
        **_line(release, seen),
        "champion": seen.champion,
        "run_key": release.record["run_key"],
        "author": release.record["author"],
        "decision": _json(store, release, "decision/decision.json"),
        "scores": {kind: {key: one.get(key) for key in MEASURES} for kind, one in scores["challenger"].items()},
        "recall": {name: _recalls(scores["challenger"], name) for name in scores["class_names"]},
        "compared_with": scores.get("champion_version") or 0,
        "champion_scores": {
            kind: {key: one.get(key) for key in MEASURES} for kind, one in (scores.get("champion") or {}).items()
        },
        "champion_recall": {name: _recalls(scores.get("champion") or {}, name) for name in scores["class_names"]},
        "differences": scores.get("differences") or {},
        "slices": {kind: one.get("slices", {}) for kind, one in scores["challenger"].items()},
        "data": data_change(store, seen, release),
        "decisions": [record.body for record in seen.records if record.body["version"] == version],
        "bundle": f"{store.uri}/{release.prefix}",
        "reports": [file["path"] for file in release.record["files"] if file["path"].startswith("reports/")],
        "models": [file for file in release.record["files"] if file["path"].startswith(("models/", "engines/"))],
    }


def find(seen: Standing, store: Store, model_name: str, version: int) -> Release:
    """The whole bundle of `version`.

    Raises:
        InvalidInput: there is none.
    """
    for release in seen.releases:
        if release.version == version:
            return release
    known = ", ".join(str(release.version) for release in seen.releases) or "none"
    raise InvalidInput(f"{store.uri}: {model_name} has no whole version {version}; released versions: {known}")


def data_change(store: Store, seen: Standing, release: Release) -> dict[str, Any]:
    """Counts of the version's data set beside those of the champion's."""
    now = _json(store, release, "dataset/dataset.json")
    before: dict[str, Any] = {}
    if seen.champion and seen.champion != release.version:
        before = _json(store, find(seen, store, release.model_name, seen.champion), "dataset/dataset.json")
    return {
        "dataset": now["digest"],
        "champion_dataset": before.get("digest", ""),
        "counts": now.get("counts", {}),
        "champion_counts": before.get("counts", {}),
    }


def _line(release: Release, seen: Standing) -> dict[str, Any]:
    summary = release.record["scores_summary"]
    return {
        "version": release.version,
        "state": str(seen.states[release.version]),
        "verdict": release.record["verdict"],
        "open_rules": [rule for rule in release.open_rules if rule not in waived_gates(seen.records, release)],
        "map_50_95": summary["float"]["map_50_95"],
        "map_50_95_int8": summary["int8"]["map_50_95"],
        "dataset": release.record["dataset"],
    }


def _recalls(models: dict[str, Any], name: str) -> dict[str, Any]:
    return {kind: one.get("per_class", {}).get(name, {}).get("recall") for kind, one in models.items()}


def _json(store: Store, release: Release, path: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(store.get(f"{release.prefix}/{path}"))
    return value
