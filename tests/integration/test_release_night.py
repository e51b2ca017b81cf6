"""The release step on a real registry (SQLite): one run, one version, one bundle."""

import json
import shutil
from pathlib import Path

import pytest

from components.release.promotion import promote
from components.release.registry import open_registry
from components.release.release import release_night
from components.release.settings import ReleaseSettings
from components.shared.errors import InvalidInput, Refused
from components.shared.releases import champion, releases
from components.shared.store import open_store
from tests.sample_night import decision, write_night

MODEL = "parts"


@pytest.fixture(scope="session")
def fresh_registry(tmp_path_factory) -> Path:
    """A migrated, empty database: seconds to make, so made once and copied."""
    database = tmp_path_factory.mktemp("registry") / "mlflow.db"
    with open_registry(f"sqlite:///{database}"):
        return database


@pytest.fixture
def workspace(tmp_path: Path, fresh_registry: Path, monkeypatch) -> Path:
    shutil.copyfile(fresh_registry, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def release(workspace: Path, run_key: str = "a" * 64, **changes) -> dict:
    folder = workspace / "nights" / run_key[:4]
    shutil.rmtree(folder, ignore_errors=True)
    paths = write_night(folder, run_key=run_key, **changes)
    store = open_store((workspace / "store").as_uri())
    return release_night(paths, store, MODEL, ReleaseSettings(author="nightly"), workspace / "record")


def registry(workspace: Path):
    return open_registry(f"sqlite:///{workspace / 'mlflow.db'}")


def test_a_night_becomes_a_run_a_version_and_a_bundle(workspace: Path) -> None:
    record = release(workspace)
    assert record["version"] == 1
    assert json.loads((workspace / "record/release.json").read_text()) == record
    (bundle,) = releases(open_store((workspace / "store").as_uri()), MODEL)
    assert bundle.record["run_key"] == "a" * 64
    with registry(workspace) as client:
        version = client.get_model_version_by_alias(MODEL, "challenger")
        run = client.get_run(version.run_id)
        assert version.tags["promotion.state"] == "challenger"
        assert version.tags["yanshan.run_key"] == "a" * 64
        assert "| challenger float |" in version.description
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


def test_the_registered_files_are_the_judged_bytes(workspace: Path) -> None:
    release(workspace)
    with registry(workspace) as client:
        import mlflow

        folder = Path(
            mlflow.artifacts.download_artifacts(f"models:/{MODEL}@challenger", dst_path=str(workspace / "got"))
        )
        assert client.get_registered_model(MODEL).aliases == {"challenger": 1}
    for name, artifact in (("model.onnx", "onnx_model"), ("model.int8.qdq.onnx", "int8_model")):
        assert (folder / name).read_bytes() == (workspace / "nights/aaaa" / artifact / name).read_bytes()


def test_the_same_night_twice_is_one_version(workspace: Path) -> None:
    first, again = release(workspace), release(workspace)
    assert again == first
    other = release(workspace, "b" * 64)
    assert other["version"] == 2
    assert release(workspace)["version"] == 1
    with registry(workspace) as client:
        assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2
        assert client.get_registered_model(MODEL).aliases == {"challenger": 2}


def test_a_night_that_was_refused_is_not_released(workspace: Path) -> None:
    paths = write_night(workspace / "night")
    (paths["decision"] / "decision.json").write_text(json.dumps(decision("a" * 64, "d" * 64, MODEL, "refused")))
    store = open_store((workspace / "store").as_uri())
    with pytest.raises(Refused, match="verdict is 'refused'"):
        release_night(paths, store, MODEL, ReleaseSettings(), workspace / "record")
    assert releases(store, MODEL) == []


@pytest.mark.parametrize(
    "missing", ["models", "scores/scores.json", "engines", "calibration.html", "decision/decision.json"]
)
def test_a_missing_artifact_is_named_before_anything_is_registered(workspace: Path, missing: str) -> None:
    paths = write_night(workspace / "night")
    target = paths["onnx_model"] if missing == "models" else workspace / "night" / missing
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(InvalidInput, match=r"missing|empty"):
        release_night(paths, open_store((workspace / "store").as_uri()), MODEL, ReleaseSettings(), workspace / "record")
    with registry(workspace) as client:
        assert client.search_registered_models() == []


def test_artifacts_of_two_data_sets_are_not_released_as_one(workspace: Path) -> None:
    paths = write_night(workspace / "night")
    other = write_night(workspace / "other", dataset="9" * 64)
    with pytest.raises(InvalidInput, match="expected one data set"):
        release_night(
            paths | {"dataset": other["dataset"]},
            open_store((workspace / "store").as_uri()),
            MODEL,
            ReleaseSettings(),
            workspace / "record",
        )


def test_a_promotion_writes_one_record_and_the_alias_follows(workspace: Path) -> None:
    store = open_store((workspace / "store").as_uri())
    release(workspace)
    record = promote(store, MODEL, 1, reviewer="anna", reason="looked at", expect_champion=0)
    assert (record["seq"], record["champion"], record["champion_before"], record["actor"]) == (1, 1, 0, "anna")
    assert champion(store, MODEL).version == 1
    with registry(workspace) as client:
        assert client.get_registered_model(MODEL).aliases == {"champion": 1}
        assert client.get_model_version(MODEL, "1").tags["promotion.state"] == "champion"
    release(workspace, "b" * 64)
    promote(store, MODEL, 2, reviewer="anna", reason="better", expect_champion=1)
    with registry(workspace) as client:
        assert client.get_registered_model(MODEL).aliases == {"champion": 2}
        assert client.get_model_version(MODEL, "1").tags["promotion.state"] == "retired"


def test_a_promotion_on_a_stale_view_changes_nothing(workspace: Path) -> None:
    store = open_store((workspace / "store").as_uri())
    release(workspace)
    promote(store, MODEL, 1, reviewer="anna", reason="looked at")
    release(workspace, "b" * 64)
    with pytest.raises(Refused, match="the champion is version 1, you expected 0"):
        promote(store, MODEL, 2, reviewer="bob", reason="better", expect_champion=0)
    assert champion(store, MODEL).version == 1
    with pytest.raises(InvalidInput, match="no whole version 7"):
        promote(store, MODEL, 7, reviewer="bob", reason="better")
    with pytest.raises(InvalidInput, match="needs a reviewer and a reason"):
        promote(store, MODEL, 2, reviewer="bob", reason=" ")
