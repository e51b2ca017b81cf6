"""How much noise INT8 adds at each layer, all layers measured in one pass over a few images."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from components.calibrate.graph import CONVOLUTIONS, Graph
from components.calibrate.observe import open_session
from components.calibrate.placement import CHANNEL_AXIS, LARGEST, Placement, activations_of, quantize_weights
from components.calibrate.source import Source


def noise_by_activation(
    source: Source, placement: Placement, limits: Mapping[str, float], inputs: Iterable[np.ndarray], threads: int
) -> dict[str, float]:
    """Noise over signal (energies) that quantizing an activation causes where it is used, worst use of each.

    Beside every quantized convolution runs a second one on quantized input and weights, both fed by the same FP32
    activation; the energy of their difference over that of the first is the layer's own noise, whatever happened in
    the layers before. An outlier that ruins a layer shows here and not in the activation itself, whose energy it is.
    """
    twin, pairs = _with_twins(source.model, placement, limits)
    fetched = [name for pair in pairs.values() for name in pair]
    session = open_session(twin, fetched, threads)
    energies = np.zeros(len(fetched))
    for batch in inputs:
        energies += [float(value) for value in session.run(fetched, {source.input_name: batch})]
    nodes = Graph(source.model).nodes
    noise: dict[str, float] = {}
    for (name, _), (error, signal) in zip(pairs.items(), energies.reshape(-1, 2), strict=True):
        for tensor in activations_of(nodes[name]):
            noise[tensor] = max(noise.get(tensor, 0.0), error / max(signal, 1e-12))
    return noise


def _with_twins(
    model: onnx.ModelProto, placement: Placement, limits: Mapping[str, float]
) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = Graph(model)
    made: dict[str, str] = {}
    pairs: dict[str, tuple[str, str]] = {}
    for name in placement.nodes:
        node = graph.nodes[name]
        if node.op_type not in CONVOLUTIONS | {"Add"} or not all(tensor in limits for tensor in activations_of(node)):
            continue
        second = onnx.NodeProto()
        second.CopyFrom(node)
        second.name, second.output[0] = f"{name}_twin", f"{name}_twin_out"
        for position, tensor in enumerate(activations_of(node)):
            second.input[position] = _rounded(twin, tensor, limits[tensor], made)
        if node.op_type in CONVOLUTIONS:
            second.input[1] = _rounded_weights(twin, graph, node, made, placement.largest_weight)
        difference, error, signal = (f"{name}_{part}" for part in ("difference", "error", "signal"))
        twin.graph.node.append(second)
        for kind, inputs, output in (
            ("Sub", [second.output[0], node.output[0]], difference),
            ("ReduceSumSquare", [difference], error),
            ("ReduceSumSquare", [node.output[0]], signal),
        ):
            twin.graph.node.append(helper.make_node(kind, inputs, [output], name=output))
            if kind != "Sub":
                twin.graph.node[-1].attribute.append(helper.make_attribute("keepdims", 0))
        pairs[name] = (error, signal)
    return twin, pairs


def _rounded(twin: onnx.ModelProto, tensor: str, limit: float, made: dict[str, str]) -> str:
    """Name of the activation quantized and back."""
    if tensor not in made:
        made[tensor] = f"{tensor}_rounded"
        scale, zero, whole = (f"{tensor}_rounded_{part}" for part in ("scale", "zero", "whole"))
        twin.graph.initializer.append(numpy_helper.from_array(np.array(limit / LARGEST, np.float32), scale))
        twin.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), zero))
        twin.graph.node.append(helper.make_node("QuantizeLinear", [tensor, scale, zero], [whole], name=whole))
        twin.graph.node.append(
            helper.make_node("DequantizeLinear", [whole, scale, zero], [made[tensor]], name=made[tensor])
        )
    return made[tensor]


def _rounded_weights(
    twin: onnx.ModelProto, graph: Graph, node: onnx.NodeProto, made: dict[str, str], largest: int
) -> str:
    name, axis = node.input[1], CHANNEL_AXIS[node.op_type]
    if name not in made:
        made[name] = f"{name}_rounded"
        values, scales = quantize_weights(graph.constant(name), axis, largest)
        shape = [1] * values.ndim
        shape[axis] = -1
        rounded = values.astype(np.float32) * scales.reshape(shape)
        twin.graph.initializer.append(numpy_helper.from_array(rounded, made[name]))
    return made[name]
