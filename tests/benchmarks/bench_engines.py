"""INT8 on this CPU: our OpenVINO form against FP32 on OpenVINO and ONNX Runtime, and NNCF's where it is installed.

Untrained weights at 640 px; every runtime takes its turn in each round, so that other work on the machine slows all.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from components.build_engine.latency import load_network
from components.build_engine.openvino_ir import write_ir
from components.calibrate.graph import float_nodes
from components.calibrate.images import network_inputs
from components.calibrate.observe import observe
from components.calibrate.placement import place
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import read_source
from tests.disc_detector import draw_discs

os.environ.setdefault("YOLO_OFFLINE", "true")
SIZE_PX = 640


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--models", default="yolov8n,yolo11n,yolo26n")
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--rounds", type=int, default=15)
    asked.add_argument("--images", type=int, default=128, help="of the calibration that is timed")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = draw(Path(folder) / "images", options.images)
        for name in options.models.split(","):
            compare(export(name, Path(folder)), images, options.threads, options.rounds)


def draw(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{seed:04}.png" for seed in range(count)]
    for seed, path in enumerate(paths):
        cv2.imwrite(str(path), cv2.resize(draw_discs(seed)[0], (SIZE_PX, SIZE_PX)))
    return paths


def export(name: str, folder: Path) -> Path:
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    with contextlib.chdir(folder):
        YOLO(f"{name}.yaml", verbose=False).export(
            format="onnx", opset=19, simplify=False, imgsz=SIZE_PX, verbose=False
        )
    return folder / f"{name}.onnx"


def compare(model: Path, images: list[Path], threads: int, rounds: int) -> None:
    int8 = model.with_suffix(".int8.onnx")
    settings, bare, seconds, record = CalibrateSettings(method="min-max"), np.inf, np.inf, {}
    for _ in range(2):
        bare = min(bare, timed(lambda: forward(model, images))[1])
        record, took = timed(lambda: quantize_detector(model, images, int8, settings))
        seconds = min(seconds, took)
    few, many = (peak_memory(model, seen) for seen in (images[: len(images) // 4], images))
    print(f"{model.stem:8} peak memory: {len(images)} images {many:.0f} MB, a quarter of them {few:.0f} MB")
    folders = {name: model.parent / f"{model.stem}-{name}" for name in ("fp32", "int8")}
    for name, source in (("fp32", model), ("int8", int8)):
        folders[name].mkdir()
        write_ir(source, folders[name])
    runs = {
        "ours": load_network(folders["int8"] / "model.xml", "openvino", threads, 1),
        "OpenVINO FP32": load_network(folders["fp32"] / "model.xml", "openvino", threads, 1),
        "ONNX Runtime FP32": load_network(model, "onnxruntime", threads, 1),
    }
    with contextlib.suppress(ImportError):
        runs["NNCF INT8"] = load_network(with_nncf(folders["fp32"] / "model.xml", images), "openvino", threads, 1)
    times = interleave(runs, rounds)
    ours = np.median(times["ours"])
    for name, took_ms in times.items():
        print(
            f"{model.stem:8} {name:18} median {np.median(took_ms):7.1f} ms  p95 {np.percentile(took_ms, 95):7.1f} ms  "
            f"over ours {np.median(took_ms) / ours:5.2f}"
        )
    print(
        f"{model.stem:8} file {record['size_ratio']:.3f} of FP32; calibration of {len(images)} images "
        f"{seconds:.1f} s, {seconds / bare:.2f} of the bare forward passes ({bare:.1f} s)"
    )


def interleave(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        for name, run in runs.items():
            run()
            _, seconds = timed(run)
            if turn >= 2:
                times[name].append(1000 * seconds)
    return {name: np.array(took) for name, took in times.items()}


def forward(model: Path, images: list[Path]) -> None:
    """What calibration cannot do without: each image read, letterboxed, and through the FP32 network once."""
    import onnxruntime

    source = read_source(model)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for pixels in network_inputs(images, source.size_px):
        session.run(None, {source.input_name: pixels})


def peak_memory(model: Path, images: list[Path]) -> float:
    """Megabytes of a process of its own that observes the images."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_observe, (model, images))


def _observe(model: Path, images: list[Path]) -> float:
    source = read_source(model)
    tensors = place(source.model, float_nodes(source.model)).activations
    observe(source, tensors, network_inputs(images, source.size_px), len(images), threads=2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def with_nncf(xml: Path, images: list[Path]) -> Path:
    """As Ultralytics' `export format=openvino int8=True` quantizes: NNCF's mixed preset, head and Sigmoids left out."""
    import nncf
    import openvino

    graph = openvino.Core().read_model(xml)
    inputs = list(network_inputs(images, (SIZE_PX, SIZE_PX)))
    names = {op.get_friendly_name(): op.get_type_name() for op in graph.get_ops() if op.get_type_name() != "Constant"}
    head = max(int(found[1]) for name in names if (found := re.match(r"/model\.(\d+)/", name)))
    left_out = [name for name, kind in names.items() if kind == "Sigmoid" or name.startswith(f"/model.{head}/")]
    scope = nncf.IgnoredScope(names=left_out, validate=False)
    mixed = nncf.QuantizationPreset.MIXED
    quantized = nncf.quantize(graph, nncf.Dataset(inputs), preset=mixed, ignored_scope=scope)
    target = xml.with_name("nncf.xml")
    openvino.save_model(quantized, target, compress_to_fp16=False)
    return target


def timed(work: Callable) -> tuple:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
