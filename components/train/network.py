"""The network: built from an architecture's name, filled from a checkpoint whose classes may differ."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from components.shared.errors import InvalidInput

logger = logging.getLogger(__name__)
OWN = Path(__file__).parent / "architectures"
CLASS_CONV = re.compile(r"\.(?:one2one_)?cv3\.\d+\.2\.(?:weight|bias)$")
"""Parameters of the head with one row a class."""


def read_architecture(name: str) -> dict[str, Any]:
    """Layers of `name` as Ultralytics' model dictionary.

    Raises:
        InvalidInput: neither our folder nor Ultralytics knows it as a detector.
    """
    own = OWN / f"{name}.yaml"
    if own.exists():
        return yaml.safe_load(own.read_text())
    try:
        layers = yaml_model_load(f"{name}.yaml")
    except (FileNotFoundError, OSError) as unknown:
        raise InvalidInput(f"architecture {name!r}: expected a name that `yanshan models` prints") from unknown
    if layers["head"][-1][2] != "Detect":
        raise InvalidInput(f"architecture {name!r}: its head is {layers['head'][-1][2]}, expected Detect")
    layers.pop("yaml_file", None)
    return layers


def build_network(layers: dict[str, Any], class_names: Sequence[str]) -> DetectionModel:
    """A detector with fresh weights from torch's generator."""
    network = DetectionModel(dict(layers), ch=3, nc=len(class_names), verbose=False)
    network.names = dict(enumerate(class_names))
    return network


def take_weights(network: DetectionModel, weights: dict[str, torch.Tensor], old_names: Sequence[str]) -> float:
    """Copy what fits of `weights` into `network`; the head's class rows are matched by class name.

    Returns:
        Share of the network's parameters that were taken.

    Raises:
        InvalidInput: less than half of them fit.
    """
    own = network.state_dict()
    new_names = list(network.names.values())
    taken = {}
    for name, fresh in own.items():
        old = weights.get(name)
        if old is None:
            continue
        if CLASS_CONV.search(name) and list(old_names) != new_names:
            old = _matched_rows(fresh, old, old_names, new_names)
        if old.shape == fresh.shape:
            taken[name] = old.to(fresh.dtype)
    share = sum(own[name].numel() for name in taken) / sum(value.numel() for value in own.values())
    if share < 0.5:
        raise InvalidInput(
            f"starting weights: only {share:.0%} of the network's parameters fit, expected at least half"
        )
    network.load_state_dict(taken, strict=False)
    logger.info(
        "weights taken=%.1f%% classes_known=%d/%d", 100 * share, len(set(old_names) & set(new_names)), len(new_names)
    )
    return share


def _matched_rows(
    fresh: torch.Tensor, old: torch.Tensor, old_names: Sequence[str], new_names: Sequence[str]
) -> torch.Tensor:
    if old.shape[0] != len(old_names) or old.shape[1:] != fresh.shape[1:]:
        return old
    rows = fresh.clone()
    for place, name in enumerate(new_names):
        if name in old_names:
            rows[place] = old[list(old_names).index(name)].to(fresh.dtype)
    return rows
