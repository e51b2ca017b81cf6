"""From model files to a verdict, on a small world with planted faults."""

import json
from pathlib import Path

import pytest

from components.approved.approved import answer
from components.evaluate.evaluate import evaluate_night
from components.evaluate.settings import EvaluateSettings
from components.judge.judge import judge_night
from components.judge.settings import JudgeSettings
from components.shared.errors import InvalidInput
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
    assert (answer(folder / "decision") == "yes") is (decision["verdict"] != "refused")
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


def test_a_champion_without_its_files_is_an_error_and_no_first_version(
    tmp_path: Path, store: Store, dataset: Path
) -> None:
    block_world.promote(store, "blocks", 1, tmp_path / "champion")
    (Path(store.uri.removeprefix("file://")) / "releases/blocks/1/models/model.onnx").unlink()
    with pytest.raises(InvalidInput, match=r"releases/blocks/1/models/model\.onnx"):
        block_world.evaluate(tmp_path / "night", store, dataset)
    assert not (tmp_path / "night" / "scores").exists(), "nothing half-written"


def test_an_engine_is_measured_beside_the_file_it_came_from(tmp_path: Path, store: Store, dataset: Path) -> None:
    import openvino

    block_world.evaluate(tmp_path / "night", store, dataset)
    engine = tmp_path / "night" / "engines" / "openvino-int8"
    graph = openvino.convert_model(block_world.write_detector(tmp_path / "m.onnx", score_step=1 / 255))
    openvino.save_model(graph, engine / "model.xml", compress_to_fp16=False)
    facts = {"file": "model.xml", "size_bytes": 1234, "latency_ms": {"p50": 1.5, "p95": 2.0, "how": "here"}}
    (engine / "target.json").write_text(json.dumps(facts))
    night = tmp_path / "night"
    headline = evaluate_night(
        night / "onnx", night / "int8", night / "engines", dataset, store, "blocks",
        EvaluateSettings(resamples=200), night / "scores", night / "report.html",
    )  # fmt: skip
    scores = json.loads((night / "scores" / "scores.json").read_text())
    measured, twin = scores["engines"]["openvino-int8"], scores["challenger"]["int8"]
    assert measured["map_50_95"] == pytest.approx(twin["map_50_95"], abs=0.02)
    assert (twin["latency_ms"], twin["size_bytes"], twin["latency_how"]) == (1.5, 1234, "here")
    assert headline["challenger_int8_latency_ms"] == 1.5
    decision = judge(tmp_path, night / "scores", dataset, store, GENTLE)
    assert any(rule["rule"] == "parity:openvino-int8" for rule in decision["rules"])


def test_the_report_is_one_page_that_needs_nothing_else(tmp_path: Path, store: Store, dataset: Path) -> None:
    block_world.promote(store, "blocks", 1, tmp_path / "champion", blind=(0.3, 0.1, 0.1), seed=1)
    scores = block_world.evaluate(tmp_path / "night", store, dataset, num_pictures=3)
    judge(tmp_path, scores, dataset, store, GENTLE)
    report = (tmp_path / "decision" / "report.html").read_text()
    assert len(report) < 5_000_000 and report.count("data:image/jpeg") == 9
    for outside in ("<script", "<link", "http://", 'src="http', "@import"):
        assert outside not in report.replace("http://www.w3.org", ""), outside
    for told in (
        "Lost since the champion",
        "Worst misses",
        "Worst false alarms",
        "wrong class",
        "surely between",
        "cam0",
    ):
        assert told in report
    assert (tmp_path / "night" / "report.html").read_text() == (scores / "report.html").read_text()
