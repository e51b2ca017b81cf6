"""Ways to make a detector INT8, on three architectures trained on the sample parts: accuracy, size, milliseconds.

    python tests/benchmarks/bench_quantizers.py [--architectures yolov8n,yolo11n,yolo26n] [--workspace FOLDER]

What is trained is kept in the workspace: a second run only quantizes and measures. NVIDIA ModelOpt and NNCF get their
lines where they are installed.
"""

import argparse
import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[2]))

from components.build_engine.latency import load_network, measure
from components.build_engine.openvino_ir import write_ir
from components.calibrate.accuracy import Truth, Yardstick, detect_all
from components.calibrate.choose import choose_images, look_at
from components.calibrate.images import network_inputs
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import read_source
from components.shared.dataset import bring_images, read_dataset, read_rows
from components.shared.errors import InvalidInput, MissingCapability
from pipelines.recipes import demo
from tests.benchmarks.bench_calibrate import truth_of
from tests.benchmarks.sample_parts import Parts

IMAGES, CALIBRATED, THREADS = 480, 64, 2


@dataclass(frozen=True)
class Bench:
    """Images to calibrate on, images to choose by, and the frozen test set."""

    images: list[Path]
    held_out: Truth
    test: Truth
    folder: Path


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--architectures", default="yolov8n,yolo11n,yolo26n")
    asked.add_argument("--workspace", default=".yanshan/bench-quantizers")
    options = asked.parse_args()
    parts = Parts(Path(options.workspace))
    parts.take_in("day", IMAGES, seed=1)
    training_set = parts.training_set("training_set", demo().augment)
    bench = bench_of(parts)
    for name in options.architectures.split(","):
        parts.train(name, training_set, demo().train.changed(architecture=name))
        compare(name, parts.export(name, training_set), bench)


def bench_of(parts: Parts) -> Bench:
    version = read_dataset(parts.store, json.loads((parts.root / "dataset" / "dataset.json").read_bytes())["digest"])
    train, folder = read_rows(parts.store, version, "train"), parts.root / "images"
    chosen, held_out = choose_images(
        train, CALIBRATED, CALIBRATED, 0, lambda rows: look_at(bring_images(parts.store, rows, folder))
    )
    images = bring_images(parts.store, chosen, folder)
    held = truth_of(parts.store, held_out, folder, version.class_names)
    return Bench(images, held, parts.test_truth(), parts.root)


def compare(name: str, model: Path, bench: Bench) -> None:
    yardstick = Yardstick(bench.test, detect_all(model, bench.test.images, THREADS))
    print(f"{name}: {len(bench.test.images)} test images, {len(bench.images)} to calibrate on")
    ways: dict[str, Callable[[Path], object]] = {
        "FP32": lambda target: shutil.copyfile(model, target),
        "FP16": lambda target: half(model, target),
        "INT8, every operator": lambda target: by_onnxruntime(model, bench.images, target, naive=True),
        "INT8, ONNX Runtime's defaults": lambda target: by_onnxruntime(model, bench.images, target),
        "INT8, ModelOpt": lambda target: by_us(model, bench, target, backend="modelopt", max_loss_points=100),
        "INT8, ours": lambda target: by_us(model, bench, target),
    }
    for way, make in ways.items():
        target = bench.folder / name / "form.onnx"
        with contextlib.suppress(MissingCapability):
            make(target)
            print("  " + line(way, target, yardstick), flush=True)


def line(way: str, path: Path, yardstick: Yardstick) -> str:
    found = detect_all(path, yardstick.truth.images, THREADS)
    loss, target = yardstick.compare(found), path.parent / "ir"
    target.mkdir(exist_ok=True)
    write_ir(path, target)
    took = {"OpenVINO": milliseconds(target / "model.xml", "openvino"), "ORT": milliseconds(path, "onnxruntime")}
    return (
        f"{way:30} mAP50-95 {yardstick.map_50_95 - loss.map_points / 100:.3f}, lost {loss.map_points:6.2f} +- "
        f"{yardstick.margin(found):4.2f} points, worst class recall lost {max(loss.recall_points.values()):6.2f}, "
        f"{path.stat().st_size / 1e6:5.2f} MB, " + ", ".join(f"{runtime} {told}" for runtime, told in took.items())
    )


def milliseconds(file: Path, runtime: str) -> str:
    try:
        return f"{1000 * float(np.median(measure(load_network(file, runtime, THREADS, 1), 5, 50))):5.2f} ms"
    except InvalidInput:
        return "refuses it"


def half(model: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), target)


def by_us(model: Path, bench: Bench, target: Path, **changes: Any) -> None:
    settings = CalibrateSettings(threads=THREADS, **changes)
    quantize_detector(model, bench.images, target, settings, bench.held_out)


def by_onnxruntime(model: Path, images: list[Path], target: Path, naive: bool = False) -> None:
    """`quantize_static`: as it comes, or symmetric and per channel over all operators as a first try would be."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    source = read_source(model)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs = network_inputs(images, source.size_px)

        def get_next(self) -> dict | None:
            batch = next(self.inputs, None)
            return None if batch is None else {source.input_name: batch}

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True}
    options = {"per_channel": True, "activation_type": QuantType.QInt8, "extra_options": symmetric} if naive else {}
    quantize_static(str(model), str(target), Reader(), **options)


if __name__ == "__main__":
    main()
