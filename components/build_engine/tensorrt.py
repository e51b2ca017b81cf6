"""TensorRT plans, whatever its version: one function over the API shapes of 10.x, 11.x and TensorRT for RTX.

| version      | how precisions are chosen                          | graph                 |
|--------------|----------------------------------------------------|-----------------------|
| below 10.12  | builder flags INT8 and FP16, Q/DQ as hints         | Q/DQ, FP32 remainder  |
| 10.12 to 10  | STRONGLY_TYPED network: the graph alone            | Q/DQ, FP16 remainder  |
| 11, RTX      | always strongly typed; flags and calibrators gone  | Q/DQ, FP16 remainder  |

A plan is native code: it is built here from ONNX, never taken from elsewhere, and nothing is deserialised.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from components.shared.errors import InvalidInput, MissingCapability

FIRST_STRONGLY_TYPED = (10, 12)
FIRST_ALWAYS_STRONGLY_TYPED = (11, 0)
BROKEN = ((10, 2, 0),)
SHOWN_ERRORS = 3


@dataclass(frozen=True)
class Plan:
    """A built engine."""

    data: bytes
    timing_cache: bytes
    """Empty for TensorRT for RTX, which keeps none: setting one would ask for a GPU."""
    version: str


def load_tensorrt(rtx: bool) -> ModuleType:
    """The installed `tensorrt`, or `tensorrt_rtx`.

    Raises:
        MissingCapability: it is not installed, is a version that is known to be broken, or there is no GPU to build on.
    """
    try:
        if rtx:
            import tensorrt_rtx as module
        else:
            find_gpu()
            import tensorrt as module
    except ImportError as missing:
        name, extra = ("tensorrt-rtx", "rtx") if rtx else ("tensorrt", "tensorrt")
        raise MissingCapability(f"needs the package {name} (extra `{extra}`), which is not installed") from missing
    if not rtx and version_of(module) in BROKEN:
        raise MissingCapability(f"tensorrt {module.__version__} miscompiles detectors: install another version")
    return module


def find_gpu() -> str:
    """Name, compute capability and driver of the first GPU; TensorRT without a driver ends the process.

    Raises:
        MissingCapability: there is none.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        raise MissingCapability("needs an NVIDIA GPU: nvidia-smi is not installed here")
    query = [program, "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode or not answer.stdout.strip():
        raise MissingCapability(
            f"needs an NVIDIA GPU: nvidia-smi says {answer.stderr.strip() or answer.stdout.strip()}"
        )
    return answer.stdout.strip().splitlines()[0]


def version_of(trt: Any) -> tuple[int, ...]:
    """(major, minor, patch) of a TensorRT module."""
    return tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:3])


def takes_half_graphs(trt: Any, rtx: bool) -> bool:
    """Whether the remainder's precision must stand in the graph, rather than in a builder flag."""
    return rtx or version_of(trt) >= FIRST_STRONGLY_TYPED


def build_plan(trt: Any, model: Path, rtx: bool, compute_capability: int = 0, timing_cache: bytes = b"") -> Plan:
    """Build a plan from a Q/DQ ONNX file.

    Args:
        trt: Module that load_tensorrt gave.
        model: ONNX file; its float layers FP16 where `takes_half_graphs`.
        rtx: Whether `trt` is TensorRT for RTX, which builds ahead of time and without a GPU.
        compute_capability: 86, 89, 120...: what RTX builds for; 0 for the GPU at hand.
        timing_cache: What an earlier build on the same GPU, driver and version left; empty for none.

    Raises:
        InvalidInput: parser or builder refuses the graph; the message quotes the parser.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, rtx))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise InvalidInput(f"{model}: TensorRT's parser refuses it: {_refusals(parser)}")
    config = builder.create_builder_config()
    if rtx:
        _aim(trt, config, compute_capability)
    else:
        if version_of(trt) < FIRST_STRONGLY_TYPED:
            config.set_flag(trt.BuilderFlag.INT8)
            config.set_flag(trt.BuilderFlag.FP16)
        config.set_timing_cache(config.create_timing_cache(timing_cache), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InvalidInput(f"{model}: TensorRT {trt.__version__} parsed it but its builder gave no plan")
    kept = b"" if rtx else bytes(config.get_timing_cache().serialize())
    return Plan(bytes(plan), kept, trt.__version__)


def _network_flags(trt: Any, rtx: bool) -> int:
    if not rtx and FIRST_STRONGLY_TYPED <= version_of(trt) < FIRST_ALWAYS_STRONGLY_TYPED:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def _aim(trt: Any, config: Any, compute_capability: int) -> None:
    name = f"SM{compute_capability}"
    if not hasattr(trt.ComputeCapability, name):
        raise InvalidInput(f"TensorRT for RTX {trt.__version__} does not build for {name}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _refusals(parser: Any) -> str:
    errors = [parser.get_error(number) for number in range(min(parser.num_errors, SHOWN_ERRORS))]
    return "; ".join(f"{error.node_name()} ({error.node_operator()}): {error.desc()}" for error in errors)
