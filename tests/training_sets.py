"""Small training sets for tests and benchmarks: objects in a store and the manifest that augment would write."""

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.dataset import ROW_SCHEMA, object_name, write_segment
from components.shared.digests import canonical_json, digest_bytes, digest_json
from components.shared.store import Store

CLASS_NAMES = ("disc", "plate", "ring")
COLOURS = ((40, 60, 220), (220, 120, 30), (50, 190, 60))


def draw_shapes(rng: np.random.Generator, side_px: int) -> tuple[np.ndarray, list[list[float]], list[int]]:
    """A grey noisy image with one to three shapes, their boxes (x0 y0 x1 y1 px) and classes."""
    image = rng.normal(110, 18, (side_px, side_px, 3)).clip(0, 255).astype(np.uint8)
    boxes, classes = [], []
    for _ in range(int(rng.integers(1, 4))):
        kind, radius = int(rng.integers(3)), int(rng.integers(side_px // 10, side_px // 5))
        x, y = (int(rng.integers(radius, side_px - radius)) for _ in range(2))
        if kind == 1:
            cv2.rectangle(image, (x - radius, y - radius), (x + radius - 1, y + radius - 1), COLOURS[kind], -1)
        else:
            cv2.circle(image, (x, y), radius, COLOURS[kind], -1 if kind == 0 else max(radius // 3, 2))
        boxes.append([float(x - radius), float(y - radius), float(x + radius), float(y + radius)])
        classes.append(kind)
    return image, boxes, classes


def shape_rows(store: Store, train: int, val: int, side_px: int, seed: int = 0) -> pa.Table:
    """Rows of drawn images, put into the store as PNG; `repeat` is 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(train + val):
        image, boxes, classes = draw_shapes(rng, side_px)
        split = "train" if place < train else "val"
        rows.append(put_row(store, image, boxes, classes, split, f"shape-{place}"))
    return manifest(rows)


def put_row(store: Store, image: np.ndarray, boxes: list, classes: list[int], split: str, source: str) -> dict:
    """Put a BGR image into the store and return its row."""
    data = cv2.imencode(".png", image)[1].tobytes()
    digest = digest_bytes(data)
    store.put(object_name(digest), data)
    known = {"image_sha256": digest, "format": "png", "width_px": image.shape[1], "height_px": image.shape[0]}
    known |= {"boxes": boxes, "class_ids": classes, "group": source, "split": split, "origin": "human"}
    known |= {"source": source, "batch": "b", "phash": 0, "flags": [], "tags": [], "added_at": "2026-01-01T00:00:00"}
    return known


def manifest(rows: list[dict]) -> pa.Table:
    """Rows as a table with `repeat` 1, ordered by image as the data set reader orders them."""
    rows = sorted(rows, key=lambda row: row["image_sha256"])
    table = pa.Table.from_pylist([{name: row[name] for name in ROW_SCHEMA.names} for row in rows], schema=ROW_SCHEMA)
    return table.append_column("repeat", pa.array([1] * len(table), pa.int32()))


def write_training_set(folder: Path, store: Store, rows: pa.Table, class_names: tuple[str, ...] = CLASS_NAMES) -> Path:
    """The folder that augment would have written."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / "rows.parquet")
    facts = {"dataset": "0" * 64, "store_uri": store.uri, "class_names": list(class_names), "counts": {}}
    (folder / "training_set.json").write_text(json.dumps(facts))
    return folder


def write_version(folder: Path, store: Store, rows: pa.Table, class_names: tuple[str, ...] = CLASS_NAMES) -> Path:
    """A data set version of `rows` in the store, and the artifact folder that names it."""
    manifest = {"name": "main", "class_names": list(class_names), "segments": [write_segment(store, rows)]}
    manifest |= {"parent": "", "test_set": "", "counts": {}, "batches": []}
    store.put(f"datasets/{digest_json(manifest)}.json", canonical_json(manifest))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"digest": digest_json(manifest)}))
    return folder


def release_checkpoint(store: Store, model_name: str, weights: dict, architecture: str, folder: Path) -> None:
    """Put version 1 with this checkpoint into the store and make it the champion."""
    from components.shared.digests import digest_file
    from components.shared.ledger import append_record
    from components.shared.releases import release_prefix
    from components.train.checkpoint import write_checkpoint
    from components.train.network import read_architecture

    facts = {"architecture": architecture, "layers": read_architecture(architecture), "class_names": list(CLASS_NAMES)}
    write_checkpoint(folder / "checkpoint", weights, facts | {"image_size_px": 64, "stride": 32})
    files = [folder / "checkpoint" / name for name in ("model.pt", "model.json")]
    listed = [
        {"path": f"checkpoint/{file.name}", "sha256": digest_file(file), "size": file.stat().st_size} for file in files
    ]
    for file in files:
        store.send(file, f"{release_prefix(model_name, 1)}/checkpoint/{file.name}")
    record = {"model_name": model_name, "version": 1, "run_key": "k", "class_names": list(CLASS_NAMES), "files": listed}
    store.put(f"{release_prefix(model_name, 1)}/release.json", canonical_json(record))
    append_record(store, model_name, {"action": "promote", "champion": 1}, None)
