"""A small world to judge detectors in: coloured blocks in cells of a grid, and detectors written by hand for them.

A detector sees a cell's mean colour. Faded blocks and faint stains that are no blocks make it uncertain, and `blind` is
the share of cells in which it misses a class: a planted fault is one number, and equal numbers with another seed are
two models that are equally good but not the same.
"""

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from components.evaluate.evaluate import evaluate_night
from components.evaluate.settings import EvaluateSettings
from components.shared.dataset import ROW_SCHEMA, object_name, write_segment
from components.shared.digests import digest_bytes, digest_file, digest_json
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
    cells = rng.permutation((SIDE // CELL) ** 2)[:12]
    for cell in cells[6:]:
        x, y = (cell % (SIDE // CELL)) * CELL, (cell // (SIDE // CELL)) * CELL
        stain, fade = rng.choice(CLASS_NAMES), rng.uniform(0, 0.4)
        picture[y : y + CELL, x : x + CELL] = np.array(COLOURS_BGR[stain]) * fade + GREY * (1 - fade)
    cells = cells[:6]
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
    blind: Sequence[float] = (0.1, 0.1, 0.1),
    class_names: Sequence[str] = CLASS_NAMES,
    box_px: float = 14.0,
    score_step: float = 0.0,
    seed: int = 0,
) -> Path:
    """An ONNX detector of blocks.

    Args:
        blind: Of each class: the share of cells in which it is never seen.
        box_px: Side of the boxes it answers with.
        score_step: Quantizes the scores with Q/DQ of this scale; 0 leaves them float.
        seed: Which cells are the blind ones.
    """
    per_side, num = SIDE // CELL, len(class_names)
    colours = np.array([COLOURS_BGR.get(name, (0, 0, 0))[::-1] for name in class_names], np.float32) / 255
    centres = np.stack(np.meshgrid(*[np.arange(per_side) * CELL + CELL / 2] * 2)).reshape(2, -1)
    boxes = np.concatenate([centres, np.full_like(centres, box_px)]).astype(np.float32)[None]
    order = [np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(per_side**2) for name in class_names]
    sees = np.array([place >= share * per_side**2 for place, share in zip(order, blind, strict=True)], np.float32)
    weights = {
        "colours": colours[None, :, :, None],
        "sees": sees[None],
        "sight": np.float32(0.75),
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
        helper.make_node("Sigmoid", ["logits"], ["all_scores"]),
        helper.make_node("Mul", ["all_scores", "sees"], ["float_scores"]),
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
    """A data set version of blocks in the store, half of its sessions test; returns the `dataset` artifact folder."""
    export = write_export(folder / f"export-{seed}", images, sessions, seed)
    content = json.loads((export / "labels.json").read_text())
    rows = []
    for image in content["images"]:
        data = (export / "images" / image["file_name"]).read_bytes()
        digest = digest_bytes(data)
        store.put_new(object_name(digest), data)
        own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (one["bbox"] for one in own)]
        rows.append(
            {
                "image_sha256": digest, "format": "png", "width_px": SIDE, "height_px": SIDE, "boxes": boxes,
                "class_ids": [one["category_id"] - 1 for one in own], "group": image["session"],
                "split": ("test", "test", "val", "train")[int(image["session"].split("-")[1]) // 2 % 4],
                "origin": "human", "source": image["file_name"], "batch": "b", "phash": 0, "flags": [],
                "tags": [(tag, image[tag]) for tag in ("shift", "camera")], "added_at": "2026-01-01T00:00:00Z",
            }
        )  # fmt: skip
    frozen = sorted(row["image_sha256"] for row in rows if row["split"] == "test")
    store.put_new(f"testsets/blocks@v{seed + 1}.json", json.dumps({"name": "blocks", "images": frozen}).encode())
    manifest = {"class_names": list(CLASS_NAMES), "batches": ["b"], "parent": "", "counts": {}, "name": "blocks"}
    manifest |= {"segments": [write_segment(store, pa.Table.from_pylist(rows, schema=ROW_SCHEMA))]}
    manifest |= {"test_set": f"blocks@v{seed + 1}"}
    store.put_new(f"datasets/{digest_json(manifest)}.json", json.dumps(manifest).encode())
    dataset = folder / f"dataset-{seed}"
    dataset.mkdir()
    (dataset / "dataset.json").write_text(json.dumps({"digest": digest_json(manifest)}))
    return dataset


def promote(
    store: Store, model_name: str, version: int, folder: Path, blind: Sequence[float] = (0.1, 0.1, 0.1), seed: int = 0
) -> None:
    """A released and promoted version with such a detector."""
    int8 = write_detector(folder / "model.int8.qdq.onnx", blind, score_step=1 / 255, seed=seed)
    files = {
        "models/model.onnx": write_detector(folder / "model.onnx", blind, seed=seed),
        "models/model.int8.qdq.onnx": int8,
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
    blind: Sequence[float] = (0.1, 0.1, 0.1),
    score_step: float = 1 / 255,
    seed: int = 0,
    model_name: str = "blocks",
    **changes,
) -> Path:
    """Evaluate a challenger with such a detector; returns the `scores` folder."""
    shutil.rmtree(folder, ignore_errors=True)
    write_detector(folder / "onnx" / "model.onnx", blind, seed=seed)
    write_detector(folder / "int8" / "model.int8.qdq.onnx", blind, score_step=score_step, seed=seed)
    (folder / "engines").mkdir()
    evaluate_night(
        folder / "onnx",
        folder / "int8",
        folder / "engines",
        dataset,
        store,
        model_name,
        EvaluateSettings(**{"resamples": 300, "num_pictures": 2} | changes),
        folder / "scores",
        folder / "report.html",
    )
    return folder / "scores"
