"""`yanshan check` says what the test set can decide."""

from pathlib import Path

import pytest

from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.store import Store
from pipelines import preflight
from pipelines.recipes import demo
from pipelines.resolution import what_the_gate_can_decide
from tests import block_world


@pytest.fixture
def filled(tmp_path: Path, store: Store) -> Store:
    export = block_world.write_export(tmp_path / "inbox" / "export", images=60, sessions=30)
    settings = IntakeSettings(test_share=0.5, group_by=("session",))
    take_in(export.parent.as_uri(), store, settings, tmp_path / "dataset", tmp_path / "intake.html")
    return store


def test_each_class_is_told_what_its_boxes_can_hold(filled: Store) -> None:
    recipe = demo()
    recipe = recipe.changed(judge=recipe.judge.changed(min_key_boxes=5, recall_margin=0.02).model_dump())
    told = what_the_gate_can_decide(recipe, filled.uri)
    assert told.count("can hold a recall margin of") == 3
    assert "the rule asks for 2.0: need" in told and "more boxes of class red" in told
    (finding,) = [one for one in preflight.look_here(recipe, "", filled.uri, "", Path()) if one.what == "test set"]
    assert finding.verdict == "ok" and finding.told == told


def test_too_few_boxes_of_a_key_class_are_told_first(filled: Store) -> None:
    recipe = demo()
    recipe = recipe.changed(judge=recipe.judge.changed(min_key_boxes=10_000, key_classes=["green"]).model_dump())
    first, second = what_the_gate_can_decide(recipe, filled.uri).split("; ", 1)
    assert first.startswith("need 9") and first.endswith("more boxes of class green to judge at all")
    assert second.startswith("green: ") and "red" not in second


def test_before_the_first_intake_nothing_is_known(store: Store) -> None:
    assert what_the_gate_can_decide(demo(), store.uri) == ""
    findings = {one.what: one for one in preflight.look_here(demo(), "", store.uri, "", Path())}
    assert findings["test set"].verdict == "unknown"
