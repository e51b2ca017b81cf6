"""Whether an ONNX file finds the boxes that the checkpoint finds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from components.export.settings import ExportSettings
from components.shared.detection import Detections, Detector, load_detector
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput


def check_parity(
    network: torch.nn.Module, facts: dict[str, Any], graph: Path, files: Sequence[Path], settings: ExportSettings
) -> dict[str, Any]:
    """Compare the boxes after suppression on real images.

    Args:
        network: The checkpoint's, in inference mode.
        facts: Of the checkpoint.
        graph: The ONNX file.
        files: Images.
        settings: Say how far apart boxes may lie.

    Returns:
        Largest differences, counts, and the file's digest and size.

    Raises:
        InvalidInput: a box is missing, or further off than the settings allow.
    """
    images = [image for file in files if (image := cv2.imread(str(file))) is not None]
    ours, theirs = load_detector(graph), _torch_detector(network, facts)
    exported = ours.detect(images, min_score=settings.parity_min_score / 2)
    trained = theirs.detect(images, min_score=settings.parity_min_score / 2)
    shifts, changes, boxes = [0.0], [0.0], 0
    for place, (one, other) in enumerate(zip(exported, trained, strict=True)):
        shift, change, count = _differences(one, other, settings.parity_min_score)
        if shift > settings.most_shift_px or change > settings.most_score_change:
            raise InvalidInput(
                f"export: on {files[place].name} the ONNX file's boxes lie {shift:.3f} px and {change:.5f} in score "
                f"from the checkpoint's, expected at most {settings.most_shift_px} px and {settings.most_score_change}"
            )
        shifts, changes, boxes = [*shifts, shift], [*changes, change], boxes + count
    return {
        "images": len(images),
        "boxes": boxes,
        "largest_shift_px": round(max(shifts), 6),
        "largest_score_change": round(max(changes), 8),
        "digest": digest_file(graph),
        "size_bytes": graph.stat().st_size,
    }


def _torch_detector(network: torch.nn.Module, facts: dict[str, Any]) -> Detector:
    def infer(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            raw = network(torch.from_numpy(pixels))
        return (raw[0] if isinstance(raw, tuple | list) else raw).numpy()

    size = facts["image_size_px"]
    names = tuple(facts["class_names"])
    return Detector(Path("checkpoint"), names, (size, size), facts["stride"], 0, "torch", infer)


def _differences(one: Detections, other: Detections, min_score: float) -> tuple[float, float, int]:
    """Largest edge distance (px) and score change between boxes above `min_score` and their nearest counterparts.

    The counterpart may lie below `min_score`, so that a score just at the limit does not count as a lost box.
    """
    shift = change = 0.0
    count = 0
    for first, second in ((one, other), (other, one)):
        for box, score, class_id in zip(first.xyxy_px, first.scores, first.class_ids, strict=True):
            if score < min_score:
                continue
            count += first is one
            same = second.class_ids == class_id
            if not same.any():
                return float("inf"), float(score), count
            edges = np.abs(second.xyxy_px[same] - box).max(axis=1)
            scores = np.abs(second.scores[same] - score)
            nearest = np.lexsort((scores, edges.round(2)))[0]
            shift, change = max(shift, float(edges[nearest])), max(change, float(scores[nearest]))
    return shift, change, count
