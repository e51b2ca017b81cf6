"""Every light architecture trains, exports, and weighs what `yanshan models` says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.export.export import export_checkpoint
from components.export.settings import ExportSettings
from components.shared.store import FolderStore
from components.train.fit import fit_detector
from components.train.light import LIGHT_ARCHITECTURES
from pipelines.commands.models import models
from tests.integration.test_train import SMALL
from tests.training_sets import shape_rows, write_training_set

QUICK = ("pico", "mobilenetv3")


@pytest.mark.parametrize(
    "architecture",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LIGHT_ARCHITECTURES],
)
def test_an_architecture_trains_for_two_epochs_and_exports(tmp_path: Path, architecture: str) -> None:
    store = FolderStore(tmp_path / "store")
    training_set = write_training_set(tmp_path / "set", store, shape_rows(store, train=8, val=2, side_px=64))
    settings = SMALL.changed(architecture=architecture, epochs=2, image_size_px=64)
    summary = fit_detector(training_set, store, "m", settings, tmp_path / "checkpoint", tmp_path / "report.html")
    history = json.loads((tmp_path / "checkpoint" / "model.json").read_bytes())["history"]
    assert summary["epochs"] == len(history) == 2
    assert 0 < history[1]["cls_loss"] < 20
    parity = export_checkpoint(tmp_path / "checkpoint", training_set, store, ExportSettings(), tmp_path / "onnx")
    assert parity["largest_score_change"] <= 0.001


def test_the_table_weighs_every_architecture_and_flags_what_is_not_light() -> None:
    told = CliRunner().invoke(models, ["--no-measure", "--json"], catch_exceptions=False)
    rows = {row["architecture"]: row for row in json.loads(told.stdout)["models"]}
    assert set(rows) == set(LIGHT_ARCHITECTURES)
    assert rows["pico"]["parameters"] < 700_000
    assert 2.3e6 < rows["yolo26n"]["parameters"] < 2.7e6
    assert rows["yolo11n"]["gflops"] == pytest.approx(6.3, abs=0.3)
    assert rows["yolov8n"]["light"] == "not light"  # 8.1 GFLOPs
    assert rows["pico"]["light"] == "yes"


def test_the_table_measures_the_files_that_the_pipeline_would_make() -> None:
    told = CliRunner().invoke(models, ["pico", "--size", "128", "--runs", "3", "--json"], catch_exceptions=False)
    row = json.loads(told.stdout)["models"][0]
    assert 0 < row["int8_mb"] < 0.5 * row["onnx_mb"]
    assert row["fp32_ms"] > 0
    assert row["int8_ms"] > 0
