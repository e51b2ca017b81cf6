"""From model files to a verdict, on a small world with planted faults."""

import json
from pathlib import Path

import pytest

from components.approved.approved import answer
from components.judge.judge import judge_night
from components.judge.settings import JudgeSettings
from components.shared.nights import decided_nights, read_decision
from components.shared.store import Store
from tests import block_world

GENTLE = JudgeSettings(min_map_50_95=0.2, min_key_boxes=50, recall_margin=0.05, map_margin=0.02)


@pytest.fixture
def dataset(tmp_path: Path, store: Store) -> Path:
    return block_world.take(tmp_path, store, images=160, sessions=40)


def judge(folder: Path, scores: Path, dataset: Path, store: Store, settings: JudgeSettings, night: int = 1) -> dict:
    summary = judge_night(
        scores, dataset, store, "blocks", [{"night": night}], settings, folder / "decision", folder / "verdict.md"
    )
    decision = json.loads((folder / "decision" / "decision.json").read_text())
    assert decision["verdict"] == summary["verdict"]
    assert read_decision(store, summary["run_key"]) == decision
    assert (answer(folder / "decision") == "yes") is (decision["verdict"] == "approved")
    return decision


def test_a_first_version_meets_floors_only(tmp_path: Path, store: Store, dataset: Path) -> None:
    scores = block_world.evaluate(tmp_path / "night", store, dataset)
    content = json.loads((scores / "scores.json").read_text())
    assert content["first_version"] and content["champion"] is None and content["leaks"] == 0
    assert content["challenger"]["int8"]["slices"]["shift"].keys() == {"day", "night"}
    approved = judge(tmp_path, scores, dataset, store, GENTLE)
    assert approved["verdict"] == "approved" and approved["comparison"] == 0
    refused = judge(tmp_path, scores, dataset, store, GENTLE.changed(min_map_50_95=0.99))
    assert refused["verdict"] == "refused" and "the floor is 0.990" in refused["reasons"][0]


def test_a_better_model_is_approved_and_a_blind_one_refused(tmp_path: Path, store: Store, dataset: Path) -> None:
    block_world.promote(store, "blocks", 1, tmp_path / "champion", blind=(0.3, 0.3, 0.3))
    better = block_world.evaluate(tmp_path / "better", store, dataset, blind=(0.1, 0.1, 0.1))
    decision = judge(tmp_path, better, dataset, store, GENTLE, night=1)
    assert decision["verdict"] == "approved", decision["reasons"]
    blind = block_world.evaluate(tmp_path / "blind", store, dataset, blind=(0.1, 0.1, 0.6))
    decision = judge(tmp_path, blind, dataset, store, GENTLE, night=2)
    assert decision["verdict"] == "refused" and decision["comparison"] == 2
    failed = {rule["rule"] for rule in decision["rules"] if rule["verdict"] == "fail"}
    assert "key_recall:blue" in failed and "key_recall:red" not in failed
    assert len(list(decided_nights(store, "blocks"))) == 2


def test_broken_int8_is_refused_though_its_float_twin_is_good(tmp_path: Path, store: Store, dataset: Path) -> None:
    scores = block_world.evaluate(tmp_path / "night", store, dataset, score_step=0.9)
    decision = judge(tmp_path, scores, dataset, store, GENTLE.changed(min_map_50_95=0.0, min_key_recall=0.0))
    assert decision["verdict"] == "refused"
    assert any("int8 against float" in reason and "quantization broke it" in reason for reason in decision["reasons"])
    float_gate = GENTLE.changed(judged="float")
    failed = {
        rule["rule"]
        for rule in judge(tmp_path, scores, dataset, store, float_gate)["rules"]
        if rule["verdict"] == "fail"
    }
    assert failed and all(rule.startswith("parity:int8") for rule in failed)


def test_a_night_again_is_remembered_and_the_same(tmp_path: Path, store: Store, dataset: Path, caplog) -> None:
    first = block_world.evaluate(tmp_path / "night", store, dataset)
    before = (first / "scores.json").read_bytes()
    decided = judge(tmp_path, first, dataset, store, GENTLE)
    caplog.set_level("INFO", logger="components.shared.memory")
    again = block_world.evaluate(tmp_path / "night", store, dataset)
    assert (again / "scores.json").read_bytes() == before
    assert sum("remembered" in line for line in caplog.messages) == 4
    assert judge(tmp_path, again, dataset, store, GENTLE) == decided
