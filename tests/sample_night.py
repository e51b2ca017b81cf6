"""One night's artifacts in small: a detector that really detects bright squares, and the records around it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.judge.evidence import read_evidence
from components.judge.judge import decide
from components.judge.settings import JudgeSettings

CLASSES = ("red", "green", "blue")
SIDE = 64
CELL = 8
GAIN = 0.05
LOSSES = {"float": 0.0, "int8": 0.004}


def write_night(
    folder: Path,
    run_key: str = "a" * 64,
    dataset: str = "d" * 64,
    model_name: str = "parts",
    map_50_95: float = 0.5,
    champion: int = 0,
    settings: JudgeSettings | None = None,
) -> dict[str, Path]:
    """Artifacts of an approved night under `folder`, as the release step's face hands them over.

    Args:
        champion: Version that the night was measured against; it is five points worse. 0: a first version.
        settings: Of the gate.
    """
    paths = {name: folder / name for name in ("dataset", "checkpoint", "onnx_model", "int8_model", "engines")}
    paths |= {"scores": folder / "scores", "decision": folder / "decision"}
    counts = {"train": 10, "val": 2, "test": 4}
    _json(
        paths["dataset"] / "dataset.json",
        {"digest": dataset, "store_uri": "", "class_names": CLASSES, "counts": counts},
    )
    _file(paths["checkpoint"] / "model.pt", run_key.encode())
    curve = [{"epoch": epoch, "map_50_95": epoch / 10} for epoch in range(3)]
    _json(paths["checkpoint"] / "model.json", {"digest": run_key, "settings": {"epochs": 3}, "curve": curve})
    paths["onnx_model"].mkdir(parents=True)
    onnx.save(square_detector(False), paths["onnx_model"] / "model.onnx")
    paths["int8_model"].mkdir(parents=True)
    onnx.save(square_detector(True), paths["int8_model"] / "model.int8.qdq.onnx")
    _json(paths["engines"] / "openvino-int8" / "target.json", {"target": "openvino-int8"})
    _file(paths["engines"] / "openvino-int8" / "model.bin", b"\x00" * 1000)
    _json(paths["scores"] / "scores.json", scores(dataset, map_50_95, champion))
    np.savez(paths["scores"] / "resamples.npz", **resamples(map_50_95))
    _json(paths["decision"] / "decision.json", decision(paths["scores"], run_key, model_name, settings))
    for name in ("intake", "augment", "training", "calibration", "evaluation"):
        paths[name] = folder / f"{name}.html"
        _file(paths[name], f"<!doctype html><title>{name}</title><h1>{name}</h1>".encode())
    return paths


def scores(dataset: str, map_50_95: float, champion: int) -> dict[str, Any]:
    """scores.json, with the champion beside the challenger where there is one."""
    models = {kind: _measures(map_50_95 - loss) for kind, loss in LOSSES.items()}
    before = {kind: _measures(map_50_95 - loss - GAIN) for kind, loss in LOSSES.items()}
    return {
        "dataset": dataset,
        "test_set": "parts@v1",
        "test_digest": "e" * 64,
        "class_names": list(CLASSES),
        "first_version": not champion,
        "champion_version": champion or None,
        "challenger": models,
        "champion": before if champion else None,
        "differences": {"map_50_95": {"difference": 0.02, "interval": [0.01, 0.03]}},
        "engines": {},
        "parity": {"int8": {"map_50_95": {"value": -0.004}, "recall": {name: {"value": 0.0} for name in CLASSES}}},
        "leaks": 0,
    }


def resamples(map_50_95: float) -> dict[str, np.ndarray]:
    """The bootstrap behind `scores`: 200 redraws, float and INT8 from the same ones."""
    drawn = np.random.default_rng(0).normal(0, 0.002, 200)
    numbers = {}
    for kind, loss in LOSSES.items():
        for role, less in (("challenger", 0.0), ("champion", GAIN)):
            numbers[f"{role}.{kind}.map_50_95"] = map_50_95 - loss - less + drawn
            numbers[f"{role}.{kind}.recall"] = np.repeat(0.9 + drawn[:, None], len(CLASSES), axis=1)
            for shift in ("day", "night"):
                numbers[f"{role}.{kind}.slice.shift.{shift}"] = map_50_95 - loss - less + drawn
    return numbers


def decision(
    scores_folder: Path, run_key: str, model_name: str, settings: JudgeSettings | None = None
) -> dict[str, Any]:
    """What the gate says about `scores`, as the judge step writes it down."""
    settings = settings or JudgeSettings()
    decided = decide(read_evidence(scores_folder, settings), settings, 1)
    return decided | {"run_key": run_key, "model_name": model_name, "decided_at": "2026-01-01T00:00:00.000+00:00"}


def square_detector(quantized: bool) -> onnx.ModelProto:
    """A YOLO-shaped ONNX file: one box a cell, scored by the cell's mean colour; with Q/DQ nodes when `quantized`."""
    cells = (SIDE // CELL) ** 2
    centres = np.stack(np.meshgrid(*[np.arange(SIDE // CELL) * CELL + CELL / 2] * 2), 0).reshape(2, cells)
    boxes = np.concatenate([centres, np.full((2, cells), CELL)])[None].astype(np.float32)
    mix = (2.0 * np.eye(3) - 1.0).astype(np.float32) * 8.0
    constants = {
        "boxes": boxes,
        "mix": mix[None],
        "bias": np.full((1, 3, 1), -4.0, np.float32),
        "shape": np.array([1, 3, cells], np.int64),
        "scale": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
    }
    pooled = "quantized_pool" if quantized else "pool"
    nodes = [helper.make_node("AveragePool", ["images"], ["pool"], kernel_shape=[CELL] * 2, strides=[CELL] * 2)]
    if quantized:
        nodes.append(helper.make_node("QuantizeLinear", ["pool", "scale", "zero"], ["pool_u8"]))
        nodes.append(helper.make_node("DequantizeLinear", ["pool_u8", "scale", "zero"], ["quantized_pool"]))
    nodes += [
        helper.make_node("Reshape", [pooled, "shape"], ["flat"]),
        helper.make_node("MatMul", ["mix", "flat"], ["mixed"]),
        helper.make_node("Add", ["mixed", "bias"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 7, cells])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    facts = {"names": str(dict(enumerate(CLASSES))), "imgsz": str([SIDE, SIDE]), "stride": str(CELL), "task": "detect"}
    helper.set_model_props(model, facts)
    return model


def squares_image() -> np.ndarray:
    """(64, 64, 3) uint8 BGR with one square a class, on the cells' grid."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for index, colour in enumerate([(0, 0, 255), (0, 255, 0), (255, 0, 0)]):
        at = CELL * (1 + 2 * index)
        image[at : at + CELL, at : at + CELL] = colour
    return image


def _measures(map_50_95: float) -> dict[str, Any]:
    one = {"ap_50_95": map_50_95, "ap_50": 0.8, "recall": 0.9, "precision": 0.8, "threshold": 0.4, "boxes": 200}
    shifts = {name: {"map_50_95": map_50_95, "map_50": 0.8, "images": 2, "boxes": 300} for name in ("day", "night")}
    return {
        "digest": "f" * 64,
        "map_50_95": map_50_95,
        "map_50": 0.8,
        "map_75": 0.6,
        "ar_100": 0.7,
        "per_class": dict.fromkeys(CLASSES, one),
        "slices": {"shift": shifts},
        "size_bytes": 1_000_000,
        "latency_ms": 5.0,
    }


def _json(path: Path, value: Any) -> None:
    _file(path, json.dumps(value, indent=1).encode())


def _file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
