"""NVIDIA ModelOpt as the backend: its pairs and its ranges, held to the same lint and the same promise as ours.

It runs in a process of its own on a copy, because it replaces parts of ONNX Runtime and rewrites its input file.
Source: https://github.com/NVIDIA/Model-Optimizer (Apache-2.0)
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from components.calibrate.placement import LARGEST, LARGEST_WEIGHT
from components.shared.errors import MissingCapability, ServiceFault

PACKAGE = "nvidia-modelopt==0.47.0"


def quantize_by_modelopt(
    model: Path, input_name: str, inputs: Iterable[np.ndarray], kept: Sequence[str], weight_bits: int = 7
) -> onnx.ModelProto:
    """The Q/DQ graph that ModelOpt makes of `model`, weights stored as INT8.

    Args:
        model: FP32 ONNX; not touched.
        input_name: Of the images.
        inputs: (1, 3, H, W) float32 each; all of them are held in memory.
        kept: Names of the nodes that stay float.
        weight_bits: Of each weight.

    Raises:
        MissingCapability: ModelOpt is not installed.
        ServiceFault: it failed; its last lines are told.
    """
    if importlib.util.find_spec("modelopt") is None:
        raise MissingCapability(
            f"calibrate.backend: got 'modelopt', and the package is not here: pip install --no-deps {PACKAGE} and what "
            "its import asks for (its own dependencies would replace onnxruntime)"
        )
    with tempfile.TemporaryDirectory(prefix="yanshan-modelopt-") as name:
        folder = Path(name)
        shutil.copyfile(model, folder / "model.onnx")
        np.save(folder / "images.npy", np.concatenate(list(inputs)))
        (folder / "job.json").write_text(json.dumps({"input": input_name, "kept": list(kept)}))
        command = [sys.executable, "-m", "components.calibrate.nvidia", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceFault(f"ModelOpt failed on {model}: {' '.join(done.stderr.split()[-60:])}")
        made = with_int8_weights(onnx.load(folder / "int8.onnx"), LARGEST_WEIGHT[weight_bits])
    del made.metadata_props[:]  # it drops class names and preprocessing
    made.metadata_props.extend(onnx.load(model).metadata_props)
    return made


def with_int8_weights(graph: onnx.ModelProto, largest: int = LARGEST) -> onnx.ModelProto:
    """`graph` with each quantized weight stored as integers up to `largest` where it held a float: a quarter."""
    held = {one.name: one for one in graph.graph.initializer}
    for node in [one for one in graph.graph.node if one.op_type == "QuantizeLinear" and one.input[0] in held]:
        weight, scale, zero = (numpy_helper.to_array(held[name]) for name in node.input)
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        shape = [-1 if place == axis else 1 for place in range(weight.ndim)] if scale.ndim else []
        scale = scale * np.float32(LARGEST / largest)
        steps = np.rint(weight / scale.reshape(shape)) + zero.reshape(shape)
        stored = np.clip(steps, -largest - 1, largest).astype(np.int8)
        graph.graph.initializer.append(numpy_helper.from_array(stored, node.output[0]))
        held[node.input[1]].CopyFrom(numpy_helper.from_array(scale, node.input[1]))
        graph.graph.node.remove(node)
    used = {name for node in graph.graph.node for name in node.input}
    for one in [one for one in graph.graph.initializer if one.name not in used]:
        graph.graph.initializer.remove(one)
    return graph


def main(folder: Path) -> None:
    """What runs in the process of its own."""
    from modelopt.onnx.quantization import quantize

    job = json.loads((folder / "job.json").read_bytes())
    quantize(
        str(folder / "model.onnx"),
        calibration_data={job["input"]: np.load(folder / "images.npy")},
        calibration_method="max",
        calibration_eps=["cpu"],
        nodes_to_exclude=job["kept"],
        high_precision_dtype="fp32",
        output_path=str(folder / "int8.onnx"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
