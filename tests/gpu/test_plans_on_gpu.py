"""A TensorRT plan that was built here finds the boxes of the ONNX file it came from; needs TensorRT and a GPU."""

import json
import shutil
from pathlib import Path

import pytest

from components.build_engine.build import build_targets
from components.build_engine.settings import BuildEngineSettings
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.evaluate.predictions import read_image
from components.shared.agreement import agreement
from components.shared.detection import load_detector
from components.shared.store import Store
from tests.disc_detector import write_dataset, write_detector, write_pictures

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs an NVIDIA GPU: nvidia-smi is not installed"),
]


def test_a_plan_finds_the_boxes_of_its_onnx_file(tmp_path: Path, store: Store) -> None:
    pytest.importorskip("tensorrt", reason="needs tensorrt (extra `tensorrt`)")
    folders = tmp_path / "onnx_model", tmp_path / "int8_model"
    for folder in folders:
        folder.mkdir()
    model = write_detector(folders[0] / "model.onnx")
    images = write_pictures(tmp_path / "images", 8)
    int8 = folders[1] / "model.int8.qdq.onnx"
    (folders[1] / "calibration.json").write_text(
        json.dumps(quantize_detector(model, images, int8, CalibrateSettings()))
    )
    settings = BuildEngineSettings(targets=["tensorrt-int8"], required=["tensorrt-int8"])
    build_targets(*folders, write_dataset(store, tmp_path / "dataset", train=8), store, settings, tmp_path / "engines")
    pictures = [read_image(path) for path in images]
    plan, reference = (
        load_detector(path).detect(pictures) for path in (tmp_path / "engines/tensorrt-int8/model.plan", int8)
    )
    assert agreement(list(zip(reference, plan, strict=True)))["found"] >= 0.95
