"""A detector small enough to write by hand, and pictures for it: red, green and blue discs on grey.

Its graph is a YOLO in miniature: strided convolutions with SiLU, a pooling, a residual sum, two output convolutions,
box decoding and a concatenation. It really finds the discs, in a millisecond.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from components.shared.dataset import ROW_SCHEMA, object_name, write_segment
from components.shared.digests import digest_bytes, digest_json
from components.shared.store import Store

SIDE_PX = 96
RADIUS_PX = 12
CLASS_NAMES = ("red", "green", "blue")
STRIDE_PX = 8
CELLS = SIDE_PX // STRIDE_PX


def write_detector(path: Path, outlier: float = 0.0, batch: int = 1, opset: int = 19, blind: bool = False) -> Path:
    """Write the detector; `outlier` is what one channel holds that no answer depends on; a blind one finds nothing."""
    body = _Body(np.random.default_rng(0))
    x = body.block("backbone.0", "images", _colours(outlier), stride=2)
    x = body.block("backbone.1", x, _smoothing(8, 3), stride=2)
    x = body.node("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
    x = body.block("backbone.2", x, _smoothing(8, 3), stride=2)
    x = body.node("Add", [x, body.block("backbone.3", x, 0.1 * _smoothing(8, 3))])
    classes = body.block("head.classes", x, _smoothing(8, 3))
    classes = body.conv("head.classes.out", classes, _pick_colours(), bias=-99.0 if blind else -9.0)
    boxes = body.block("head.boxes", x, _smoothing(8, 3))
    boxes = body.conv("head.boxes.out", boxes, np.full((4, 8, 1, 1), 1e-3, np.float32), bias=RADIUS_PX / STRIDE_PX)
    body.decode(boxes, classes, batch)
    _save(body, path, batch, opset)
    return path


class _Body:
    """Nodes and weights as they are added."""

    def __init__(self, random: np.random.Generator) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = random

    def constant(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"/{output}", **attributes))
        return output

    def conv(self, name: str, x: str, weights: np.ndarray, stride: int = 1, bias: float = 0.0) -> str:
        weight = self.constant(f"{name}.weight", weights.astype(np.float32))
        offset = self.constant(f"{name}.bias", np.full(weights.shape[0], bias, np.float32))
        pad = weights.shape[-1] // 2
        return self.node("Conv", [x, weight, offset], name, strides=[stride, stride], pads=[pad] * 4)

    def block(self, name: str, x: str, weights: np.ndarray, stride: int = 1) -> str:
        x = self.conv(name, x, weights, stride)
        return self.node("Mul", [x, self.node("Sigmoid", [x])])

    def decode(self, boxes: str, classes: str, batch: int) -> None:
        cells = CELLS * CELLS
        y, x = np.divmod(np.arange(cells), CELLS)
        centres = self.constant("centres", np.stack([x, y])[None].astype(np.float32) + 0.5)
        halves = self.constant("halves", np.array([2, 2], np.int64))
        flat = self.node("Reshape", [boxes, self.constant("four", np.array([batch or -1, 4, cells], np.int64))])
        near, far = "near", "far"
        self.nodes.append(helper.make_node("Split", [flat, halves], [near, far], name="/split", axis=1))
        low, high = self.node("Sub", [centres, near]), self.node("Add", [centres, far])
        half = self.constant("half", np.array(0.5, np.float32))
        centre = self.node("Mul", [self.node("Add", [low, high]), half])
        box = self.node("Concat", [centre, self.node("Sub", [high, low])], axis=1)
        box = self.node("Mul", [box, self.constant("stride", np.array(STRIDE_PX, np.float32))])
        shape = self.constant("three", np.array([batch or -1, len(CLASS_NAMES), cells], np.int64))
        scores = self.node("Sigmoid", [self.node("Reshape", [classes, shape])])
        self.node("Concat", [box, scores], "output0", axis=1)


def _colours(outlier: float) -> np.ndarray:
    """Channels 0 to 2: how much more of one colour than of the others; 3 to 6: noise; 7: brightness times `outlier`."""
    weights = np.random.default_rng(1).normal(0, 0.05, (8, 3, 3, 3))
    for colour in range(3):
        weights[colour] = -0.5 * 8 / 9
        weights[colour, colour] = 8 / 9
    weights[7] = outlier / 27
    return weights


def _smoothing(channels: int, size: int) -> np.ndarray:
    """Every channel averaged over its neighbourhood; the last one, which may hold the outlier, is not passed on."""
    weights = np.random.default_rng(2).normal(0, 1e-3, (channels, channels, size, size))
    weights[:, 7] = 0
    for channel in range(channels - 1):
        weights[channel, channel] += 1 / size**2
    return weights


def _pick_colours() -> np.ndarray:
    weights = np.zeros((len(CLASS_NAMES), 8, 1, 1))
    for colour in range(len(CLASS_NAMES)):
        weights[colour, colour] = 2.5
    return weights


def _save(body: _Body, path: Path, batch: int, opset: int) -> None:
    free = batch or "batch"
    source = helper.make_tensor_value_info("images", TensorProto.FLOAT, [free, 3, SIDE_PX, SIDE_PX])
    result = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [free, 7, CELLS * CELLS])
    graph = helper.make_graph(body.nodes, "discs", [source], [result], body.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    facts = {"names": str(dict(enumerate(CLASS_NAMES))), "imgsz": str([SIDE_PX, SIDE_PX]), "stride": str(STRIDE_PX)}
    helper.set_model_props(model, facts | {"task": "detect"})
    onnx.save(model, path)


def draw_discs(seed: int) -> tuple[np.ndarray, list[list[float]], list[int]]:
    """A picture, its boxes (corners in pixels) and class ids: two discs in opposite quarters."""
    random = np.random.default_rng(seed)
    image = random.normal(110, 6, (SIDE_PX, SIDE_PX, 3)).clip(0, 255).astype(np.uint8)
    boxes, class_ids = [], []
    for x, y in ((26, 26), (70, 70)):
        x, y = x + int(random.integers(-8, 9)), y + int(random.integers(-8, 9))
        colour = int(random.integers(len(CLASS_NAMES)))
        paint = [40, 40, 40]
        paint[2 - colour] = int(random.integers(190, 250))
        cv2.circle(image, (x, y), RADIUS_PX, paint, -1)
        boxes.append([float(side) for side in (x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX, y + RADIUS_PX)])
        class_ids.append(colour)
    return image, boxes, class_ids


def write_pictures(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    """`count` PNG files of discs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:04}.png" for seed in range(first_seed, first_seed + count)]
    for seed, path in enumerate(paths, start=first_seed):
        cv2.imwrite(str(path), draw_discs(seed)[0])
    return paths


def write_dataset(store: Store, artifact: Path, train: int, val: int = 4) -> Path:
    """A data set version of disc pictures in `store`, and the artifact folder that names it."""
    rows = []
    for seed in range(train + val):
        image, boxes, class_ids = draw_discs(seed)
        data = cv2.imencode(".png", image)[1].tobytes()
        digest = digest_bytes(data)
        store.put_new(object_name(digest), data)
        shift = "night" if seed % 3 == 0 else "day"
        rows.append(
            {
                "image_sha256": digest, "format": "png", "width_px": SIDE_PX, "height_px": SIDE_PX, "boxes": boxes,
                "class_ids": class_ids, "group": f"g{seed}", "split": "train" if seed < train else "val",
                "origin": "human", "source": f"{seed}.png", "batch": "b", "phash": seed, "flags": [],
                "tags": [("shift", shift), ("camera", f"c{seed % 2}")], "added_at": "2026-01-01T00:00:00Z",
            }
        )  # fmt: skip
    segment = write_segment(store, pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
    manifest = {"class_names": list(CLASS_NAMES), "segments": [segment], "batches": ["b"], "parent": ""}
    manifest |= {"test_set": "main@v1", "counts": {}, "name": "main"}
    store.put_new(f"datasets/{digest_json(manifest)}.json", json.dumps(manifest).encode())
    artifact.mkdir(parents=True)
    (artifact / "dataset.json").write_text(json.dumps({"digest": digest_json(manifest)}))
    return artifact
