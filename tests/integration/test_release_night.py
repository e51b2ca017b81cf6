"""The release step on a real registry (SQLite): one run, one version, one bundle."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.release.predict import BoxPredictor
from components.release.release import release_night
from components.release.settings import ReleaseSettings
from components.shared.detection import load_detector
from components.shared.errors import InvalidInput, Refused
from components.shared.releases import bring_release, champion, releases
from tests.registry_workspace import MODEL, RegistryWorkspace
from tests.sample_night import decision, squares_image, write_night


def test_a_night_becomes_a_run_a_version_and_a_bundle(workspace: RegistryWorkspace) -> None:
    record = workspace.release()
    assert record["version"] == 1
    assert json.loads((workspace.root / "record/release.json").read_text()) == record
    (bundle,) = releases(workspace.store, MODEL)
    assert bundle.record["run_key"] == "a" * 64
    with workspace.registry() as client:
        version = client.get_model_version_by_alias(MODEL, "challenger")
        run = client.get_run(version.run_id)
        assert version.tags["promotion.state"] == "challenger"
        assert version.tags["yanshan.run_key"] == "a" * 64
        assert version.tags["yanshan.release_sha256"] == bundle.digest
        assert version.tags["gate/map_floor"] == "pass"
        assert "challenger float" in version.description
        assert run.info.status == "FINISHED"
        assert run.data.metrics["float/map_50_95"] == 0.5
        assert run.data.params["train.epochs"] == "3"
        assert [point.value for point in client.get_metric_history(version.run_id, "training/map_50_95")] == [
            0,
            0.1,
            0.2,
        ]
        assert run.inputs.dataset_inputs[0].dataset.digest == "d" * 36
        assert {file.path for file in client.list_artifacts(version.run_id, "reports")} >= {"reports/evaluation.html"}


def test_the_registered_files_are_the_judged_bytes(workspace: RegistryWorkspace) -> None:
    workspace.release()
    with workspace.registry() as client:
        import mlflow

        folder = Path(
            mlflow.artifacts.download_artifacts(f"models:/{MODEL}@challenger", dst_path=str(workspace.root / "got"))
        )
        assert client.get_registered_model(MODEL).aliases == {"challenger": 1}
    for name, artifact in (("model.onnx", "onnx_model"), ("model.int8.qdq.onnx", "int8_model")):
        assert (folder / name).read_bytes() == (workspace.root / "nights/a" / artifact / name).read_bytes()


def test_the_same_night_twice_is_one_version(workspace: RegistryWorkspace) -> None:
    first, again = workspace.release(), workspace.release()
    assert again == first
    other = workspace.release("b")
    assert other["version"] == 2
    assert workspace.release()["version"] == 1
    with workspace.registry() as client:
        assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2
        assert client.get_registered_model(MODEL).aliases == {"challenger": 2}


def test_a_night_that_was_refused_is_not_released(workspace: RegistryWorkspace) -> None:
    paths = write_night(workspace.root / "night")
    refused = decision(paths["scores"], "a" * 64, MODEL) | {"verdict": "refused"}
    (paths["decision"] / "decision.json").write_text(json.dumps(refused))
    store = workspace.store
    with pytest.raises(Refused, match="verdict is 'refused'"):
        release_night(paths, store, MODEL, ReleaseSettings(), workspace.root / "record")
    assert releases(store, MODEL) == []


@pytest.mark.parametrize(
    "missing", ["models", "scores/scores.json", "engines", "calibration.html", "decision/decision.json"]
)
def test_a_missing_artifact_is_named_before_anything_is_registered(workspace: RegistryWorkspace, missing: str) -> None:
    paths = write_night(workspace.root / "night")
    target = paths["onnx_model"] if missing == "models" else workspace.root / "night" / missing
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(InvalidInput, match=r"missing|empty"):
        release_night(paths, workspace.store, MODEL, ReleaseSettings(), workspace.root / "record")
    with workspace.registry() as client:
        assert client.search_registered_models() == []


def test_artifacts_of_two_data_sets_are_not_released_as_one(workspace: RegistryWorkspace) -> None:
    paths = write_night(workspace.root / "night")
    other = write_night(workspace.root / "other", dataset="9" * 64)
    with pytest.raises(InvalidInput, match="expected one data set"):
        release_night(
            paths | {"dataset": other["dataset"]},
            workspace.store,
            MODEL,
            ReleaseSettings(),
            workspace.root / "record",
        )


def test_a_promotion_writes_one_record_and_the_alias_follows(workspace: RegistryWorkspace) -> None:
    store = workspace.store
    workspace.release()
    record = workspace.promote(1, expect_champion=0)
    assert (record["seq"], record["champion"], record["champion_before"], record["actor"]) == (1, 1, 0, "anna")
    assert champion(store, MODEL).version == 1
    with workspace.registry() as client:
        assert client.get_registered_model(MODEL).aliases == {"champion": 1}
        assert client.get_model_version(MODEL, "1").tags["promotion.state"] == "champion"
    workspace.release("b", champion=1)
    workspace.promote(2, expect_champion=1)
    with workspace.registry() as client:
        assert client.get_registered_model(MODEL).aliases == {"champion": 2}
        assert client.get_model_version(MODEL, "1").tags["promotion.state"] == "retired"


def test_a_promotion_on_a_stale_view_changes_nothing(workspace: RegistryWorkspace) -> None:
    store = workspace.store
    workspace.release()
    workspace.promote(1)
    workspace.release("b")
    with pytest.raises(Refused, match="the champion is version 1, you expected 0"):
        workspace.promote(2, "bob", expect_champion=0)
    assert champion(store, MODEL).version == 1
    with pytest.raises(InvalidInput, match="no whole version 7"):
        workspace.promote(7)
    with pytest.raises(InvalidInput, match="needs a reviewer and a reason"):
        workspace.promote(2, reason=" ")


def test_the_registry_s_model_predicts_the_boxes_that_were_judged(workspace: RegistryWorkspace) -> None:
    import mlflow

    workspace.release()
    workspace.promote(1)
    image = squares_image()
    with workspace.registry():
        model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    for precision, file in (("float", "model.onnx"), ("int8", "model.int8.qdq.onnx")):
        boxes = model.predict(image, params={"precision": precision, "min_score": 0.5})
        part = bring_release(workspace.store, champion(workspace.store, MODEL), workspace.root / "brought", "models")
        (expected,) = load_detector(part / "models" / file).detect([image], min_score=0.5)
        assert list(boxes["class_name"]) == ["red", "green", "blue"]
        np.testing.assert_array_equal(boxes[["x0_px", "y0_px", "x1_px", "y1_px"]], expected.xyxy_px)
        np.testing.assert_array_equal(boxes["score"], expected.scores)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, -1, 3)
    assert len(model.predict(model.input_example)) >= 0


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_what_is_no_image_is_refused_with_what_was_expected(image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected uint8"):
        BoxPredictor(tmp_path).predict(image)
