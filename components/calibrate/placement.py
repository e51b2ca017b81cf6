"""Where Q/DQ pairs stand: the one layout that TensorRT parses and OpenVINO and ONNX Runtime run.

Symmetric int8 everywhere, one scale an activation, one scale an output channel of a weight. Weights are stored as
int8 with a DQ, which makes the file a quarter. No pair stands between a convolution and its activation function, so
that the three stay one kernel; biases stay float, because TensorRT's parser refuses an int32 DQ.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from components.calibrate.graph import CONVOLUTIONS, Graph

# MatMul, Softmax, Concat, Sigmoid and Mul stay float: attention and SiLU lose most and gain least.
QUANTIZED = CONVOLUTIONS | {"Add", "MaxPool", "Resize"}
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}
LARGEST = 127
LARGEST_WEIGHT = {7: 63, 8: LARGEST}
"""By the bits of a weight. CPUs without VNNI add products of uint8 activations and weights in pairs, in 16 bits: two of
255 * 63 fit, two of 255 * 127 are cut off, which cost the sample detector 54 mAP points on such a laptop."""
ZERO = "_zero"
"""Name of the one zero point that all activations share."""


@dataclass(frozen=True)
class Placement:
    """What will be quantized."""

    nodes: tuple[str, ...]
    activations: tuple[str, ...]
    """Tensors that get a Q/DQ pair, in graph order."""
    largest_weight: int
    """Absolute value that the largest weight of a channel becomes."""


def place(model: onnx.ModelProto, keep_float: Collection[str], weight_bits: int = 7) -> Placement:
    """Nodes and tensors to quantize when those in `keep_float` stay as they are."""
    graph = Graph(model)
    weighted = {node.name for node in graph.convolutions()}
    nodes, activations = [], {}
    for node in model.graph.node:
        if node.op_type not in QUANTIZED or node.name in keep_float:
            continue
        if node.op_type in CONVOLUTIONS and node.name not in weighted:
            continue
        read = activations_of(node)
        if any(name in graph.initializers for name in read):
            continue
        nodes.append(node.name)
        activations.update(dict.fromkeys(read))
    return Placement(tuple(nodes), tuple(activations), LARGEST_WEIGHT[weight_bits])


def activations_of(node: onnx.NodeProto) -> list[str]:
    """Inputs of a quantized node that are activations."""
    return list(node.input) if node.op_type == "Add" else [node.input[0]]


def insert_pairs(model: onnx.ModelProto, placement: Placement, largest: Mapping[str, float]) -> onnx.ModelProto:
    """A copy of `model` with Q/DQ pairs.

    Args:
        model: FP32.
        placement: What to quantize; tensors without an entry in `largest` are no feature maps and stay float.
        largest: Absolute value that becomes 127, by activation.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = Graph(quantized)
    quantized.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), ZERO))
    pairs = {
        name: _activation_pair(graph, name, f"_{place}", largest[name])
        for place, name in enumerate(placement.activations)
        if name in largest
    }
    chosen = {name for name in placement.nodes if all(t in largest for t in activations_of(graph.nodes[name]))}
    weights: dict[tuple[str, int], onnx.NodeProto] = {}
    for node in quantized.graph.node:
        if node.name not in chosen:
            continue
        for position, name in enumerate(node.input):
            if name in pairs:
                node.input[position] = pairs[name][1].output[0]
        if node.op_type in CONVOLUTIONS:
            key = (node.input[1], CHANNEL_AXIS[node.op_type])
            if key not in weights:
                weights[key] = _weight_node(graph, *key, f"_w{len(weights)}", placement.largest_weight)
            node.input[1] = weights[key].output[0]
    _rebuild(quantized, pairs, list(weights.values()))
    return quantized


def _activation_pair(graph: Graph, name: str, short: str, largest: float) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Only the nodes carry the long name: repeated in every tensor it would be 3 % of the file."""
    scale, whole, back = f"{short}s", f"{short}q", f"{short}d"
    graph.model.graph.initializer.append(numpy_helper.from_array(np.array(largest / LARGEST, np.float32), scale))
    return (
        helper.make_node("QuantizeLinear", [name, scale, ZERO], [whole], name=f"Q:{name}"),
        helper.make_node("DequantizeLinear", [whole, scale, ZERO], [back], name=f"DQ:{name}"),
    )


def _weight_node(graph: Graph, name: str, axis: int, short: str, largest: int) -> onnx.NodeProto:
    values, scales = quantize_weights(graph.constant(name), axis, largest)
    whole, scale, zero, back = (f"{short}{part}" for part in ("q", "s", "z", "d"))
    graph.model.graph.initializer.extend(
        [
            numpy_helper.from_array(values, whole),
            numpy_helper.from_array(scales, scale),
            numpy_helper.from_array(np.zeros(scales.shape, np.int8), zero),
        ]
    )
    return helper.make_node("DequantizeLinear", [whole, scale, zero], [back], name=f"DQ:{name}", axis=axis)


def quantize_weights(weights: np.ndarray, axis: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 weights up to +-`largest` and one float32 scale a channel along `axis`; zeros get scale 1."""
    peaks = np.abs(weights).max(axis=tuple(other for other in range(weights.ndim) if other != axis))
    scales = np.where(peaks > 0, peaks / largest, 1).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    values = np.clip(np.rint(weights / scales.reshape(shape)), -largest, largest).astype(np.int8)
    return values, scales


def _rebuild(model: onnx.ModelProto, pairs: Mapping, weights: list[onnx.NodeProto]) -> None:
    """Nodes in an order in which every tensor is made before it is read; weights that nobody reads dropped."""
    ordered = list(weights)
    for value in model.graph.input:
        ordered.extend(pairs.get(value.name, ()))
    for node in model.graph.node:
        ordered.append(node)
        for name in node.output:
            ordered.extend(pairs.get(name, ()))
    ordered = [_copied(node) for node in ordered]
    same = _twins(model)
    for node in ordered:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    read = {name for node in ordered for name in node.input} | {value.name for value in model.graph.output}
    kept = [_copied(tensor) for tensor in model.graph.initializer if tensor.name in read or _has_inner_graph(model)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _twins(model: onnx.ModelProto) -> dict[str, str]:
    """For each constant that repeats an earlier one, the earlier one's name: exporters repeat the anchors."""
    first: dict[bytes, str] = {}
    same = {}
    for tensor in model.graph.initializer:
        unnamed = _copied(tensor)
        unnamed.name = ""
        same[tensor.name] = first.setdefault(unnamed.SerializeToString(), tensor.name)
    return same


def _copied(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _has_inner_graph(model: onnx.ModelProto) -> bool:
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in kinds for node in model.graph.node for attribute in node.attribute)
