"""The IR computes what the Q/DQ file says, also where a quantization follows a Concat."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.build_engine.openvino_ir import write_ir
from components.calibrate.placement import LARGEST_WEIGHT, insert_pairs, place

CHANNELS, FILTERS, SIDE = 48, 32, 16


def concat_then_int8(path: Path) -> Path:
    """SiLU, split, add, concat, Q/DQ, 1x1 convolution with int8 weights: the end of a C2f block."""
    rng = np.random.default_rng(5)
    constants = {
        "weights": rng.integers(-LARGEST_WEIGHT[7], LARGEST_WEIGHT[7] + 1, (FILTERS, CHANNELS, 1, 1)).astype(np.int8),
        "weight_scales": rng.uniform(0.001, 0.01, FILTERS).astype(np.float32),
        "weight_zeros": np.zeros(FILTERS, np.int8),
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "halves": np.array([CHANNELS // 2, CHANNELS // 2]),
    }
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["active"]),
        helper.make_node("Split", ["active", "halves"], ["left", "right"], axis=1),
        helper.make_node("Add", ["right", "right"], ["twice"]),
        helper.make_node("Concat", ["left", "twice"], ["both"], axis=1),
        helper.make_node("QuantizeLinear", ["both", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scales", "weight_zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["dq", "w"], ["y"], kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, FILTERS, SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def exact(path: Path, x: np.ndarray) -> np.ndarray:
    """What the file means: float64 arithmetic on the quantized values, written out."""
    constants = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(path).graph.initializer}
    active = x / (1 + np.exp(-x.astype(np.float64)))
    left, right = np.split(active, 2, axis=1)
    both = np.concatenate([left, 2 * right], axis=1)
    values = np.clip(np.rint(both / constants["scale"]), -128, 127) * constants["scale"]
    weights = constants["weights"][:, :, 0, 0] * constants["weight_scales"][:, None]
    return np.einsum("fc,bchw->bfhw", weights, values)


def as_devices_run_it(model: Path) -> openvino.CompiledModel:
    write_ir(model, model.parent)
    core = openvino.Core()
    read = core.read_model(model.parent / "model.xml")
    return core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def test_an_int8_convolution_after_a_concat_computes_what_the_file_says(tmp_path: Path) -> None:
    model = concat_then_int8(tmp_path / "block.onnx")
    compiled = as_devices_run_it(model)
    x = np.random.default_rng(1).normal(0, 2, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    wanted = exact(model, x)
    # A value at a rounding border may fall to either side: one step of one channel, not more.
    assert np.abs(compiled([x])[0] - wanted).max() < 0.1 * wanted.std()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_that_seven_bits_can_make_are_not_cut_off(tmp_path: Path, sign: int) -> None:
    """All weights and all activations at their ends: CPUs without VNNI add such products in pairs, in 16 bits."""
    weights = np.full((FILTERS, CHANNELS, 3, 3), sign * 0.5, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["active"], name="active"),
            helper.make_node("Conv", ["active", "weights"], ["y"], name="conv", kernel_shape=[3, 3]),
        ],
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, FILTERS, SIDE - 2, SIDE - 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    bare = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    pairs = insert_pairs(bare, place(bare, ()), {"active": 2.0})
    onnx.save(pairs, tmp_path / "block.onnx")
    answer = as_devices_run_it(tmp_path / "block.onnx")([np.full((1, CHANNELS, SIDE, SIDE), 2, np.float32)])[0]
    np.testing.assert_allclose(answer, sign * 0.5 * 2.0 * CHANNELS * 9, rtol=1e-4)
