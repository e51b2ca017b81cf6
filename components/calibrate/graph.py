"""What a YOLO graph is made of: who produces and uses a tensor, and which nodes must stay float."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

OUTPUT_CONVOLUTION = "output convolution"
DECODE = "decode"
DISTRIBUTION = "distribution of distances"
SHAPES = frozenset({"Shape", "Size"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
LEARNED = CONVOLUTIONS | {"Gemm"}


class Graph:
    """Look-ups over an ONNX graph whose nodes all have names of their own."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = {node.name: node for node in model.graph.node}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = [value for value in model.graph.input if value.name not in self.initializers]

    def constant(self, name: str) -> np.ndarray:
        """Value of the initializer `name`."""
        return numpy_helper.to_array(self.initializers[name])

    def convolutions(self) -> list[onnx.NodeProto]:
        """Convolutions whose weights are constants, in graph order."""
        return [
            node
            for node in self.model.graph.node
            if node.op_type in CONVOLUTIONS and len(node.input) > 1 and node.input[1] in self.initializers
        ]


def float_nodes(model: onnx.ModelProto) -> dict[str, str]:
    """Nodes that must stay float, each with the reason, found by walking back from the outputs.

    Everything between an output and the last learned layers before it is decoding: box corners of hundreds of
    pixels beside scores below one, which no common scale can hold. Those last layers feed the decoding without
    an activation between, so that their error is the box's error. A convolution with the fixed weights 0, 1, 2...
    is the expectation over a distribution of distances: part of the decoding.
    """
    graph = Graph(model)
    reasons: dict[str, str] = {}
    frontier = [value.name for value in model.graph.output]
    while frontier:
        node = graph.producer.get(frontier.pop())
        if node is None or node.name in reasons:
            continue
        if node.op_type in LEARNED and not _takes_expectation(graph, node):
            reasons[node.name] = OUTPUT_CONVOLUTION
            continue
        reasons[node.name] = DISTRIBUTION if node.op_type in LEARNED else DECODE
        if node.op_type not in SHAPES:
            frontier.extend(name for name in _reads(node) if name)
    return {node.name: reasons[node.name] for node in model.graph.node if node.name in reasons}


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-adds of each convolution on one image; of a free input size, for one output pixel."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    graph = Graph(model)
    return {
        node.name: int(np.prod(graph.initializers[node.input[1]].dims))
        * int(np.prod(shapes.get(node.output[0], [1])[2:]))
        for node in graph.convolutions()
    }


def _takes_expectation(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type != "Conv" or node.input[1] not in graph.initializers:
        return False
    weights = graph.constant(node.input[1])
    return weights.shape[0] == 1 and np.array_equal(weights.ravel(), np.arange(weights.size))


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Inputs of a node, those that its inner graphs (If, Loop) take from outside included."""
    yield from node.input
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs)
        for graph in inner:
            for child in graph.node:
                yield from _reads(child)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, in place: other exporters leave them empty or repeat them."""
    taken: set[str] = set()
    for position, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{position}"
        taken.add(node.name)
