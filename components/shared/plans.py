"""TensorRT plans on a GPU. A plan is native code: no byte of it is read as one before its digest is what it must be.

Source: TensorRT Python API, https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/
"""

import importlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, MissingCapability

FACTS = "facts.json"
"""Beside a plan: the metadata that its ONNX file carried (names, imgsz, stride)."""
PACKAGES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
Infer = Callable[[np.ndarray], np.ndarray]


def runs_plans() -> bool:
    """Whether this machine has an NVIDIA driver to run a plan on."""
    return shutil.which("nvidia-smi") is not None


def load_plan(plan: Path) -> tuple[Infer, tuple[int, ...], dict[str, str]]:
    """A call that runs the plan on (B, 3, H, W) float32 pixels, its input shape (0 where free), and its metadata.

    Raises:
        InvalidInput: target.json or facts.json is missing beside it, or the plan's bytes are not what target.json says.
        MissingCapability: no GPU, no TensorRT of the version that built it, or no CUDA bindings.
    """
    target, facts = _json(plan.with_name("target.json")), _json(plan.with_name(FACTS))
    data = plan.read_bytes()
    if digest_bytes(data) != target["sha256"]:
        raise InvalidInput(
            f"{plan}: its SHA-256 is {digest_bytes(data)[:12]}, target.json says {target['sha256'][:12]}: not loaded"
        )
    if not runs_plans():
        raise MissingCapability(f"{plan}: a TensorRT plan needs an NVIDIA GPU, nvidia-smi is not installed here")
    trt = _tensorrt(plan, target)
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(data)
    if engine is None:
        raise MissingCapability(f"{plan}: built for another GPU or driver than this machine's; build it here")
    shape = tuple(max(int(side), 0) for side in engine.get_tensor_shape(_names(trt, engine)[0]))
    return _runner(trt, engine), shape, {key: str(value) for key, value in facts.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise InvalidInput(f"{path}: expected the record that the engine's build wrote ({fault})") from fault


def _tensorrt(plan: Path, target: dict[str, Any]) -> ModuleType:
    runtime, wanted = target["runtime"], target["runtime_version"]
    try:
        trt = importlib.import_module(PACKAGES[runtime])
        importlib.import_module("cuda.bindings.runtime")
    except (ImportError, KeyError) as missing:
        raise MissingCapability(f"{plan}: needs {runtime} {wanted} and cuda-bindings, not installed here") from missing
    if trt.__version__ != wanted:
        raise MissingCapability(f"{plan}: built by {runtime} {wanted}, this machine has {trt.__version__}")
    return trt


def _names(trt: Any, engine: Any) -> tuple[str, str]:
    """Names of the one input and of the first output."""
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    return inputs[0], next(name for name in names if name not in inputs)


def _runner(trt: Any, engine: Any) -> Infer:
    """A call with a context, a stream and device memory of its own in every thread."""
    own, (source, target) = threading.local(), _names(trt, engine)
    kinds = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in (source, target)}

    def infer(pixels: np.ndarray) -> np.ndarray:
        if not hasattr(own, "context"):
            own.context, own.memory = engine.create_execution_context(), _Memory()
        given = np.ascontiguousarray(pixels, kinds[source])
        own.context.set_input_shape(source, given.shape)
        answer = np.empty(tuple(own.context.get_tensor_shape(target)), kinds[target])
        places = {source: own.memory.at(source, given.nbytes), target: own.memory.at(target, answer.nbytes)}
        for name, address in places.items():
            own.context.set_tensor_address(name, address)
        own.memory.send(given, places[source])
        if not own.context.execute_async_v3(own.memory.stream):
            raise InvalidInput("the plan failed while it ran; build it again on this machine")
        own.memory.fetch(places[target], answer)
        return answer

    return infer


class _Memory:
    """Device memory of one thread, grown as needed, and its stream."""

    def __init__(self) -> None:
        self._cuda = importlib.import_module("cuda.bindings.runtime")
        self._held: dict[str, tuple[int, int]] = {}
        self.stream = int(self._ask(self._cuda.cudaStreamCreate()))

    def at(self, name: str, count: int) -> int:
        """Address of at least `count` bytes kept under `name`."""
        address, size = self._held.get(name, (0, 0))
        if size < count:
            if address:
                self._ask(self._cuda.cudaFree(address))
            address = int(self._ask(self._cuda.cudaMalloc(count)))
            self._held[name] = (address, count)
        return address

    def send(self, values: np.ndarray, address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._ask(self._cuda.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, kind, self.stream))

    def fetch(self, address: int, values: np.ndarray) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._ask(self._cuda.cudaMemcpyAsync(values.ctypes.data, address, values.nbytes, kind, self.stream))
        self._ask(self._cuda.cudaStreamSynchronize(self.stream))

    def _ask(self, answer: tuple) -> Any:
        """The value of a CUDA call.

        Raises:
            MissingCapability: the GPU refused, most likely for want of memory.
        """
        code, *values = answer
        if code != self._cuda.cudaError_t.cudaSuccess:
            raise MissingCapability(f"CUDA: {code.name}; expected a free GPU with memory for one batch")
        return values[0] if values else None
