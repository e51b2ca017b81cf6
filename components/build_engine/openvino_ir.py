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
    try:
        import openvino
    except ImportError as missing:
        raise MissingCapability("OpenVINO targets need the package openvino, which is not installed") from missing

    try:
        graph = openvino.Core().read_model(model)
    except RuntimeError as refusal:
        raise InvalidInput(f"{model}: OpenVINO refuses it ({str(refusal).strip().splitlines()[-1]})") from refusal
    _hold_back_concats(graph)
    # Names such as Constant_123 count what this process has made so far: number them by place instead.
    for place, operation in enumerate(graph.get_ordered_ops()):
        if AUTOMATIC_NAME.fullmatch(operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    return "model.xml", openvino.get_version().split("-")[0]


def _hold_back_concats(graph: Any) -> None:
    """Keep OpenVINO from moving a quantization from behind a Concat to before it.

    Measured on 2026.4.1 (CPU with AVX512-VNNI): after that move the next INT8 convolution subtracts a wrong zero point,
    and scores are off by up to 0.6. A PReLU of slope 1 in between changes no value, costs no measurable time and is
    not optimized away, as Clamp, Reshape and Multiply are.
    """
    from openvino import opset13

    for operation in graph.get_ordered_ops():
        if operation.get_type_name() != "FakeQuantize":
            continue
        source = operation.input_value(0)
        if source.get_node().get_type_name() == "Concat":
            held = opset13.prelu(source, np.ones(1, np.float32))
            operation.input(0).replace_source_output(held.output(0))
