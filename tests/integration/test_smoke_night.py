"""The smoke night: every step really runs, from the compiled pipeline, on an export made by hand."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.releases import releases
from components.shared.store import open_store
from pipelines.local import open_workspace, run_night
from pipelines.outcome import Outcome
from pipelines.recipes import find_recipe
from tests.hand_export import SHAPES, write_export

ROOT = Path(__file__).resolve().parents[2]
Night = Callable[..., Outcome]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    write_export(folder / "inbox" / "batch")
    return folder


@pytest.fixture(scope="module")
def night(place: Path) -> Night:
    def run(**changes: object) -> Outcome:
        recipe = find_recipe("smoke", changes)
        return run_night(recipe, (place / "inbox").as_uri(), open_workspace(place / "workspace"))

    return run


@pytest.fixture(scope="module")
def refused(night: Night) -> Outcome:
    return night(**{"judge.min_map_50_95": 0.999})


@pytest.fixture(scope="module")
def released(night: Night, refused: Outcome) -> Outcome:
    return night()


def test_a_refused_night_names_its_reason_and_registers_nothing(refused: Outcome) -> None:
    assert refused.ended == "refused"
    assert any("0.999" in reason for reason in refused.reasons)
    # Ask the disk, not the run status: the local runner also says SUCCESS for steps it skipped.
    assert not list(Path(refused.folder).glob("**/release-model/*"))
    assert list(Path(refused.folder).glob("**/notify-people/executor_output.json"))


def test_a_released_night_leaves_a_version_and_its_bundle(released: Outcome, place: Path) -> None:
    assert released.ended == "released" and released.version == 1
    assert list(Path(released.folder).glob("**/release-model/executor_output.json"))
    store = open_store((place / "workspace" / "store").as_uri())
    (release,) = releases(store, released.model_name)
    names = {name.removeprefix(f"{release.prefix}/") for name in store.list(release.prefix)}
    assert {"release.json", "checkpoint/model.pt", "models/model.onnx", "models/model.int8.qdq.onnx"} <= names
    assert any(name.endswith("target.json") for name in names)


def test_mlflow_holds_the_version_as_challenger(released: Outcome, place: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'workspace' / 'mlflow.db'}")
    version = client.get_model_version_by_alias(released.model_name, "challenger")
    assert int(version.version) == released.version


def test_what_the_refused_night_had_done_is_not_paid_for_again(refused: Outcome, released: Outcome) -> None:
    assert "epoch=1/1" in (Path(refused.folder) / "run.log").read_text()
    log = (Path(released.folder) / "run.log").read_text()
    assert "epoch=" not in log
    for step in ("augment", "train", "export", "calibrate", "build_engine"):
        assert f"step={step} remembered" in log


def test_scores_hold_float_and_int8(released: Outcome) -> None:
    scores = json.loads((Path(released.artifacts["scores"]) / "scores.json").read_text())
    assert scores["class_names"] == list(SHAPES)
    for precision in ("float", "int8"):
        assert 0 <= scores["challenger"][precision]["map_50_95"] <= 1
        assert scores["challenger"][precision]["size_bytes"] > 10_000


def test_the_confusion_matrix_is_drawn_by_the_kfp_ui(released: Outcome) -> None:
    (output,) = Path(released.folder).glob("nightly-retrain-*/evaluate-models/executor_output.json")
    confusion = json.loads(output.read_text())["artifacts"]["confusion"]["artifacts"][0]["metadata"]
    categories = [one["displayName"] for one in confusion["confusionMatrix"]["annotationSpecs"]]
    assert categories == [*SHAPES, "nothing"]
    assert len(confusion["confusionMatrix"]["rows"]) == len(categories)


def test_every_artifact_lies_where_the_outcome_says(released: Outcome) -> None:
    expected = "dataset intake_report training_set augment_report checkpoint training_report onnx_model int8_model"
    expected += " calibration_report engines scores evaluation_report decision verdict release_record"
    assert set(expected.split()) <= set(released.artifacts)
    assert all(Path(released.artifacts[name]).exists() for name in expected.split())


def test_a_night_with_nothing_new_is_skipped(night: Night, released: Outcome) -> None:
    again = night()
    assert again.ended == "skipped"
    assert set(again.seconds) == {"intake-labels", "plan-night", "notify-people"}


def test_a_bad_inbox_ends_before_anything_is_trained(place: Path) -> None:
    (place / "empty").mkdir()
    command = [sys.executable, "-m", "pipelines", "run", "smoke", "--inbox", str(place / "empty")]
    command += ["--workspace", str(place / "other")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "intake-labels" in done.stderr and "log:" in done.stderr and "carry on:" in done.stderr
    assert "train-detector" not in done.stderr
