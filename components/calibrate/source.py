"""The FP32 model as quantization needs it: read, checked, constants folded, names unique; the file is never touched."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from components.calibrate.graph import Graph, name_nodes
from components.shared.errors import InvalidInput

MIN_OPSET = 13  # Per-channel DequantizeLinear came with it: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
GOOD_OPSET = 19  # FP16 scales need it.


@dataclass(frozen=True)
class Source:
    """A detector ready to be quantized."""

    model: onnx.ModelProto
    input_name: str
    size_px: tuple[int, int]
    """Height and width of the network input."""


def read_source(path: Path) -> Source:
    """Read the FP32 detector in `path`.

    Raises:
        InvalidInput: not an ONNX file, not a detector, already quantized.
    """
    original = _load(path)
    _refuse_other_than_detectors(original, path)
    model = _folded(_lifted(original, path), path)
    name_nodes(model)
    value = Graph(model).inputs[0]
    return Source(model, value.name, _size_px(original, value, path))


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise InvalidInput(f"model {path}: no such file, expected an FP32 ONNX detector")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as fault:  # protobuf, checker and external-data errors share no base
        raise InvalidInput(f"model {path}: not a readable ONNX file ({str(fault).splitlines()[0]})") from fault
    return model


def _refuse_other_than_detectors(model: onnx.ModelProto, path: Path) -> None:
    graph = Graph(model)
    operators = {node.op_type for node in model.graph.node}
    if operators & {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}:
        raise InvalidInput(f"model {path}: already quantized, expected the FP32 ONNX it came from")
    shapes = [_dims(value) for value in graph.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (0, 3):
        raise InvalidInput(f"model {path}: not a detector: inputs are {shapes}, expected one (batch, 3, height, width)")
    if "Conv" not in operators:
        raise InvalidInput(f"model {path}: not a detector: no convolution in the graph")
    ranks = [len(_dims(value)) for value in model.graph.output]
    if not any(rank >= 3 for rank in ranks):
        raise InvalidInput(f"model {path}: not a detector: outputs have ranks {ranks}, expected boxes (batch, ., .)")
    if graph.inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise InvalidInput(f"model {path}: the input is not float32; export without half precision")


def _lifted(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= GOOD_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, GOOD_OPSET)
    except Exception as fault:  # the converter raises RuntimeError and its own C++ errors
        if opset >= MIN_OPSET:
            return model
        raise InvalidInput(f"model {path}: opset {opset} cannot be lifted to {GOOD_OPSET}; export it again") from fault


def _folded(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Constants folded and batch normalisation merged by ONNX Runtime's basic, standard-operators-only passes."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        options.log_severity_level = 3
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as fault:  # onnxruntime raises one class an error code, without a common base
            raise InvalidInput(f"model {path}: ONNX Runtime refuses it ({str(fault).splitlines()[0]})") from fault
        folded = onnx.load(options.optimized_model_filepath)
    kept = {node.domain for node in folded.graph.node} | {"", "ai.onnx"}
    imports = [entry for entry in folded.opset_import if entry.domain in kept]
    del folded.opset_import[:]
    folded.opset_import.extend(imports)
    del folded.metadata_props[:]
    folded.metadata_props.extend(model.metadata_props)
    folded.producer_name, folded.doc_string = model.producer_name, model.doc_string
    return folded


def _size_px(original: onnx.ModelProto, value: onnx.ValueInfoProto, path: Path) -> tuple[int, int]:
    height, width = _dims(value)[2:]
    if height and width:
        return height, width
    stored = {entry.key: entry.value for entry in original.metadata_props}.get("imgsz", "")
    sides = [int(part) for part in stored.strip("[]() ").split(",") if part.strip().isdigit()]
    if not sides:
        raise InvalidInput(f"model {path}: input height and width are free and metadata names no imgsz")
    return sides[0], sides[-1]


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
