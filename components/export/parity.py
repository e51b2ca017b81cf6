"""Whether an ONNX file finds the boxes that the checkpoint finds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from components.export.settings import ExportSettings
from components.shared.detection import Detections, Detector, load_detector, preprocess
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput


def check_parity(
    network: torch.nn.Module, facts: dict[str, Any], graph: Path, files: Sequence[Path], settings: ExportSettings
) -> dict[str, Any]:
    """Compare what both find on real images, place by place before suppression and box by box after it.

    Before suppression every place that scores must agree: that is what decides. After it boxes may stand alone even so,
    since of two neighbours with the same score to the last digit either may suppress the other; they are counted.

    Args:
        network: The checkpoint's, in inference mode.
        facts: Of the checkpoint.
        graph: The ONNX file.
        files: Images.
        settings: Say how far apart boxes may lie.

    Returns:
        Largest differences, counts, and the file's digest and size.

    Raises:
        InvalidInput: a place differs by more than the settings allow.
    """
    images = [image for file in files if (image := cv2.imread(str(file))) is not None]
    ours, theirs = load_detector(graph), _torch_detector(network, facts)
    shift, change = np.max([[0.0, 0.0], *(_raw_differences(ours, theirs, image, settings) for image in images)], axis=0)
    pairs = [detector.detect(images, min_score=settings.parity_min_score) for detector in (ours, theirs)]
    boxes = sum(len(found.scores) for found in pairs[1])
    alone = sum(_alone(one, other, settings) + _alone(other, one, settings) for one, other in zip(*pairs, strict=True))
    if shift > settings.most_shift_px or change > settings.most_score_change:
        raise InvalidInput(
            f"export: on {len(images)} images the ONNX file's boxes lie up to {shift:.3f} px and {change:.5f} in score "
            f"from the checkpoint's, expected at most {settings.most_shift_px} px and {settings.most_score_change}"
        )
    return {
        "images": len(images),
        "boxes": boxes,
        "boxes_alone": alone,
        "largest_shift_px": round(float(shift), 6),
        "largest_score_change": round(float(change), 8),
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


def _raw_differences(
    ours: Detector, theirs: Detector, image: np.ndarray, settings: ExportSettings
) -> tuple[float, float]:
    """Largest edge distance (image px) and score change over all places where either scores."""
    pixels = preprocess([image], ours.image_size_px)
    one, other = ours.infer(pixels)[0], theirs.infer(pixels)[0]
    change = float(np.abs(one[4:] - other[4:]).max())
    scoring = np.maximum(one[4:].max(axis=0), other[4:].max(axis=0)) >= settings.parity_min_score
    if not scoring.any():
        return 0.0, change
    centre, size = np.split(np.abs(one[:4] - other[:4])[:, scoring], 2)
    image_px_per_input_px = max(image.shape[:2]) / max(ours.image_size_px)
    return float((centre + size / 2).max()) * image_px_per_input_px, change


def _alone(one: Detections, other: Detections, settings: ExportSettings) -> int:
    """Boxes of `one` without a counterpart of their class in `other`; scores at the threshold's edge do not count."""
    alone = 0
    for box, score, class_id in zip(one.xyxy_px, one.scores, one.class_ids, strict=True):
        if score < settings.parity_min_score + settings.most_score_change:
            continue
        same = other.class_ids == class_id
        near = np.abs(other.xyxy_px[same] - box).max(axis=1, initial=0.0) <= settings.most_shift_px
        alone += not near.any()
    return alone
