"""One function a kind of target: each fills its folder and says what it put there."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from components.build_engine.half import write_half
from components.build_engine.latency import load_network, machine, measure, summarise
from components.build_engine.litert_files import load_litert, write_litert
from components.build_engine.ncnn_files import load_ncnn, write_ncnn
from components.build_engine.openvino_ir import write_ir
from components.build_engine.settings import BuildEngineSettings
from components.build_engine.tensorrt import build_plan, find_gpu, load_tensorrt, takes_half_graphs
from components.shared.detection import Detector, load_detector
from components.shared.digests import digest_json
from components.shared.errors import MissingCapability
from components.shared.plans import FACTS
from components.shared.store import Store

FLOAT_FILE, INT8_FILE = "model.onnx", "model.int8.qdq.onnx"


@dataclass(frozen=True)
class Sources:
    """What targets are made from."""

    float_model: Path
    int8_model: Path
    calibration: Path
    """calibration.json, which names the nodes that decode boxes."""
    store: Store
    settings: BuildEngineSettings


@dataclass(frozen=True)
class Made:
    """What a target's folder holds."""

    file: str
    runtime: str
    version: str
    min_version: str
    max_version: str
    """Empty where any later version loads the file."""
    precision: str
    source: Path
    run: Callable[[], object] | None = field(default=None, repr=False)
    """One call of the network on one image; nothing where it cannot run here."""
    detector: Detector | None = field(default=None, repr=False)


def make(target: str, sources: Sources, folder: Path) -> Made:
    """Fill `folder` with `target`.

    Raises:
        InvalidInput: a converter refuses the graph.
        MissingCapability: the converter is not installed, or needs hardware that is not here.
    """
    if target.startswith("openvino-"):
        return _openvino(sources, folder, int8=target == "openvino-int8")
    if target.startswith("tensorrt-"):
        return _tensorrt(sources, folder, target)
    return {"onnx": _onnx, "ncnn": _ncnn, "litert": _litert, "coreml": _coreml}[target](sources, folder)


def measure_made(made: Made, settings: BuildEngineSettings) -> dict[str, float | str]:
    """Latency of a target on one image, or zeros and the reason why it could not be measured."""
    if made.run is None:
        return {"p50": 0.0, "p95": 0.0, "how": "not measured: built ahead of time, no such GPU here"}
    times = measure(made.run, settings.warm_up_runs, settings.timed_runs)
    how = f"{made.runtime}, batch 1, {settings.threads} threads, "
    how += f"{settings.timed_runs} runs after {settings.warm_up_runs}, {machine()}"
    return {**summarise(times), "how": how}


def _openvino(sources: Sources, folder: Path, int8: bool) -> Made:
    source = sources.int8_model if int8 else sources.float_model
    name, version = write_ir(source, folder)
    threads = sources.settings.threads
    return Made(
        file=name,
        runtime="openvino",
        version=version,
        min_version=version.split(".")[0] + ".0",
        max_version="",
        precision="int8" if int8 else "fp32",
        source=source,
        run=load_network(folder / name, "openvino", threads, batch=1),
        detector=load_detector(folder / name, threads),
    )


def _onnx(sources: Sources, folder: Path) -> Made:
    import onnxruntime

    shutil.copyfile(sources.float_model, folder / FLOAT_FILE)
    shutil.copyfile(sources.int8_model, folder / INT8_FILE)
    threads = sources.settings.threads
    return Made(
        file=INT8_FILE,
        runtime="onnxruntime",
        version=onnxruntime.__version__,
        min_version="1.17",
        max_version="",
        precision="int8",
        source=sources.int8_model,
        run=load_network(folder / INT8_FILE, "onnxruntime", threads, batch=1),
        detector=load_detector(folder / INT8_FILE, threads),
    )


def _tensorrt(sources: Sources, folder: Path, target: str) -> Made:
    rtx = target.startswith("tensorrt-rtx-")
    trt = load_tensorrt(rtx)
    half = sources.settings.tensorrt_remainder == "fp16" and takes_half_graphs(trt, rtx)
    graph = sources.int8_model
    if half:
        graph = write_half(sources.int8_model, sources.calibration, folder / "model.int8.fp16.qdq.onnx")
    capability = int(target.rpartition("-sm")[2]) if rtx else 0
    cache = "" if rtx else f"runs/timing-caches/{digest_json([trt.__version__, find_gpu()])}"
    known = sources.store.get(cache) if cache and sources.store.exists(cache) else b""
    plan = build_plan(trt, graph, rtx, capability, known)
    (folder / "model.plan").write_bytes(plan.data)
    facts = {one.key: one.value for one in onnx.load(sources.int8_model, load_external_data=False).metadata_props}
    (folder / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
    if cache:
        sources.store.put(cache, plan.timing_cache)
        (folder / "timing.cache").write_bytes(plan.timing_cache)
    return Made(
        file="model.plan",
        runtime="tensorrt-rtx" if rtx else "tensorrt",
        version=plan.version,
        min_version=plan.version,
        max_version=plan.version,
        precision="int8+fp16" if half else "int8",
        source=sources.int8_model,
    )


def _ncnn(sources: Sources, folder: Path) -> Made:
    reference = load_detector(sources.float_model, sources.settings.threads)
    name, version = write_ncnn(sources.float_model, reference.image_size_px, folder)
    infer = load_ncnn(folder / name, sources.settings.threads)
    pixels = np.zeros((1, 3, *reference.image_size_px), np.float32)
    return Made(
        file=name,
        runtime="ncnn",
        version=version,
        min_version=version,
        max_version="",
        precision="fp16",
        source=sources.float_model,
        run=lambda: infer(pixels),
        detector=replace(reference, path=folder / name, runtime="ncnn", batch_size=1, infer=infer),
    )


def _litert(sources: Sources, folder: Path) -> Made:
    reference = load_detector(sources.float_model, sources.settings.threads)
    path = write_litert(sources.float_model, folder)
    infer = load_litert(path, sources.settings.threads)
    pixels = np.zeros((1, 3, *reference.image_size_px), np.float32)
    return Made(
        file=path.name,
        runtime="litert",
        version=importlib.metadata.version("ai-edge-litert"),
        min_version="2.0",
        max_version="",
        precision="fp32",
        source=sources.float_model,
        run=lambda: infer(pixels),
        detector=replace(reference, path=path, runtime="litert", batch_size=1, infer=infer),
    )


def _coreml(sources: Sources, folder: Path) -> Made:
    raise MissingCapability(
        "the target coreml needs the package coremltools and a Mac: since its release 6 it reads no ONNX, "
        "so the checkpoint must be converted there"
    )
