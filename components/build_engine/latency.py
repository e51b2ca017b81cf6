"""How fast a model file runs here: the network alone, warmed up, one call after another, median and 95th percentile."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.build_engine.openvino_ir import read_graph
from components.shared.errors import InvalidInput, MissingCapability

RUNTIMES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}
"""What can run a file of that kind."""
FREE_SIDE_PX = 640
"""Height and width where the file leaves them free."""


def measure_file(model: Path, runtime: str, threads: int, warm_up_runs: int, timed_runs: int, batch: int = 1) -> dict:
    """Latency of the network alone; letterbox and suppression are left out.

    Returns:
        `p50` and `p95` in milliseconds a call, and `how` they were measured.

    Raises:
        InvalidInput: the runtime refuses the file, or the file the batch.
        MissingCapability: the runtime is not installed.
    """
    run = load_network(model, runtime, threads, batch)
    times = measure(run, warm_up_runs, timed_runs)
    how = f"{runtime}, batch {batch}, {threads} threads, {timed_runs} runs after {warm_up_runs}, {machine()}"
    return summarise(times) | {"how": how}


def load_network(model: Path, runtime: str, threads: int, batch: int) -> Callable[[], object]:
    """A call that runs the network once on random pixels.

    Raises:
        InvalidInput: no such file, the runtime refuses it, or its batch is fixed to another number.
        MissingCapability: the runtime is not installed.
    """
    if not model.is_file():
        raise InvalidInput(f"{model}: no such file, expected a detector (.onnx or .xml)")
    if runtime not in RUNTIMES.get(model.suffix, ()):
        raise InvalidInput(f"{model}: {runtime} cannot run it, expected one of {RUNTIMES}")
    try:
        return {"onnxruntime": _onnxruntime_call, "openvino": _openvino_call}[runtime](model, threads, batch)
    except ImportError as missing:
        raise MissingCapability(f"{model}: needs {runtime}, which is not installed") from missing
    except InvalidInput:
        raise
    except Exception as refusal:  # both runtimes raise many unrelated types for a bad file
        last = str(refusal).strip().splitlines()[-1]
        raise InvalidInput(f"{model}: {runtime} refuses it at batch {batch}: {last}") from refusal


def _onnxruntime_call(model: Path, threads: int, batch: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 0 for side in source.shape]
    kind = np.float16 if source.type == "tensor(float16)" else np.float32
    pixels = _pixels(shape, batch, model).astype(kind, copy=False)
    return lambda: session.run(None, {source.name: pixels})


def _openvino_call(model: Path, threads: int, batch: int) -> Callable[[], object]:
    import openvino

    graph = read_graph(model) if model.suffix == ".onnx" else openvino.Core().read_model(model)
    shape = [0 if side.is_dynamic else side.get_length() for side in graph.inputs[0].get_partial_shape()]
    pixels = _pixels(shape, batch, model)
    graph.reshape(list(pixels.shape))
    # Left to itself, OpenVINO computes in bfloat16 where the CPU can, which would flatter FP32.
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()
    source = openvino.Tensor(pixels)
    return lambda: request.infer([source])


def _pixels(shape: list[int], batch: int, model: Path) -> np.ndarray:
    if len(shape) != 4:
        raise InvalidInput(f"{model}: not a detector: input has shape {shape}, expected (batch, 3, height, width)")
    if shape[0] not in (0, batch):
        raise InvalidInput(f"{model}: takes batches of {shape[0]} only, got {batch}; export it with a free batch")
    height, width = (side or FREE_SIDE_PX for side in shape[2:])
    return np.random.default_rng(0).random((batch, 3, height, width), np.float32)


def measure(run: Callable[[], object], warm_up_runs: int, timed_runs: int) -> np.ndarray:
    """Seconds of each timed call."""
    for _ in range(warm_up_runs):
        run()
    times = np.empty(timed_runs)
    for place in range(timed_runs):
        started = time.perf_counter()
        run()
        times[place] = time.perf_counter() - started
    return times


def summarise(times: np.ndarray) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    return {name: round(float(np.percentile(times, q)) * 1000, 3) for name, q in (("p50", 50), ("p95", 95))}


def machine() -> str:
    """What this machine calls itself: architecture, processor and cores."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.processor()
    return f"{platform.machine()} {processor}, {os.cpu_count()} cores"
