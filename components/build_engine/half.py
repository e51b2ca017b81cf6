"""The INT8 graph with an FP16 remainder, for TensorRT: what is not INT8 runs in half, the decoding stays FP32.

TensorRT 11 takes precisions from the graph alone, and an FP32 head costs more than INT8 gains. Boxes are decoded in
FP32, because half precision steps by 0.5 px above 512 px.
"""

import json
from pathlib import Path

from components.shared.errors import InvalidInput

DECODING = frozenset({"decode", "distribution of distances"})
MIN_OPSET = 19


def write_half(model: Path, calibration: Path, target: Path) -> Path:
    """Write `target`, the form of the Q/DQ file `model` whose float layers outside the decoding are FP16.

    Args:
        model: INT8 Q/DQ ONNX.
        calibration: calibration.json beside it, which names the decoding.
        target: File to write.

    Raises:
        InvalidInput: the opset has no FP16 scales, or the decoding is not known.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        kept = json.loads(calibration.read_bytes())["float_nodes"]
    except (OSError, ValueError, KeyError) as fault:
        raise InvalidInput(f"{calibration}: names no float nodes, expected what calibrate wrote") from fault
    graph = onnx.load(model)
    opset = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < MIN_OPSET:
        raise InvalidInput(f"{model}: FP16 scales need opset {MIN_OPSET}, got {opset}; export it again")
    decoding = [name for name, reason in kept.items() if reason in DECODING]
    half = convert_float_to_float16(graph, keep_io_types=True, node_block_list=decoding)
    target.write_bytes(half.SerializeToString(deterministic=True))
    return target
