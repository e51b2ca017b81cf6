"""One FP32 detector and some images in, one INT8 Q/DQ file out."""

import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from components.calibrate.graph import Graph, float_nodes
from components.calibrate.lint import count_int8_convolutions, lint_qdq
from components.calibrate.observe import observe
from components.calibrate.placement import insert_pairs, place
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import Source, read_source
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput

logger = logging.getLogger(__name__)


def quantize_detector(model: Path, images: Sequence[Path], target: Path, settings: CalibrateSettings) -> dict[str, Any]:
    """Write `target`, the INT8 form of `model`, its ranges observed on `images`; `model` is never touched.

    Returns:
        What was done, as JSON values: sizes, digests, ranges, which nodes stayed float and why, versions.

    Raises:
        InvalidInput: no detector, no readable image, or a result that TensorRT would refuse.
    """
    if not images:
        raise InvalidInput(f"calibration of {model}: got no images, expected at least one")
    started = time.monotonic()
    source = read_source(model)
    kept = float_nodes(source.model)
    placement = place(source.model, kept)
    if not placement.nodes:
        raise InvalidInput(f"model {model}: not a detector: no convolution outside its outputs to quantize")
    inputs = network_inputs(images, source.size_px)
    ranges = observe(source, placement.activations, inputs, len(images), settings.threads)
    quantized = insert_pairs(source.model, placement, ranges)
    check_graph(quantized, source, settings, model)
    write_model(quantized, target)
    logger.info("calibrate images=%d seconds=%.1f", len(images), time.monotonic() - started)
    return _record(model, target, source, quantized, ranges, kept)


def network_inputs(images: Iterable[Path], size_px: tuple[int, int]) -> Iterator[np.ndarray]:
    """Each image as the network takes it: (1, 3, H, W) float32 in [0, 1], letterboxed as in serving.

    Raises:
        InvalidInput: an image cannot be read.
    """
    from components.shared.detection import preprocess

    for path in images:
        yield preprocess([read_image(path)], size_px)


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, blue first.

    Raises:
        InvalidInput: the file is no image.
    """
    import cv2

    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InvalidInput(f"image {path}: cannot be read, expected JPEG, PNG, BMP or WebP")
    return image


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

    return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__}


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
