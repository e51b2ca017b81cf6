"""A larger network as teacher: its answers at every place beside the labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from components.shared.errors import InvalidInput
from components.train.checkpoint import read_checkpoint
from components.train.network import build_network


@dataclass(frozen=True)
class Teacher:
    """A frozen network and which of its classes are which of ours."""

    network: torch.nn.Module
    ours: list[int]
    theirs: list[int]

    @torch.no_grad()
    def answer(self, pixels: torch.Tensor) -> dict[str, Any]:
        """Raw head outputs of the many-boxes head."""
        return _many_boxes(self.network(pixels)[1])


def read_teacher(path: Path, class_names: Sequence[str], strides: torch.Tensor, device: torch.device) -> Teacher:
    """The teacher in a checkpoint.

    Raises:
        InvalidInput: it cannot be read safely, shares no class with us, or decides at other places.
    """
    content = read_checkpoint(path)
    network = build_network(content["layers"], content["class_names"])
    network.load_state_dict(content["state_dict"])
    network.requires_grad_(False).eval().to(device)
    network.end2end = False
    shared = [name for name in class_names if name in content["class_names"]]
    if not shared or network.stride.tolist() != strides.tolist():
        raise InvalidInput(
            f"teacher {path}: got classes {content['class_names']} at strides {network.stride.tolist()}, expected "
            f"some of {list(class_names)} at {strides.tolist()}"
        )
    ours = [list(class_names).index(name) for name in shared]
    return Teacher(network, ours, [list(content["class_names"]).index(name) for name in shared])


def distance(found: dict[str, Any], taught: dict[str, Any], teacher: Teacher) -> torch.Tensor:
    """How far the student's classes and box edges lie from the teacher's, where the teacher sees something.

    Every place counts by the teacher's best score there: background, which the labels teach well, hardly counts.

    Source: distillation of soft labels, Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """
    student = _many_boxes(found)
    wanted = taught["scores"][:, teacher.theirs].sigmoid()
    weight = wanted.amax(dim=1)
    classes = functional.binary_cross_entropy_with_logits(student["scores"][:, teacher.ours], wanted, reduction="none")
    edges = functional.smooth_l1_loss(_edges(student["boxes"]), _edges(taught["boxes"]), reduction="none")
    return ((classes.sum(dim=1) + edges.mean(dim=1)) * weight).sum() / weight.sum().clamp(min=1.0)


def _many_boxes(found: dict[str, Any]) -> dict[str, Any]:
    return found.get("one2many", found)


def _edges(boxes: torch.Tensor) -> torch.Tensor:
    """(B, 4, N) distances from each place to the box edges, in strides, of raw (B, 4 * bins, N) outputs."""
    batch, channels, places = boxes.shape
    bins = channels // 4
    if bins == 1:
        return boxes
    shares = boxes.view(batch, 4, bins, places).softmax(dim=2)
    return (shares * torch.arange(bins, device=boxes.device, dtype=boxes.dtype).view(1, 1, bins, 1)).sum(dim=2)
