"""OpenVINO IR for CPUs: the ONNX file read once, precision kept as it is, same input same bytes."""

import re
from pathlib import Path

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
    # Names such as Constant_123 count what this process has made so far: number them by place instead.
    for place, operation in enumerate(graph.get_ordered_ops()):
        if AUTOMATIC_NAME.fullmatch(operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    return "model.xml", openvino.get_version().split("-")[0]
