"""The build_engine step on a detector that really detects."""

import json
from pathlib import Path

import numpy as np
import pytest

from components.build_engine.build import build_targets
from components.build_engine.settings import BuildEngineSettings
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.shared.detection import load_detector
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.store import Store
from tests.disc_detector import write_dataset, write_detector, write_pictures

SETTINGS = BuildEngineSettings(warm_up_runs=1, timed_runs=5)


@pytest.fixture
def night(tmp_path: Path, store: Store) -> tuple[Path, Path, Path, Store]:
    folders = tmp_path / "onnx_model", tmp_path / "int8_model"
    for folder in folders:
        folder.mkdir()
    model = write_detector(folders[0] / "model.onnx")
    images = write_pictures(tmp_path / "images", 12)
    quantize_detector(model, images, folders[1] / "model.int8.qdq.onnx", CalibrateSettings())
    return *folders, write_dataset(store, tmp_path / "dataset", train=12), store


def test_every_target_states_what_it_is_and_how_fast(night: tuple, tmp_path: Path) -> None:
    summary = build_targets(*night, SETTINGS, tmp_path / "engines")
    assert summary["targets"] == "onnx,openvino-fp32,openvino-int8"
    for target in ("openvino-int8", "openvino-fp32", "onnx"):
        record = json.loads((tmp_path / "engines" / target / "target.json").read_bytes())
        file = tmp_path / "engines" / target / record["file"]
        assert record["sha256"] == digest_file(file)
        assert 0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p95"]
        assert "batch 1" in record["latency_ms"]["how"]
        assert record["parity"]["boxes"] >= 12
        assert record["parity"]["found"] >= 0.95
        assert load_detector(file).class_names == ("red", "green", "blue")
    assert all(isinstance(value, str | int | float) for value in summary.values())


def test_float_ir_answers_exactly_and_int8_ir_is_smaller(night: tuple, tmp_path: Path) -> None:
    build_targets(*night, SETTINGS, tmp_path / "engines")
    records = {
        name: json.loads((tmp_path / "engines" / name / "target.json").read_bytes())
        for name in ("openvino-fp32", "openvino-int8")
    }
    assert records["openvino-fp32"]["parity"]["found"] == 1.0
    assert records["openvino-fp32"]["parity"]["max_score_change"] < 1e-3
    sizes = {name: (tmp_path / "engines" / name / "model.bin").stat().st_size for name in records}
    assert sizes["openvino-int8"] < sizes["openvino-fp32"]


def test_golden_images_travel_with_what_float_finds_on_them(night: tuple, tmp_path: Path) -> None:
    build_targets(*night, SETTINGS, tmp_path / "engines")
    golden = json.loads((tmp_path / "engines" / "golden" / "detections.json").read_bytes())
    assert len(golden["images"]) == 8
    for entry in golden["images"]:
        assert digest_file(tmp_path / "engines" / "golden" / entry["file"]) == entry["sha256"]
    assert sum(len(entry["detections"]) for entry in golden["images"]) >= 12


def test_the_same_models_give_the_same_ir_bytes(night: tuple, tmp_path: Path) -> None:
    records = []
    for seed, name in enumerate(("a", "b")):
        build_targets(*night, SETTINGS.changed(seed=seed), tmp_path / name)
        records.append(json.loads((tmp_path / name / "openvino-int8" / "target.json").read_bytes())["files"])
    assert records[0] == records[1]


def test_a_target_that_fails_fails_no_other_but_a_required_one_ends_the_step(night: tuple, tmp_path: Path) -> None:
    int8 = night[1] / "model.int8.qdq.onnx"
    int8.write_bytes(b"broken")
    only_float = SETTINGS.changed(targets=["openvino-int8", "openvino-fp32"], required=["openvino-fp32"])
    summary = build_targets(*night, only_float, tmp_path / "engines")
    assert summary["targets"] == "openvino-fp32" and summary["failed"] == "openvino-int8"
    failures = json.loads((tmp_path / "engines" / "failures.json").read_bytes())
    assert "model.int8.qdq.onnx" in failures["openvino-int8"]["reason"]
    assert not (tmp_path / "engines" / "openvino-int8").exists()
    with pytest.raises(InvalidInput, match=r"model\.int8\.qdq\.onnx"):
        build_targets(*night, SETTINGS, tmp_path / "again")


def test_a_target_that_misses_the_golden_boxes_is_not_built(night: tuple, tmp_path: Path) -> None:
    other = write_detector(night[1] / "model.int8.qdq.onnx", blind=True)
    assert other.is_file()
    strict = SETTINGS.changed(required=["openvino-fp32"], min_golden_found=0.9)
    summary = build_targets(*night, strict, tmp_path / "engines")
    assert summary["targets"] == "openvino-fp32"
    assert summary["failed"] == "onnx,openvino-int8"


def test_a_second_night_is_remembered(night: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = build_targets(*night, SETTINGS, tmp_path / "engines")
    with caplog.at_level("INFO"):
        assert build_targets(*night, SETTINGS, tmp_path / "engines") == first
    assert "remembered=True" in caplog.text


def test_a_missing_model_is_named(night: tuple, tmp_path: Path) -> None:
    (night[0] / "model.onnx").unlink()
    with pytest.raises(InvalidInput, match=r"model\.onnx: no such file"):
        build_targets(*night, SETTINGS, tmp_path / "engines")


def test_openvino_gets_unsigned_activations_and_the_same_answers(night: tuple, tmp_path: Path) -> None:
    build_targets(*night, SETTINGS, tmp_path / "engines")
    ir = (tmp_path / "engines" / "openvino-int8" / "model.xml").read_text()
    assert 'element_type="i8"' in ir  # The weights.
    exact = load_detector(night[1] / "model.int8.qdq.onnx")
    served = load_detector(tmp_path / "engines" / "openvino-int8" / "model.xml")
    pixels = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    assert np.abs(exact.infer(pixels) - served.infer(pixels)).max() < 0.05
