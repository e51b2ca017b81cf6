"""One FP32 detector and some images in, one INT8 Q/DQ file out."""

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from components.calibrate.accuracy import Truth, Yardstick, detect_all, own_truth
from components.calibrate.graph import Graph, float_nodes
from components.calibrate.histogram import Histogram
from components.calibrate.images import network_inputs
from components.calibrate.lint import count_int8_convolutions, lint_qdq
from components.calibrate.nvidia import quantize_by_modelopt
from components.calibrate.observe import observe
from components.calibrate.placement import insert_pairs, place
from components.calibrate.search import (
    Workbench,
    least_bad,
    limits,
    names_of_readers,
    placement_of,
    readers,
    search,
    within,
)
from components.calibrate.sensitivity import noise_by_activation
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import Source, read_source
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput

logger = logging.getLogger(__name__)
PROBED_IMAGES = 8
"""Images on which the noise of each layer is measured."""
RESCUED = "rescued: too noisy in INT8"


def quantize_detector(
    model: Path,
    images: Sequence[Path],
    target: Path,
    settings: CalibrateSettings,
    truth: Truth | None = None,
) -> dict[str, Any]:
    """Write `target`, the INT8 form of `model`, its ranges observed on `images`; `model` is never touched.

    Args:
        model: FP32 ONNX.
        images: Observed.
        target: File to write.
        settings: Method and budget.
        truth: Held-out images with their boxes; where it holds none, ranges are min-max and nothing is rescued.

    Returns:
        What was done, as JSON values: sizes, digests, ranges, which nodes stayed float and why, versions.

    Raises:
        InvalidInput: no detector, no readable image, or a result that TensorRT would refuse.
        Refused: the budget cannot be kept.
    """
    if not images:
        raise InvalidInput(f"calibration of {model}: got no images, expected at least one")
    started = time.monotonic()
    source = read_source(model)
    kept = float_nodes(source.model)
    placement = place(source.model, kept, settings.weight_bits)
    if not placement.nodes:
        raise InvalidInput(f"model {model}: not a detector: no convolution outside its outputs to quantize")
    inputs = network_inputs(images, source.size_px)
    if settings.backend == "modelopt":
        theirs, told = _by_modelopt(model, source, kept, inputs, settings, truth)
        return _finished(model, target, source, theirs, {}, kept, settings) | told
    histograms = observe(source, placement.activations, inputs, len(images), settings.threads)
    if truth is None or not truth.images:
        method = str(settings.method).replace("best", "min-max")
        ranges = limits(histograms, method)
        quantized = insert_pairs(source.model, placement, ranges)
        found: dict[str, Any] = {"method": method, "rescued": {}, "rescued_nodes": [], "trials": []}
    else:
        quantized, found = _searched(model, source, kept, histograms, images, settings, truth)
        ranges = limits(histograms, found["method"])
        kept |= dict.fromkeys(found["rescued_nodes"], RESCUED)
    record = _finished(model, target, source, quantized, ranges, kept, settings)
    logger.info("calibrate images=%d seconds=%.1f", len(images), time.monotonic() - started)
    return record | found


def without_labels(model: Path, images: Sequence[Path], threads: int) -> Truth:
    """FP32's own confident boxes on `images` as the truth.

    Raises:
        InvalidInput: the model's boxes cannot be read, for want of metadata for example.
    """
    from components.shared.detection import load_detector

    return own_truth(images, detect_all(model, images, threads), load_detector(model, threads).class_names)


def _searched(
    model: Path,
    source: Source,
    kept: Mapping[str, str],
    histograms: Mapping[str, Histogram],
    images: Sequence[Path],
    settings: CalibrateSettings,
    truth: Truth,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        yardstick = Yardstick(truth, detect_all(model, truth.images, settings.threads))
        bench = Workbench(source, kept, histograms, yardstick, settings, Path(folder))

        def sensitivity(method: str) -> Mapping[str, float]:
            inputs = network_inputs(images[:PROBED_IMAGES], source.size_px)
            return noise_by_activation(
                source, placement_of(bench), limits(histograms, method), inputs, settings.threads
            )

        chosen, trials, noise = search(bench, sensitivity)
        rescued = names_of_readers(source.model, chosen.rescued)
        return bench.build(chosen.method, chosen.rescued), {
            "method": chosen.method,
            "rescued": rescued,
            "rescued_nodes": sorted(readers(source.model, chosen.rescued) & set(placement_of(bench).nodes)),
            "noise": noise,
            "float_map_50_95": round(yardstick.map_50_95, 5),
            "labelled": truth.labelled,
            "loss": chosen.as_json()["loss"] | {"margin_points": bench.margin(chosen)},
            "int8_share_of_work": chosen.int8_share,
            "trials": [trial.as_json() for trial in trials],
        }


def _by_modelopt(
    model: Path,
    source: Source,
    kept: Mapping[str, str],
    inputs: Iterable[np.ndarray],
    settings: CalibrateSettings,
    truth: Truth | None,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    quantized = quantize_by_modelopt(model, source.input_name, inputs, list(kept), settings.weight_bits)
    found: dict[str, Any] = {"method": "ModelOpt, max", "rescued": {}, "rescued_nodes": [], "trials": []}
    if truth is None or not truth.images:
        return quantized, found
    with tempfile.TemporaryDirectory() as folder:
        yardstick = Yardstick(truth, detect_all(model, truth.images, settings.threads))
        bench = Workbench(source, kept, {}, yardstick, settings, Path(folder))
        trial = bench.judge(quantized, str(found["method"]), ())
        if not within(trial, settings):
            least_bad(bench, [trial])
        told = trial.as_json()["loss"] | {"margin_points": bench.margin(trial)}
    facts = {"float_map_50_95": round(yardstick.map_50_95, 5), "labelled": truth.labelled, "noise": {}}
    return quantized, found | facts | {
        "loss": told,
        "int8_share_of_work": trial.int8_share,
        "trials": [trial.as_json()],
    }


def _finished(
    model: Path,
    target: Path,
    source: Source,
    quantized: onnx.ModelProto,
    ranges: dict[str, float],
    kept: dict[str, str],
    settings: CalibrateSettings,
) -> dict[str, Any]:
    """The graph checked and written, and its record."""
    check_graph(quantized, source, settings, model)
    write_model(quantized, target)
    return _record(model, target, source, quantized, ranges, kept)


def check_graph(quantized: onnx.ModelProto, source: Source, settings: CalibrateSettings, model: Path) -> None:
    """Refuse a graph that breaks TensorRT's rules or changed its inputs and outputs.

    Raises:
        InvalidInput: names the first findings.
    """
    wanted = int(settings.min_int8_convolutions * len(Graph(source.model).convolutions()))
    findings = lint_qdq(quantized, wanted)
    for side in ("input", "output"):
        before, after = (list(getattr(one.graph, side)) for one in (source.model, quantized))
        if before != after:
            findings.append(f"graph: {side}s changed")
    if findings:
        raise InvalidInput(f"INT8 form of {model}: {len(findings)} findings: " + "; ".join(findings[:3]))


def write_model(model: onnx.ModelProto, target: Path) -> None:
    """Write `target` whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        with beside.open("wb") as file:
            file.write(model.SerializeToString(deterministic=True))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def toolkit() -> dict[str, str]:
    """Versions that decide the bytes of the result."""
    import onnxruntime

    told = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
    return told | ({"modelopt": version("nvidia-modelopt")} if find_spec("modelopt") else {})


def _record(model: Path, target: Path, source: Source, quantized: onnx.ModelProto, ranges: dict, kept: dict) -> dict:
    size, float_size = target.stat().st_size, model.stat().st_size
    return {
        "float_sha256": digest_file(model),
        "int8_sha256": digest_file(target),
        "size_bytes": size,
        "float_size_bytes": float_size,
        "size_ratio": round(size / float_size, 4),
        "image_size_px": list(source.size_px),
        "convolutions": len(Graph(source.model).convolutions()),
        "int8_convolutions": count_int8_convolutions(quantized),
        "float_nodes": kept,
        "ranges": ranges,
        "toolkit": toolkit(),
    }
