"""The lint against TensorRT's rules: silent on what we write, and a sentence for each graph its parser rejects."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from components.calibrate.graph import float_nodes
from components.calibrate.lint import count_int8_convolutions, lint_qdq
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.shared.errors import InvalidInput
from tests.disc_detector import write_detector, write_pictures


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("good")
    images = write_pictures(folder / "images", 4)
    quantize_detector(write_detector(folder / "model.onnx"), images, folder / "int8.onnx", CalibrateSettings())
    return (folder / "int8.onnx").read_bytes()


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(entry for entry in model.graph.node if entry.name == name)


def replace(model: onnx.ModelProto, place: int, value: np.ndarray) -> None:
    """Give the input's Q/DQ pair a scale (place 1) or zero point (place 2) of its own."""
    model.graph.initializer.append(numpy_helper.from_array(value, "spoiled"))
    for name in ("Q:images", "DQ:images"):
        node(model, name).input[place] = "spoiled"


def quantized_bias(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.int32), "bias_q"))
    inputs = ["bias_q", *node(model, "DQ:backbone.0.weight").input[1:]]
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["bias_dq"], name="bias_DQ", axis=0))
    convolution = node(model, "/backbone.0")
    convolution.input.append("bias_dq") if len(convolution.input) < 3 else convolution.input.__setitem__(2, "bias_dq")


def asymmetric(model: onnx.ModelProto) -> None:
    replace(model, 2, np.array(7, np.int8))


def unsigned(model: onnx.ModelProto) -> None:
    replace(model, 2, np.array(128, np.uint8))


def sixteen_bits(model: onnx.ModelProto) -> None:
    replace(model, 2, np.array(0, np.int16))


def negative_scale(model: onnx.ModelProto) -> None:
    replace(model, 1, np.array(-0.1, np.float32))


def scale_a_channel_of_activations(model: onnx.ModelProto) -> None:
    replace(model, 1, np.full(3, 0.1, np.float32))


def weights_on_the_wrong_axis(model: onnx.ModelProto) -> None:
    next(entry for entry in node(model, "DQ:backbone.0.weight").attribute if entry.name == "axis").i = 1


def fused_operator(model: onnx.ModelProto) -> None:
    node(model, "/backbone.0").op_type = "QLinearConv"


def q_without_dq(model: onnx.ModelProto) -> None:
    node(model, "/backbone.0").input[0] = node(model, "Q:images").output[0]


def quantized_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = node(model, "DQ:images").output[0]


def half_scales_in_an_old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17
    replace(model, 1, np.array(0.1, np.float16))


def test_what_we_write_is_clean(good: bytes) -> None:
    model = onnx.load_from_string(good)
    assert lint_qdq(model, 6) == []
    assert count_int8_convolutions(model) == 6


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (quantized_bias, "bias is quantized"),
        (asymmetric, "non-zero zero point"),
        (unsigned, "zero point has type uint8, expected int8"),
        (sixteen_bits, "zero point has type int16, expected int8"),
        (negative_scale, "scale must be constant, finite and above zero"),
        (scale_a_channel_of_activations, "activation has a scale a channel"),
        (weights_on_the_wrong_axis, "8 scales on axis 1, expected 8 on axis 0"),
        (fused_operator, "QLinearConv is no TensorRT operator"),
        (q_without_dq, "feeds ['Conv'], expected only DequantizeLinear"),
        (quantized_output, "graph output is quantized"),
        (half_scales_in_an_old_opset, "FP16 scales need opset 19, got 17"),
    ],
)
def test_each_broken_rule_is_named(good: bytes, spoil, sentence: str) -> None:
    model = onnx.load_from_string(good)
    spoil(model)
    assert any(sentence in finding for finding in lint_qdq(model)), lint_qdq(model)


def test_too_few_int8_convolutions_are_a_finding(good: bytes) -> None:
    assert lint_qdq(onnx.load_from_string(good), 7) == ["graph: only 6 INT8 convolutions, expected at least 7"]


def test_the_float_part_is_found_without_names(tmp_path: Path) -> None:
    model = onnx.load(write_detector(tmp_path / "model.onnx"))
    for place, entry in enumerate(model.graph.node):
        entry.name = f"n{place}"
    kept = float_nodes(model)
    outputs = {entry.output[0] for entry in model.graph.node if kept.get(entry.name) == "output convolution"}
    assert outputs == {"head.classes.out", "head.boxes.out"}
    decoding = {entry.op_type for entry in model.graph.node if kept.get(entry.name) == "decode"}
    assert {"Concat", "Reshape", "Sub", "Split", "Sigmoid"} <= decoding


def test_an_expectation_over_distances_belongs_to_the_decoding(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1), "w")
    learned = numpy_helper.from_array(np.ones((16, 3, 1, 1), np.float32), "v")
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["logits"], name="learned"),
        helper.make_node("Softmax", ["logits"], ["p"], name="softmax", axis=1),
        helper.make_node("Conv", ["p", "w"], ["y"], name="expectation"),
    ]
    values = [helper.make_tensor_value_info(name, 1, [1, 3 if name == "x" else 1, 4, 4]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [weights, learned]))
    kept = float_nodes(model)
    assert kept == {
        "learned": "output convolution",
        "softmax": "decode",
        "expectation": "distribution of distances",
    }


@pytest.mark.parametrize("spoil", [quantized_bias, asymmetric, unsigned, sixteen_bits, fused_operator])
def test_nvidias_parser_rejects_what_the_lint_names(good: bytes, spoil, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    from components.build_engine.tensorrt import build_plan

    model = onnx.load_from_string(good)
    spoil(model)
    assert lint_qdq(model)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(InvalidInput, match="parser refuses it"):
        build_plan(trt, tmp_path / "bad.onnx", rtx=True, compute_capability=89)


def test_nvidias_parser_takes_what_we_write(good: bytes, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    from components.build_engine.tensorrt import build_plan

    (tmp_path / "good.onnx").write_bytes(good)
    assert build_plan(trt, tmp_path / "good.onnx", rtx=True, compute_capability=89).data
