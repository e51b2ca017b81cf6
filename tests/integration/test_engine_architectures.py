"""The architectures that ship, with untrained weights: quantized, linted, and built by NVIDIA's own builder."""

import json
from pathlib import Path

import onnx
import pytest

from components.build_engine.half import write_half
from components.build_engine.tensorrt import build_plan, load_tensorrt
from components.calibrate.graph import float_nodes
from components.calibrate.lint import lint_qdq
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import read_source
from tests.disc_detector import write_pictures

SIDE_PX = 160
COUNTS = {"yolov8n": (57, 64), "yolo11n": (81, 88), "yolo26n": (96, 102)}
"""Convolutions in INT8, and all."""
SETTINGS = CalibrateSettings(method="min-max")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("architectures")
    torch = pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.chdir(folder)
        from ultralytics import YOLO

        for name in COUNTS:
            torch.manual_seed(0)
            YOLO(f"{name}.yaml", verbose=False).export(
                format="onnx", opset=19, simplify=False, imgsz=SIDE_PX, verbose=False
            )
    write_pictures(folder / "images", 4)
    return folder


def quantized(folder: Path, name: str) -> tuple[Path, dict]:
    target = folder / f"{name}.int8.onnx"
    return target, quantize_detector(folder / f"{name}.onnx", sorted((folder / "images").iterdir()), target, SETTINGS)


@pytest.mark.parametrize("name", COUNTS)
def test_all_but_the_output_convolutions_are_int8_and_the_file_is_small(exported: Path, name: str) -> None:
    path, record = quantized(exported, name)
    assert (record["int8_convolutions"], record["convolutions"]) == COUNTS[name]
    assert list(record["float_nodes"].values()).count("output convolution") == 6
    assert record["size_ratio"] < 0.28
    assert lint_qdq(onnx.load(path), COUNTS[name][0]) == []


@pytest.mark.parametrize("name", COUNTS)
def test_attention_stays_float(exported: Path, name: str) -> None:
    graph = onnx.load(quantized(exported, name)[0]).graph
    dequantized = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    for node in graph.node:
        if node.op_type in ("MatMul", "Softmax", "Sigmoid", "Concat"):
            assert not dequantized & set(node.input), node.name


@pytest.mark.parametrize("name", COUNTS)
def test_the_float_part_is_the_same_whatever_the_nodes_are_called(exported: Path, name: str) -> None:
    model = read_source(exported / f"{name}.onnx").model
    named = float_nodes(model)
    places = [place for place, node in enumerate(model.graph.node) if node.name in named]
    for place, node in enumerate(model.graph.node):
        node.name = f"n{place}"
    assert [f"n{place}" for place in places] == list(float_nodes(model))


@pytest.mark.parametrize("name", COUNTS)
def test_nvidias_builder_takes_int8_with_either_remainder(exported: Path, name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    trt = load_tensorrt(rtx=True)
    path, record = quantized(exported, name)
    (tmp_path / "calibration.json").write_text(json.dumps(record))
    half = write_half(path, tmp_path / "calibration.json", tmp_path / "half.onnx")
    for graph in (path, half):
        plan = build_plan(trt, graph, rtx=True, compute_capability=89)
        assert len(plan.data) > 1_000_000
