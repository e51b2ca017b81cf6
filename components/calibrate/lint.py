"""TensorRT's rules for Q/DQ graphs, checked without TensorRT; its parser rejects every graph that is flagged here.

Source: each rule was tried on the parser of tensorrt-rtx 1.7.1, which shares TensorRT 11's rules.
"""

from collections.abc import Iterator

import numpy as np
import onnx

from components.calibrate.graph import CONVOLUTIONS, Graph
from components.calibrate.placement import CHANNEL_AXIS

PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})


def lint_qdq(model: onnx.ModelProto, min_int8_convolutions: int = 0) -> list[str]:
    """One sentence a broken rule, naming the node; an empty list means that TensorRT takes the graph."""
    graph = Graph(model)
    findings = [finding for node in model.graph.node for finding in _node_findings(graph, node)]
    for value in model.graph.output:
        made_by = graph.producer.get(value.name)
        if made_by is not None and made_by.op_type == "DequantizeLinear":
            findings.append(f"{value.name}: graph output is quantized, expected float")
    count = count_int8_convolutions(model)
    if count < min_int8_convolutions:
        findings.append(f"graph: only {count} INT8 convolutions, expected at least {min_int8_convolutions}")
    return findings


def count_int8_convolutions(model: onnx.ModelProto) -> int:
    """Convolutions whose activation and weight both come out of a DequantizeLinear."""
    graph = Graph(model)
    return sum(
        node.op_type in CONVOLUTIONS and all(_is_dequantized(graph, name) for name in node.input[:2])
        for node in model.graph.node
    )


def _is_dequantized(graph: Graph, name: str) -> bool:
    return name in graph.producer and graph.producer[name].op_type == "DequantizeLinear"


def _node_findings(graph: Graph, node: onnx.NodeProto) -> Iterator[str]:
    if node.domain == "com.microsoft" or node.op_type.startswith("QLinear") or node.op_type.endswith("Integer"):
        yield f"{node.name}: {node.op_type} is no TensorRT operator, expected QuantizeLinear and DequantizeLinear"
    if node.op_type in PAIR:
        yield from _scale_findings(graph, node)
    if node.op_type == "QuantizeLinear":
        others = {user.op_type for user in graph.users[node.output[0]]} - {"DequantizeLinear"}
        if others:
            yield f"{node.name}: feeds {sorted(others)}, expected only DequantizeLinear"
    if node.op_type in CONVOLUTIONS:
        yield from _convolution_findings(graph, node)


def _scale_findings(graph: Graph, node: onnx.NodeProto) -> Iterator[str]:
    scale = graph.constant(node.input[1]) if node.input[1] in graph.initializers else None
    if scale is None or not np.isfinite(scale).all() or not (scale > 0).all():
        yield f"{node.name}: scale must be constant, finite and above zero"
    elif scale.dtype == np.float16 and _opset(graph.model) < 19:
        yield f"{node.name}: FP16 scales need opset 19, got {_opset(graph.model)}"
    zero = node.input[2] if len(node.input) > 2 else ""
    if zero in graph.initializers:
        value = graph.constant(zero)
        if value.dtype != np.int8:
            yield f"{node.name}: zero point has type {value.dtype}, expected int8"
        elif value.any():
            yield f"{node.name}: non-zero zero point, expected symmetric quantization"
    else:
        yield f"{node.name}: no constant zero point, expected int8 zero"


def _convolution_findings(graph: Graph, node: onnx.NodeProto) -> Iterator[str]:
    dequantized = [_is_dequantized(graph, name) for name in node.input]
    if len(dequantized) > 2 and dequantized[2]:
        yield f"{node.name}: bias is quantized, expected float"
    if not all(dequantized[:2]):
        if any(dequantized[:2]):
            yield f"{node.name}: only one of activation and weight is quantized"
        return
    if _scale_of(graph, node.input[0]).size != 1:
        yield f"{node.name}: activation has a scale a channel, expected one scale"
    weights = graph.producer[node.input[1]]
    size = _scale_of(graph, node.input[1]).size
    stored = graph.producer.get(weights.input[0])
    name = stored.input[0] if stored is not None else weights.input[0]
    axis = CHANNEL_AXIS[node.op_type]
    given = next((entry.i for entry in weights.attribute if entry.name == "axis"), 1)
    channels = graph.initializers[name].dims[axis] if name in graph.initializers else 0
    if size not in (1, channels) or (size > 1 and given != axis):
        yield f"{node.name}: weight has {size} scales on axis {given}, expected {channels} on axis {axis}"


def _scale_of(graph: Graph, name: str) -> np.ndarray:
    scale = graph.producer[name].input[1]
    return graph.constant(scale) if scale in graph.initializers else np.zeros(1)


def _opset(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
