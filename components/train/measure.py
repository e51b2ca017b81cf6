"""mAP while training: enough to watch and to choose by, never to judge by."""

import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.metrics import ap_per_class, box_iou
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy

from components.train.machine import Machine
from components.train.pictures import LabeledImages

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def measure(network: DetectionModel, images: LabeledImages, batch_size: int, machine: Machine) -> dict[str, float]:
    """mAP of `network` on `images` at the training size, with the many-boxes head and class-wise suppression.

    Returns:
        `map_50_95`, `map_50`, `precision`, `recall` (at the score with the best F1), means over the classes present.
    """
    network.eval()
    network.end2end = False
    hits, scores, found_classes, true_classes = [], [], [], []
    for start in range(0, len(images), batch_size):
        batch = LabeledImages.collate_fn(
            [images[place] for place in range(start, min(start + batch_size, len(images)))]
        )
        for place, found in enumerate(_detect(network, batch["img"], machine)):
            mine = batch["batch_idx"] == place
            size = torch.tensor(batch["img"].shape[-2:])[[1, 0, 1, 0]]
            truth = xywh2xyxy(batch["bboxes"][mine]) * size
            classes = batch["cls"][mine].flatten()
            hits.append(_matches(found, truth, classes))
            scores.append(found[:, 4].numpy())
            found_classes.append(found[:, 5].numpy())
            true_classes.append(classes.numpy())
    return _summary(*(np.concatenate(part) for part in (hits, scores, found_classes, true_classes)))


@torch.no_grad()
def _detect(network: DetectionModel, pixels: torch.Tensor, machine: Machine) -> list[torch.Tensor]:
    pixels = pixels.to(machine.device).float().div_(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(machine.device.type, machine.dtype, enabled=machine.dtype is not torch.float32):
        raw = network(pixels)
    raw = (raw[0] if isinstance(raw, tuple | list) else raw).float()
    found = non_max_suppression(raw, conf_thres=0.001, iou_thres=0.7, multi_label=True, max_det=300, max_time_img=10.0)
    return [boxes.cpu() for boxes in found]


def _matches(found: torch.Tensor, truth: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
    """(D, 10) bool: whether each box, best score first, claims a true one at each IoU threshold."""
    hits = np.zeros((len(found), len(THRESHOLDS)), bool)
    if not len(found) or not len(truth):
        return hits
    overlap = (box_iou(truth, found[:, :4]) * (classes[:, None] == found[:, 5])).numpy()
    claimed = np.zeros((len(truth), len(THRESHOLDS)), bool)
    columns = np.arange(len(THRESHOLDS))
    for place in np.flatnonzero(overlap.max(axis=0) >= THRESHOLDS[0]):
        free = np.where(claimed, 0, overlap[:, place, None])
        best = free.argmax(axis=0)
        hits[place] = free[best, columns] >= THRESHOLDS
        claimed[best, columns] |= hits[place]
    return hits


def _summary(hits: np.ndarray, scores: np.ndarray, found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    if not len(true) or not hits.any():
        return {"map_50_95": 0.0, "map_50": 0.0, "precision": 0.0, "recall": 0.0}
    _, _, precision, recall, _, ap, *_ = ap_per_class(hits, scores, found, true)
    values = {"map_50_95": ap.mean(), "map_50": ap[:, 0].mean(), "precision": precision.mean(), "recall": recall.mean()}
    return {name: round(float(value), 5) for name, value in values.items()}
