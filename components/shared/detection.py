"""From pixels to boxes, for every artifact and on every machine: what is judged is what runs.

Needs NumPy and OpenCV, and the runtime of the file it loads: ONNX Runtime for .onnx, OpenVINO for .xml.
Letterbox, decoding and suppression give the boxes that Ultralytics gives for the same file.
"""

import ast
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from components.shared.errors import InvalidInput, MissingCapability
from components.shared.plans import load_plan

PAD_VALUE = 114
MAX_CANDIDATES = 30_000
CANDIDATES_AT_ONCE = 256
CLASS_OFFSET_PX = 7680


@dataclass(frozen=True)
class Detections:
    """Boxes found in one image, best score first, in that image's pixels."""

    xyxy_px: np.ndarray
    """(N, 4) float32."""
    scores: np.ndarray
    """(N,) float32."""
    class_ids: np.ndarray
    """(N,) int64."""


@dataclass(frozen=True)
class Detector:
    """A loaded model file with what its metadata says about it. Threads may share it."""

    path: Path
    class_names: tuple[str, ...]
    image_size_px: tuple[int, int]
    """(height, width) of the network input."""
    stride_px: int
    batch_size: int
    """Images a call, 0 where the file takes any number."""
    runtime: str
    infer: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    """(B, 3, H, W) float32 in, raw head out: (B, 4 + classes, N), or (B, N, 6) of a head that needs no suppression."""

    def detect(
        self,
        images: Sequence[np.ndarray],
        min_score: float = 0.001,
        iou: float = 0.7,
        max_detections: int = 300,
        every_class: bool = True,
    ) -> list[Detections]:
        """Boxes of each image.

        Args:
            images: (H, W, 3) uint8 BGR each, of any size.
            min_score: Boxes at or below it are left out.
            iou: Of two boxes of one class that overlap more, the better one stays.
            max_detections: At most so many an image.
            every_class: True keeps a place once for every class above `min_score`, as Ultralytics' validator does and
                mAP wants it; False keeps its best class only, as Ultralytics' predictor does and a device wants it.

        Raises:
            InvalidInput: the model answered with NaN, or with the shape of something that is no detector.
        """
        found: list[Detections] = []
        step = self.batch_size or 8
        for start in range(0, len(images), step):
            batch = images[start : start + step]
            raw = self._raw(batch)
            for image, head in zip(batch, raw, strict=True):
                boxes, scores, class_ids = _candidates(head, len(self.class_names), min_score, every_class)
                if not _is_final(head, len(self.class_names)):
                    kept = keep_best(boxes, scores, class_ids, iou, max_detections)
                    boxes, scores, class_ids = boxes[kept], scores[kept], class_ids[kept]
                boxes = _back_to_image(boxes[:max_detections], image.shape[:2], self.image_size_px)
                found.append(Detections(boxes, scores[:max_detections], class_ids[:max_detections]))
        return found

    def _raw(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        pixels = preprocess(batch, self.image_size_px)
        missing = max(self.batch_size - len(batch), 0)
        if missing:
            pixels = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.float32)])
        raw = self.infer(pixels)[: len(batch)].astype(np.float32, copy=False)
        _check_head(raw, len(self.class_names), self.path)
        return raw


def load_detector(model: Path, threads: int = 0) -> Detector:
    """Load a detector.

    Args:
        model: `.onnx` (ONNX Runtime; a graph with QuantizeLinear runs with exact Q/DQ semantics), `.xml` (OpenVINO) or
            `.plan` (TensorRT, on a GPU).
        threads: Of the runtime; 0 leaves the choice to it.

    Raises:
        InvalidInput: no such file, no model, no detector, or metadata that names no classes.
        MissingCapability: the file's runtime is not installed.
    """
    if not model.is_file():
        raise InvalidInput(f"{model}: no such file, expected a detector (.onnx, .xml or .plan)")
    if model.suffix == ".onnx":
        return _load_onnx(model, threads)
    if model.suffix == ".xml":
        return _load_openvino(model, threads)
    if model.suffix == ".plan":
        infer, shape, facts = load_plan(model)
        return _described(model, facts, shape, "tensorrt", infer)
    raise InvalidInput(f"{model}: got a {model.suffix or 'nameless'} file, expected a detector as .onnx, .xml or .plan")


def letterbox(image: np.ndarray, size_px: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float], tuple[int, int]]:
    """Fit an image into the network input: scaled up or down with its aspect kept, centred, padded with grey.

    Args:
        image: (H, W, 3) uint8.
        size_px: (height, width) to fill.

    Returns:
        The filled image, the (y, x) scale that rounding left, and the (top, left) padding in pixels.

    Source: Ultralytics LetterBox(auto=False), whose rounding this repeats.
    """
    new, (top, left) = _placement(image.shape[:2], size_px)
    scale = new[0] / image.shape[0], new[1] / image.shape[1]
    if image.shape[:2] != new:
        image = cv2.resize(image, (new[1], new[0]), interpolation=cv2.INTER_LINEAR)
    bottom, right = size_px[0] - new[0] - top, size_px[1] - new[1] - left
    filled = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(PAD_VALUE,) * 3)
    return filled, scale, (top, left)


def preprocess(images: Sequence[np.ndarray], size_px: tuple[int, int]) -> np.ndarray:
    """(B, 3, H, W) float32 RGB in 0..1 of BGR images of any size."""
    out = np.empty((len(images), 3, *size_px), np.float32)
    for place, image in zip(out, images, strict=True):
        filled, _, _ = letterbox(image, size_px)
        for channel in range(3):
            np.divide(filled[..., 2 - channel], np.float32(255), out=place[channel])
    return out


def keep_best(boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, iou: float, limit: int) -> np.ndarray:
    """Indices that greedy class-wise suppression keeps, best first, at most `limit`.

    Works through the candidates block by block, best scores first, and stops at the limit.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    # Classes are moved apart by as much, and as coarsely, as Ultralytics does it: near-ties then fall the same way.
    apart = boxes[order] + (class_ids[order, None] * CLASS_OFFSET_PX).astype(np.float32)
    kept = np.zeros(0, np.int64)
    for start in range(0, len(order), CANDIDATES_AT_ONCE):
        block = apart[start : start + CANDIDATES_AT_ONCE]
        alive: np.ndarray = ~_overlap_more(apart[kept], block, iou).any(axis=0)  # type: ignore[assignment]
        among = _overlap_more(block, block, iou)
        for place in range(len(block)):
            if alive[place]:
                alive[place + 1 :] &= ~among[place, place + 1 :]
        kept = np.concatenate([kept, start + np.flatnonzero(alive)])
        if len(kept) >= limit:
            break
    return order[kept[:limit]]


def _overlap_more(first: np.ndarray, second: np.ndarray, iou: float) -> np.ndarray:
    """(A, B) bool: whether boxes as corners overlap by more than `iou`."""
    width = np.minimum(first[:, None, 2], second[:, 2]) - np.maximum(first[:, None, 0], second[:, 0])
    height = np.minimum(first[:, None, 3], second[:, 3]) - np.maximum(first[:, None, 1], second[:, 1])
    both = np.maximum(width, 0) * np.maximum(height, 0)
    areas, others = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second))
    either = areas[:, None] + others - both
    return np.divide(both, either, out=np.zeros_like(both), where=either != 0) > np.float64(iou)


def _placement(shape: tuple[int, ...], size_px: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The resized (height, width) inside `size_px`, and its (top, left) corner."""
    gain = min(size_px[0] / shape[0], size_px[1] / shape[1])
    new = max(round(shape[0] * gain), 1), max(round(shape[1] * gain), 1)
    return new, (round((size_px[0] - new[0]) / 2 - 0.1), round((size_px[1] - new[1]) / 2 - 0.1))


def _is_final(head: np.ndarray, num_classes: int) -> bool:
    """Whether one image's head output is (N, 6) rows of box, score, class, rather than (4 + classes, N)."""
    return head.shape[1] == 6 and head.shape[0] != 4 + num_classes


def _candidates(
    head: np.ndarray, num_classes: int, min_score: float, every_class: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes as corners in the network's frame, scores and class ids of one image's head output."""
    if _is_final(head, num_classes):
        rows = head[head[:, 4] > min_score]
        return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)
    scores = head[4:]
    if every_class:
        class_ids, places = np.nonzero(scores > min_score)
        order = np.argsort(places, kind="stable")
        class_ids, places = class_ids[order], places[order]
    else:
        best = scores.argmax(axis=0)
        places = np.flatnonzero(np.take_along_axis(scores, best[None], axis=0)[0] > min_score)
        class_ids = best[places]
    centre, half = head[:2, places].T, head[2:4, places].T / 2
    return np.concatenate([centre - half, centre + half], axis=1), scores[class_ids, places], class_ids


def _back_to_image(boxes: np.ndarray, shape: tuple[int, ...], size_px: tuple[int, int]) -> np.ndarray:
    """Boxes from the network's frame to an image's pixels, cut at its edges."""
    new, (top, left) = _placement(shape, size_px)
    pad = np.array([left, top, left, top], np.float32)
    gain_y, gain_x = new[0] / shape[0], new[1] / shape[1]
    boxes = (boxes - pad) / np.array([gain_x, gain_y, gain_x, gain_y], np.float32)
    limits = np.array([shape[1], shape[0], shape[1], shape[0]], np.float32)
    return np.clip(boxes, 0, limits).astype(np.float32)


def _check_head(raw: np.ndarray, num_classes: int, path: Path) -> None:
    expected = f"expected (batch, {4 + num_classes}, places) for {num_classes} classes, or (batch, boxes, 6)"
    if raw.ndim != 3 or (raw.shape[1] != 4 + num_classes and raw.shape[2] != 6):
        raise InvalidInput(f"{path}: no detector this reads: its output has shape {raw.shape}, {expected}")
    if not np.isfinite(raw).all():
        raise InvalidInput(f"{path}: the model answers with NaN or infinity: export or quantize it again")


def _load_onnx(model: Path, threads: int) -> Detector:
    try:
        import onnxruntime
    except ImportError as missing:
        raise MissingCapability(f"{model}: needs onnxruntime, which is not installed") from missing

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait by spinning take the cores that other images, or the device's camera, need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if b"QuantizeLinear" in model.read_bytes():
        # Fused INT8 kernels saturate on CPUs without VNNI: run what the Q/DQ graph says, not what a kernel makes of it.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as refusal:  # onnxruntime raises many unrelated types for a bad file
        raise InvalidInput(f"{model}: ONNX Runtime refuses it: {refusal}") from refusal
    source = session.get_inputs()[0]
    kind = np.float16 if source.type == "tensor(float16)" else np.float32
    output = session.get_outputs()[0].name

    def infer(pixels: np.ndarray) -> np.ndarray:
        return session.run([output], {source.name: pixels.astype(kind, copy=False)})[0]

    facts = session.get_modelmeta().custom_metadata_map
    shape = tuple(side if isinstance(side, int) else 0 for side in source.shape)
    return _described(model, facts, shape, "onnxruntime", infer)


def _load_openvino(model: Path, threads: int) -> Detector:
    try:
        import openvino
    except ImportError as missing:
        raise MissingCapability(f"{model}: needs openvino, which is not installed") from missing

    core = openvino.Core()
    # Left to itself, OpenVINO computes in bfloat16 where the CPU can: the same file, other boxes.
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    try:
        graph = core.read_model(model)
        compiled = core.compile_model(graph, "CPU", settings)
    except RuntimeError as refusal:
        raise InvalidInput(f"{model}: OpenVINO refuses it: {refusal}") from refusal
    facts = dict(_openvino_facts(graph))
    shape = tuple(0 if side.is_dynamic else side.get_length() for side in graph.inputs[0].get_partial_shape())

    own = threading.local()

    def infer(pixels: np.ndarray) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return np.array(own.request.infer([pixels])[0])

    return _described(model, facts, shape, "openvino", infer)


def _openvino_facts(graph: object) -> Iterator[tuple[str, str]]:
    """Metadata that the ONNX file carried: OpenVINO keeps it under `framework` in its runtime information."""
    for section in ("framework", "model_info"):
        for name in ("names", "imgsz", "stride"):
            if graph.has_rt_info([section, name]):  # type: ignore[attr-defined]
                yield name, str(graph.get_rt_info([section, name]).value)  # type: ignore[attr-defined]


def _described(
    model: Path, facts: Mapping[str, str], shape: tuple[int, ...], runtime: str, infer: Callable
) -> Detector:
    if len(shape) != 4 or shape[1] not in (0, 3):
        raise InvalidInput(f"{model}: no image detector: input has shape {shape}, expected (batch, 3, height, width)")
    stated = _literal(model, facts, "imgsz", [0, 0])
    height, width = [stated, stated] if isinstance(stated, int) else stated
    size = shape[2] or height, shape[3] or width
    if not all(size):
        raise InvalidInput(f"{model}: input size is neither in the graph nor in metadata `imgsz`: export it again")
    return Detector(
        model, _class_names(model, facts), size, int(_literal(model, facts, "stride", 32)), shape[0], runtime, infer
    )


def _class_names(model: Path, facts: Mapping[str, str]) -> tuple[str, ...]:
    names = _literal(model, facts, "names", {})
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not names or sorted(names) != list(range(len(names))):
        raise InvalidInput(
            f"{model}: metadata `names` is {facts.get('names', 'missing')!r}, expected class names by number from 0, "
            "as in {0: 'bolt', 1: 'nut'}: export it with Ultralytics, or add metadata_props with onnx"
        )
    return tuple(str(names[number]) for number in range(len(names)))


def _literal(model: Path, facts: Mapping[str, str], name: str, default: object):  # type: ignore[no-untyped-def]
    text = facts.get(name, "")
    try:
        return ast.literal_eval(text) if text else default
    except (ValueError, SyntaxError) as fault:
        raise InvalidInput(f"{model}: metadata `{name}` is {text!r}, expected a Python literal") from fault
