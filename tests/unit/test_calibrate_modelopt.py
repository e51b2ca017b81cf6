"""NVIDIA ModelOpt as the backend of calibrate: its own run where it is installed, what we do to its file everywhere."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from components.calibrate.images import network_inputs
from components.calibrate.nvidia import with_int8_weights
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import read_source
from components.shared.errors import MissingCapability
from tests.disc_detector import write_detector, write_pictures

BACKEND = CalibrateSettings(backend="modelopt", max_loss_points=5.0, min_int8_convolutions=0.1)  # it skips narrow ones
INSTALLED = importlib.util.find_spec("modelopt") is not None


def test_weights_are_stored_as_int8_and_every_answer_stays(tmp_path: Path) -> None:
    model, images = write_detector(tmp_path / "model.onnx"), write_pictures(tmp_path, 2)
    source = read_source(model)
    inputs = list(network_inputs(images, source.size_px))

    class Reader(CalibrationDataReader):
        left = iter(inputs)

        def get_next(self) -> dict | None:
            one = next(self.left, None)
            return None if one is None else {source.input_name: one}

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True}
    for per_channel in (False, True):
        Reader.left = iter(inputs)
        options = {"per_channel": per_channel, "activation_type": QuantType.QInt8, "extra_options": symmetric}
        quantize_static(str(model), str(tmp_path / "pairs.onnx"), Reader(), op_types_to_quantize=["Conv"], **options)
        pairs = onnx.load(tmp_path / "pairs.onnx")
        before = answers(pairs, source.input_name, inputs[0])
        folded = with_int8_weights(pairs)
        held = {one.name: one.data_type for one in folded.graph.initializer}
        assert not [node for node in folded.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in held]
        weights = [node.input[1] for node in folded.graph.node if node.op_type == "Conv"]
        assert weights and not [name for name in weights if held.get(name) == onnx.TensorProto.FLOAT]
        for one, other in zip(before, answers(folded, source.input_name, inputs[0]), strict=True):
            np.testing.assert_array_equal(one, other)


def answers(model: onnx.ModelProto, name: str, pixels: np.ndarray) -> list[np.ndarray]:
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), plain, providers=["CPUExecutionProvider"])
    return session.run(None, {name: pixels})


@pytest.mark.skipif(INSTALLED, reason="nvidia-modelopt is installed here")
def test_without_the_package_it_is_a_missing_capability_that_names_it(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx")
    with pytest.raises(MissingCapability, match="pip install --no-deps nvidia-modelopt=="):
        quantize_detector(model, write_pictures(tmp_path, 2), tmp_path / "int8.onnx", BACKEND)
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.skipif(not INSTALLED, reason="needs nvidia-modelopt, which would replace onnxruntime: installed by hand")
def test_its_file_passes_our_lint_and_the_source_is_left_alone(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx")
    before = model.read_bytes()
    record = quantize_detector(model, write_pictures(tmp_path, 4), tmp_path / "int8.onnx", BACKEND)
    assert model.read_bytes() == before
    assert record["int8_convolutions"] > 0 and record["method"] == "ModelOpt, max" and "modelopt" in record["toolkit"]
