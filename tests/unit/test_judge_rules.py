"""Each rule of the gate, on evidence made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.judge.evidence import Evidence, read_evidence
from components.judge.judge import comparison_number, decide
from components.judge.settings import JudgeSettings
from components.judge.words import verdict_page
from components.shared.errors import InvalidInput
from components.shared.nights import record_decision
from components.shared.store import Store

CLASSES = ("bolt", "nut")
FAIR = JudgeSettings(recall_margin=0.03, map_margin=0.01, min_key_boxes=100)


def entry(map_50_95: float, recalls: tuple[float, float], boxes: int = 900, slices: float = 0.5, **facts: Any) -> dict:
    """One model's part of scores.json."""
    return {
        "map_50_95": map_50_95,
        "per_class": {name: {"recall": recall, "boxes": boxes} for name, recall in zip(CLASSES, recalls, strict=True)},
        "slices": {"shift": {"night": {"map_50_95": slices, "boxes": 300, "groups": 30}}},
        "size_bytes": 4_000_000, "latency_ms": 5.0, "latency_how": "onnx, 2 threads",
    } | facts  # fmt: skip


def evidence(
    challenger: dict, champion: dict | None, noise: float = 0.004, float_twin: dict | None = None, leaks: int = 0
):
    """Redraws around the numbers of each model; what is common to all of them cancels out."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.03, 4000)
    models = {"challenger.int8": challenger, "challenger.float": float_twin or challenger}
    models |= {"champion.int8": champion, "champion.float": champion} if champion else {}
    resamples = {}
    for name, one in models.items():
        own = rng.normal(0, noise if name != "challenger.float" or float_twin else 0, 4000)
        own = (
            own
            if float_twin or not name.startswith("challenger")
            else rng.normal(0, 1e-9, 4000) + resamples.get("own", 0)
        )
        resamples[f"{name}.map_50_95"] = one["map_50_95"] + common + own
        recalls = [side["recall"] for side in one["per_class"].values()]
        spread = rng.normal(0, noise * 2, (4000, 2)) * (name.startswith("champion") or bool(float_twin))
        resamples[f"{name}.recall"] = np.array(recalls) + common[:, None] + spread
        resamples[f"{name}.slice.shift.night"] = one["slices"]["shift"]["night"]["map_50_95"] + common + own
    twin = float_twin or challenger
    loss = {"map_50_95": {"value": challenger["map_50_95"] - twin["map_50_95"]}}
    loss["recall"] = {
        name: {"value": challenger["per_class"][name]["recall"] - twin["per_class"][name]["recall"]} for name in CLASSES
    }
    scores = {
        "dataset": "d", "test_set": "main@v1", "test_digest": "t", "class_names": list(CLASSES), "leaks": leaks,
        "first_version": champion is None, "champion_version": 7 if champion else None,
        "challenger": {"int8": challenger, "float": twin}, "parity": {"int8": loss},
        "champion": {"int8": champion, "float": champion} if champion else None,
    }  # fmt: skip
    return Evidence(scores, resamples, "int8", CLASSES)


BEFORE = entry(0.50, (0.80, 0.80))


def rules(decision: dict, verdict: str) -> set[str]:
    return {rule["rule"] for rule in decision["rules"] if rule["verdict"] == verdict}


def test_a_model_that_is_surely_better_is_approved() -> None:
    decision = decide(evidence(entry(0.53, (0.82, 0.81)), BEFORE), FAIR, night=3)
    assert decision["verdict"] == "approved" and decision["reasons"] == ["every rule holds"]
    assert "map_better" in rules(decision, "pass") and decision["comparison"] == 3


def test_a_gain_that_could_be_luck_is_none_and_less_so_the_later_the_night() -> None:
    slightly = evidence(entry(0.51, (0.80, 0.80)), BEFORE)
    assert decide(slightly, FAIR, night=1)["verdict"] == "approved"
    late = decide(slightly, FAIR, night=60)
    assert late["verdict"] == "refused" and rules(late, "fail") == {"map_better"}
    assert decide(slightly, FAIR.changed(require="not_worse"), night=60)["verdict"] == "approved"


def test_a_key_class_that_surely_lost_recall_refuses_a_better_model() -> None:
    decision = decide(evidence(entry(0.55, (0.70, 0.85)), BEFORE), FAIR, night=1)
    assert decision["verdict"] == "refused" and rules(decision, "fail") == {"key_recall:bolt"}
    assert "recall of bolt changed by -10.0 points" in decision["reasons"][0]
    others = FAIR.changed(key_classes=["nut"])
    told = Evidence(**(vars(evidence(entry(0.55, (0.70, 0.85)), BEFORE)) | {"key_classes": ("nut",)}))
    assert decide(told, others, night=1)["verdict"] == "approved"


def test_what_the_test_set_cannot_tell_is_a_reviewers_question() -> None:
    unsure = evidence(entry(0.60, (0.79, 0.80)), BEFORE, noise=0.02)
    decision = decide(unsure, FAIR, night=1)
    assert decision["verdict"] == "undecided" and "key_recall:bolt" in rules(decision, "undecided")
    assert "the test set cannot tell. Need about" in decision["reasons"][0]
    assert "more boxes of class bolt" in decision["reasons"][0]
    assert decide(unsure, FAIR.changed(when_unresolved="pass"), night=1)["verdict"] == "approved"


def test_too_few_boxes_say_how_many_more() -> None:
    few = [entry(value, (0.8, 0.8), boxes=40) for value in (0.55, 0.50)]
    decision = decide(evidence(*few), FAIR, night=1)
    assert decision["verdict"] == "undecided"
    assert decision["reasons"][0] == "the test set holds 40 boxes of bolt: need 60 more boxes of class bolt."


def test_a_leak_and_a_floor_refuse_even_a_first_version() -> None:
    good = entry(0.53, (0.82, 0.81))
    assert decide(evidence(good, None), FAIR, night=1)["verdict"] == "approved"
    assert rules(decide(evidence(good, None, leaks=2), FAIR, night=1), "fail") == {"leaks"}
    poor = decide(evidence(entry(0.2, (0.82, 0.1)), None), FAIR, night=1)
    assert rules(poor, "fail") == {"map_floor", "recall_floor:nut"}
    assert "nut is 0.100, the floor is 0.300" in poor["reasons"][1]


def test_quantization_that_breaks_a_class_is_said_first() -> None:
    broken = evidence(entry(0.45, (0.82, 0.40)), BEFORE, float_twin=entry(0.55, (0.82, 0.82)))
    decision = decide(broken, FAIR, night=1)
    assert decision["verdict"] == "refused"
    assert decision["reasons"][0].startswith("int8 against float: mAP changed by -10.0 points")
    assert "parity:int8:nut" in rules(decision, "fail") and "parity:int8:bolt" not in rules(decision, "fail")


def test_a_slice_that_surely_lost_asks_for_a_waiver_unless_it_is_too_small() -> None:
    worse = entry(0.55, (0.82, 0.81), slices=0.40)
    decision = decide(evidence(worse, BEFORE), FAIR, night=1)
    assert decision["verdict"] == "undecided" and "needs a reviewer's waiver" in decision["reasons"][0]
    for fact, value in (("boxes", 20), ("groups", 2)):
        small = entry(0.55, (0.82, 0.81), slices=0.40)
        small["slices"]["shift"]["night"][fact] = value
        decision = decide(evidence(small, BEFORE), FAIR, night=1)
        assert decision["verdict"] == "approved" and "slice:shift=night" in rules(decision, "noted")


def test_budgets_refuse_what_is_too_large_or_too_slow() -> None:
    slow = evidence(entry(0.55, (0.82, 0.81), latency_ms=9.0), BEFORE)
    assert rules(decide(slow, FAIR, night=1), "fail") == {"latency_ratio"}
    assert decide(slow, FAIR.changed(max_latency_ratio=0.0), night=1)["verdict"] == "approved"
    elsewhere = evidence(entry(0.55, (0.82, 0.81), latency_ms=9.0, latency_how="another machine"), BEFORE)
    assert "latency_ratio" in rules(decide(elsewhere, FAIR, night=1), "noted")
    strict = FAIR.changed(max_size_bytes=3_000_000, max_latency_ms=4.0)
    same = evidence(entry(0.55, (0.82, 0.81)), BEFORE)
    assert rules(decide(same, strict, night=1), "fail") == {"size", "latency"}


def test_luck_is_counted_over_the_nights_on_one_test_set(store: Store) -> None:
    for number, (test_digest, first) in enumerate([("t", True), ("t", False), ("t", False), ("u", False)]):
        key = f"{number:064d}"
        record_decision(
            store, key, {"run_key": key, "model_name": "m", "test_digest": test_digest, "first_version": first}
        )
    assert comparison_number(store, "m", "t", "f" * 64) == 3
    assert comparison_number(store, "m", "t", f"{1:064d}") == 2, "the same night again spends nothing"
    assert comparison_number(store, "m", "v", "f" * 64) == comparison_number(store, "other", "t", "f" * 64) == 1


def write_scores(folder: Path, boxes: int) -> Path:
    scores = evidence(entry(0.5, (0.8, 0.8), boxes=900), None).scores
    scores["challenger"]["int8"]["per_class"]["nut"]["boxes"] = boxes
    (folder / "scores.json").write_text(json.dumps(scores))
    np.savez(folder / "resamples.npz", **{"challenger.int8.map_50_95": np.zeros(3)})
    return folder


def test_a_key_class_without_a_box_is_an_error_with_the_fix(tmp_path: Path) -> None:
    folder = write_scores(tmp_path, boxes=0)
    with pytest.raises(InvalidInput, match=r"no box of key class 'nut': label some .* or take the class out"):
        read_evidence(folder, JudgeSettings(key_classes=("bolt", "nut")))
    with pytest.raises(InvalidInput, match=r"\['cup'\] are not among the measured classes"):
        read_evidence(folder, JudgeSettings(key_classes=("cup",)))
    assert read_evidence(folder, JudgeSettings()).key_classes == ("bolt",)


def test_the_verdict_stands_on_top_of_the_report() -> None:
    decision = decide(evidence(entry(0.55, (0.70, 0.85)), BEFORE), FAIR, night=1)
    whole = verdict_page(decision, "<h1>Evaluation</h1><!-- verdict --><p>numbers</p>")
    assert whole.index("Refused: this model") < whole.index("<p>numbers</p>")
    assert "recall of bolt changed by -10.0 points" in whole and whole.count("<svg") > 5
    alone = verdict_page(decision | {"reasons": ["<script>alert(1)</script>"]}, "")
    assert "<script>" not in alone and "&lt;script&gt;" in alone
