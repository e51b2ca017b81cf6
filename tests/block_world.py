"""A small world to judge detectors in: coloured blocks in cells of a grid, and detectors written by hand for them.

A detector sees a cell's mean colour; `sight` is how far from its class's colour it still recognises a block, so that a
planted weakness in one class is one number. Faded blocks are harder, as small or dark things are for real detectors.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.evaluate.evaluate import evaluate_night
from components.evaluate.settings import EvaluateSettings
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.digests import digest_file
from components.shared.ledger import append_record, head
from components.shared.store import Store

CLASS_NAMES = ("red", "green", "blue")
COLOURS_BGR = {"red": (40, 40, 220), "green": (40, 220, 40), "blue": (220, 40, 40)}
GREY = 110
SIDE, CELL = 96, 16


def write_export(folder: Path, images: int, sessions: int, seed: int = 0) -> Path:
    """A COCO export: `images` pictures in `sessions` sessions, even ones by day, odd ones by night."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    entries, annotations = [], []
    for number in range(images):
        session = number % sessions
        shift = ("day", "night")[session % 2]
        picture, boxes, class_ids = draw(rng, dim=0.75 if shift == "night" else 1.0)
        name = f"{seed}-{number}.png"
        cv2.imwrite(str(folder / "images" / name), picture)
        entries.append(
            {"id": number, "file_name": name, "width": SIDE, "height": SIDE, "shift": shift}
            | {"camera": f"cam{session % 3}", "session": f"{seed}-{session}"}
        )
        annotations += [
            {"id": len(annotations) + k, "image_id": number, "category_id": int(kind) + 1, "bbox": box, "iscrowd": 0}
            for k, (box, kind) in enumerate(zip(boxes, class_ids, strict=True), start=1)
        ]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASS_NAMES)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder


def draw(rng: np.random.Generator, dim: float = 1.0) -> tuple[np.ndarray, list[list[int]], np.ndarray]:
    """A picture, its blocks as x y w h, and their classes."""
    picture = np.full((SIDE, SIDE, 3), GREY, np.float32) + rng.normal(0, 6, (SIDE, SIDE, 3))
    cells = rng.choice((SIDE // CELL) ** 2, size=6, replace=False)
    class_ids = rng.integers(0, len(CLASS_NAMES), len(cells))
    boxes = []
    for cell, kind in zip(cells, class_ids, strict=True):
        width, height = rng.integers(11, CELL + 1, 2)
        x, y = (cell % (SIDE // CELL)) * CELL, (cell // (SIDE // CELL)) * CELL
        x, y = int(x + rng.integers(0, CELL - width + 1)), int(y + rng.integers(0, CELL - height + 1))
        fade = rng.uniform(0.25, 1)
        colour = np.array(COLOURS_BGR[CLASS_NAMES[kind]]) * fade + GREY * (1 - fade)
        picture[y : y + height, x : x + width] = colour
        boxes.append([x, y, int(width), int(height)])
    return np.clip(picture * dim, 0, 255).astype(np.uint8), boxes, class_ids


def write_detector(
    path: Path,
    sight: Sequence[float] = (0.75, 0.75, 0.75),
    class_names: Sequence[str] = CLASS_NAMES,
    box_px: float = 14.0,
    score_step: float = 0.0,
) -> Path:
    """An ONNX detector of blocks.

    Args:
        sight: Of each class: the colour distance at which its score is one half.
        box_px: Side of the boxes it answers with.
        score_step: Quantizes the scores with Q/DQ of this scale; 0 leaves them float.
    """
    per_side, num = SIDE // CELL, len(class_names)
    colours = np.array([COLOURS_BGR.get(name, (0, 0, 0))[::-1] for name in class_names], np.float32) / 255
    centres = np.stack(np.meshgrid(*[np.arange(per_side) * CELL + CELL / 2] * 2)).reshape(2, -1)
    boxes = np.concatenate([centres, np.full_like(centres, box_px)]).astype(np.float32)[None]
    weights = {
        "colours": colours[None, :, :, None],
        "sight": np.asarray(sight, np.float32)[None, :, None],
        "boxes": boxes,
        "flat": np.array([1, 1, 3, -1], np.int64),
        "axes": np.array([2], np.int64),
        "sharp": np.float32(12.0),
        "step": np.float32(score_step or 1.0),
        "zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["cells", "flat"], ["seen"]),
        helper.make_node("Sub", ["seen", "colours"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("ReduceSum", ["far", "axes"], ["distance"], keepdims=0),
        helper.make_node("Sub", ["sight", "distance"], ["near"]),
        helper.make_node("Mul", ["near", "sharp"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["float_scores"]),
    ]
    scores = "float_scores"
    if score_step:
        nodes.append(helper.make_node("QuantizeLinear", [scores, "step", "zero"], ["whole"]))
        nodes.append(helper.make_node("DequantizeLinear", ["whole", "step", "zero"], ["scores"]))
        scores = "scores"
    nodes.append(helper.make_node("Concat", ["boxes", scores], ["output0"], axis=1))
    graph = helper.make_graph(
        nodes,
        "blocks",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + num, per_side**2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    names = dict(enumerate(class_names))
    for key, value in {"names": names, "imgsz": [SIDE, SIDE], "stride": CELL, "task": "detect"}.items():
        model.metadata_props.add(key=key, value=str(value))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def take(folder: Path, store: Store, images: int, sessions: int, seed: int = 0) -> Path:
    """Take an export of blocks into the store; returns the `dataset` artifact folder."""
    export = write_export(folder / f"inbox-{seed}" / "export", images, sessions, seed)
    dataset = folder / f"dataset-{seed}"
    settings = IntakeSettings(val_share=0.25, test_share=0.5)
    take_in(export.parent.as_uri(), store, settings, dataset, folder / f"intake-{seed}.html")
    return dataset


def promote(store: Store, model_name: str, version: int, folder: Path, sight: Sequence[float]) -> None:
    """A released and promoted version whose detector has this sight."""
    files = {
        "models/model.onnx": write_detector(folder / "model.onnx", sight),
        "models/model.int8.qdq.onnx": write_detector(folder / "model.int8.qdq.onnx", sight, score_step=1 / 255),
    }
    prefix = f"releases/{model_name}/{version}"
    for name, path in files.items():
        store.send(path, f"{prefix}/{name}")
    listing = [{"path": name, "sha256": digest_file(path), "size": path.stat().st_size} for name, path in files.items()]
    record = {"model_name": model_name, "version": version, "run_key": f"{version:064d}", "files": listing}
    store.put(f"{prefix}/release.json", json.dumps(record).encode())
    entry = {"kind": "promote", "version": version, "champion": version, "actor": "test", "reason": "test"}
    append_record(store, model_name, entry, head(store, model_name))


def evaluate(
    folder: Path,
    store: Store,
    dataset: Path,
    sight: Sequence[float] = (0.75, 0.75, 0.75),
    score_step: float = 1 / 255,
    model_name: str = "blocks",
    **changes,
) -> Path:
    """Evaluate a challenger with this sight; returns the `scores` folder."""
    shutil.rmtree(folder, ignore_errors=True)
    write_detector(folder / "onnx" / "model.onnx", sight)
    write_detector(folder / "int8" / "model.int8.qdq.onnx", sight, score_step=score_step)
    (folder / "engines").mkdir()
    evaluate_night(
        folder / "onnx",
        folder / "int8",
        folder / "engines",
        dataset,
        store,
        model_name,
        EvaluateSettings(**{"resamples": 400} | changes),
        folder / "scores",
        folder / "report.html",
    )
    return folder / "scores"
