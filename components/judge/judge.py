"""The judge step: rules over the evidence, one verdict, and a record of why."""

import json
import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.judge.evidence import Evidence, read_evidence
from components.judge.rules import Ruling, all_rulings
from components.judge.settings import JudgeSettings
from components.judge.words import verdict_markdown, verdict_page
from components.shared.dataset import digest_of
from components.shared.nights import decided_nights, read_decision, record_decision, run_key
from components.shared.store import Store

logger = logging.getLogger(__name__)
MOST_REASONS = 12


def judge_night(
    scores_folder: Path,
    dataset_folder: Path,
    store: Store,
    model_name: str,
    made_with: list[dict[str, Any]],
    settings: JudgeSettings,
    decision_folder: Path,
    verdict_path: Path,
) -> dict[str, str | float]:
    """Decide, write decision.json, the report with its verdict and the verdict for people; record the decision.

    Returns:
        Verdict and reasons, flat.

    Raises:
        InvalidInput: no scores, or a key class that the test set cannot speak about.
    """
    evidence = read_evidence(scores_folder, settings)
    key = run_key(digest_of(dataset_folder), made_with)
    night = comparison_number(store, model_name, evidence.scores["test_digest"], key)
    decision = decide(evidence, settings, night) | {
        "run_key": key,
        "model_name": model_name,
        "decided_at": _first_decided(store, key),
    }
    report = scores_folder / "report.html"
    whole = verdict_page(decision, report.read_text(encoding="utf-8") if report.is_file() else "")
    text = json.dumps(decision, indent=1, allow_nan=False)
    _write_folder(decision_folder, {"decision.json": text, "report.html": whole})
    verdict_path.parent.mkdir(parents=True, exist_ok=True)
    verdict_path.write_text(verdict_markdown(decision), encoding="utf-8")
    record_decision(store, key, decision)
    logger.info("verdict=%s run_key=%s reasons=%s", decision["verdict"], key[:12], json.dumps(decision["reasons"]))
    return {"verdict": decision["verdict"], "run_key": key, "reasons": "; ".join(decision["reasons"])}


def decide(evidence: Evidence, settings: JudgeSettings, night: int) -> dict[str, Any]:
    """The decision on this evidence: refused when a rule failed, undecided when one cannot tell, else approved."""
    rulings = all_rulings(evidence, settings, night)
    verdict = _verdict(rulings)
    return {
        "verdict": verdict,
        "reasons": _reasons(rulings, verdict, evidence),
        "rules": [_plain(ruling) for ruling in rulings],
        "dataset": evidence.scores["dataset"],
        "test_set": evidence.scores["test_set"],
        "test_digest": evidence.scores["test_digest"],
        "first_version": evidence.first_version,
        "champion_version": evidence.scores["champion_version"],
        "comparison": 0 if evidence.first_version else night,
        "settings": settings.model_dump(mode="json"),
    }


def comparison_number(store: Store, model_name: str, test_digest: str, key: str) -> int:
    """How many challengers met a champion on this test set, this one included: each one spends luck."""
    earlier = {
        decision["run_key"]
        for decision in decided_nights(store, model_name)
        if decision.get("test_digest") == test_digest and not decision.get("first_version")
    }
    return len(earlier | {key})


def _verdict(rulings: list[Ruling]) -> str:
    found = {ruling.verdict for ruling in rulings}
    return "refused" if "fail" in found else "undecided" if "undecided" in found else "approved"


def _reasons(rulings: list[Ruling], verdict: str, evidence: Evidence) -> list[str]:
    if verdict == "approved":
        return ["first version: the floors hold" if evidence.first_version else "every rule holds"]
    asked = "fail" if verdict == "refused" else "undecided"
    said = [ruling.sentence for ruling in rulings if ruling.verdict == asked]
    rest = len(said) - MOST_REASONS
    return said if rest <= 0 else [*said[:MOST_REASONS], f"and {rest} rules more, see the table."]


def _plain(ruling: Ruling) -> dict[str, Any]:
    """JSON has no NaN."""
    entry = ruling.as_json()
    entry["interval"] = [round(value, 6) if value == value else 0.0 for value in map(float, entry["interval"])]
    return entry | {"number": round(float(ruling.number), 6), "threshold": float(ruling.threshold)}


def _first_decided(store: Store, key: str) -> str:
    """A repeated night keeps the time of its first decision."""
    before = read_decision(store, key)
    return before["decided_at"] if before else datetime.now(UTC).isoformat(timespec="milliseconds")


def _write_folder(folder: Path, files: dict[str, str]) -> None:
    beside = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, text in files.items():
        (beside / name).write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
