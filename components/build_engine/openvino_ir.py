"""OpenVINO IR for CPUs: the ONNX file read once, precision kept as it is, same input same bytes."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.errors import InvalidInput, MissingCapability

AUTOMATIC_NAME = re.compile(r"[A-Za-z]+_\d+")


def write_ir(model: Path, folder: Path) -> tuple[str, str]:
    """Write `folder`/model.xml and model.bin.

    Returns:
        Name of the file to load, and the runtime's version.

    Raises:
        InvalidInput: OpenVINO refuses the graph.
        MissingCapability: openvino is not installed.
    """
    graph = read_graph(model)
    import openvino

    # Names such as Constant_123 count what this process has made so far: number them by place instead.
    for place, operation in enumerate(graph.get_ordered_ops()):
        if AUTOMATIC_NAME.fullmatch(operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    return "model.xml", openvino.get_version().split("-")[0]


def read_graph(model: Path) -> Any:
    """The ONNX file as OpenVINO runs it fastest: activations unsigned where they were signed, to the same numbers.

    Raises:
        InvalidInput: OpenVINO refuses the graph.
        MissingCapability: openvino is not installed.
    """
    try:
        import openvino
    except ImportError as missing:
        raise MissingCapability("OpenVINO targets need the package openvino, which is not installed") from missing

    try:
        return openvino.Core().read_model(_with_unsigned_activations(model))
    except Exception as refusal:  # OpenVINO and protobuf raise their own types for a bad file
        raise InvalidInput(f"{model}: OpenVINO refuses it ({str(refusal).strip().splitlines()[-1]})") from refusal


def _with_unsigned_activations(model: Path) -> bytes:
    """Every int8 activation with zero point 0 becomes uint8 with zero point 128: the same steps, shifted.

    OpenVINO's INT8 convolutions take unsigned inputs. It shifts a signed one by itself, but not across a Concat:
    there it falls back to FP32, which is 13 of the 57 convolutions of yolov8n (1.3x the time) and 19 of yolo26n's 96.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model)
    quantizers = [node for node in graph.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2]
    zeros = {node.input[2] for node in quantizers}
    for tensor in graph.graph.initializer:
        if tensor.name in zeros and tensor.data_type == onnx.TensorProto.INT8 and not tensor.dims:
            shifted = np.array(int(numpy_helper.to_array(tensor)) + 128, np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(shifted, tensor.name))
    return graph.SerializeToString()
