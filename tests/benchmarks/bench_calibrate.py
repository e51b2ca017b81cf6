"""What INT8 costs a trained detector: ways to quantize side by side on the frozen test set; random images or chosen.

Needs a workspace with a released detector, such as `make demo` leaves.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.build_engine.latency import load_network, measure
from components.build_engine.openvino_ir import write_ir
from components.calibrate.accuracy import Truth, Yardstick, detect_all, labels
from components.calibrate.choose import choose_images, look_at
from components.calibrate.graph import float_nodes
from components.calibrate.images import network_inputs
from components.calibrate.observe import observe
from components.calibrate.placement import insert_pairs, place
from components.calibrate.quantize import quantize_detector
from components.calibrate.search import limits
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import read_source
from components.shared.dataset import bring_images, read_dataset, read_rows, read_test_rows
from components.shared.errors import InvalidInput
from components.shared.store import Store, open_store


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--workspace", default=".yanshan/demo")
    asked.add_argument("--images", type=int, default=64)
    asked.add_argument("--seeds", type=int, default=10)
    asked.add_argument("--threads", type=int, default=2)
    options = asked.parse_args()
    place_of = Path(options.workspace) / "store"
    releases = sorted(place_of.glob("releases/*/*/models/model.onnx"))
    if not releases:
        print(f"no released detector under {place_of}: run `make demo` first, or name a --workspace")
        return
    model = releases[-1]
    store = open_store(place_of.resolve().as_uri())
    with tempfile.TemporaryDirectory() as folder:
        compare(model, store, Path(folder), options.images, options.seeds, options.threads)


def compare(model: Path, store: Store, folder: Path, count: int, seeds: int, threads: int) -> None:
    version = read_dataset(store, json.loads((model.parents[1] / "release.json").read_bytes())["dataset"])
    train, test = read_rows(store, version, "train"), read_test_rows(store, version)
    truth = truth_of(store, test, folder, version.class_names)
    yardstick = Yardstick(truth, detect_all(model, truth.images, threads))
    print(f"{model}: mAP50-95 {yardstick.map_50_95:.4f} on {len(truth.images)} test images")

    def look(rows: pa.Table) -> np.ndarray:
        return look_at(bring_images(store, rows, folder))

    chosen, held_out = choose_images(train, count, count, 0, look)
    images = bring_images(store, chosen, folder)
    held = truth_of(store, held_out, folder, version.class_names)
    forms = {"FP32": model, "ORT quantize_static, defaults": ort_default(model, images, folder / "ort.onnx")}
    forms["our layout, nothing kept float"] = naive(model, images, folder / "naive.onnx", threads)
    for method in ("min-max", "percentile-99.999", "mse", "entropy", "best"):
        forms[f"ours, {method}"] = folder / f"{method}.onnx"
        settings = CalibrateSettings(method=method, threads=threads, max_loss_points=0.5 if method == "best" else 100)
        quantize_detector(model, images, forms[f"ours, {method}"], settings, held)
    for name, path in forms.items():
        report(name, path, yardstick, folder, threads)
    spreads(model, store, train, yardstick, folder, count, seeds, threads)


def truth_of(store: Store, rows: pa.Table, folder: Path, class_names: tuple[str, ...]) -> Truth:
    return labels(bring_images(store, rows, folder), rows.select(["boxes", "class_ids"]).to_pylist(), class_names)


def report(name: str, path: Path, yardstick: Yardstick, folder: Path, threads: int) -> None:
    found = detect_all(path, yardstick.truth.images, threads)
    loss = yardstick.compare(found)
    target = folder / "ir"
    target.mkdir(exist_ok=True)
    write_ir(path, target)
    try:
        run = load_network(target / "model.xml", "openvino", threads, 1)
        speed = f"OpenVINO {1000 * float(np.median(measure(run, 5, 30))):6.2f} ms"
    except InvalidInput:
        speed = "OpenVINO refuses it"
    worst = max(loss.recall_points.values())
    print(
        f"{name:32} lost {loss.map_points:6.2f} +- {yardstick.margin(found):4.2f} mAP points, worst class recall "
        f"{worst:6.2f}, {path.stat().st_size / 1e6:6.2f} MB, {speed}"
    )


def naive(model: Path, images: list[Path], target: Path, threads: int) -> Path:
    """Every Conv, Add, MaxPool and Resize of the graph, the decoding included."""
    source = read_source(model)
    placement = place(source.model, ())
    inputs = network_inputs(images, source.size_px)
    histograms = observe(source, placement.activations, inputs, len(images), threads)
    target.write_bytes(insert_pairs(source.model, placement, limits(histograms, "min-max")).SerializeToString())
    return target


def ort_default(model: Path, images: list[Path], target: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    source = read_source(model)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs = network_inputs(images, source.size_px)

        def get_next(self) -> dict | None:
            batch = next(self.inputs, None)
            return None if batch is None else {source.input_name: batch}

    quantize_static(str(model), str(target), Reader())
    return target


def spreads(
    model: Path,
    store: Store,
    train: pa.Table,
    yardstick: Yardstick,
    folder: Path,
    count: int,
    seeds: int,
    threads: int,
) -> None:
    """mAP points lost over seeds, with calibration images drawn at random and chosen."""
    source = read_source(model)
    placement = place(source.model, float_nodes(source.model))
    lost: dict[str, list[float]] = {"random": [], "chosen": []}
    for seed in range(seeds):
        drawn = train.take(np.random.default_rng(seed).permutation(train.num_rows)[:count])
        chosen = choose_images(train, count, 1, seed, lambda rows: look_at(bring_images(store, rows, folder)))[0]
        for name, rows in (("random", drawn), ("chosen", chosen)):
            inputs = network_inputs(bring_images(store, rows, folder), source.size_px)
            histograms = observe(source, placement.activations, inputs, count, threads)
            path = folder / "seed.onnx"
            path.write_bytes(insert_pairs(source.model, placement, limits(histograms, "mse")).SerializeToString())
            lost[name].append(yardstick.compare(detect_all(path, yardstick.truth.images, threads)).map_points)
    for name, values in lost.items():
        print(f"{count} {name} images, {seeds} seeds: lost {np.mean(values):.3f} points, spread {np.std(values):.3f}")


if __name__ == "__main__":
    main()
