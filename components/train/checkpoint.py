"""The checkpoint: weights and plain values that load without running anybody's pickle."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput

CLOCKED = ("history", "seconds")
"""Facts that differ between two runs of the same fit."""


def write_checkpoint(folder: Path, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    """Write model.pt (weights and plain values) and model.json (the values alone, and what the clock said).

    Two fits with the same inputs give the same model.pt, byte for byte, on one CPU.

    Args:
        folder: Made if it is missing.
        weights: Tensors by parameter name; stored as float32 where they are floating.
        facts: Plain values; `architecture`, `layers`, `class_names`, `image_size_px` must be among them.

    Returns:
        SHA-256 of model.pt.
    """
    same_every_time = {name: value for name, value in facts.items() if name not in CLOCKED}
    plain = {name: _stored(value) for name, value in weights.items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": plain, **same_every_time}, buffer)
    digest = digest_bytes(buffer.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(buffer.getvalue())
    (folder / "model.json").write_text(json.dumps({**facts, "digest": digest}, indent=1, sort_keys=True))
    return digest


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Contents of a checkpoint that `write_checkpoint` wrote.

    Raises:
        InvalidInput: the file is missing, broken, or would run code when loaded.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as missing:
        raise InvalidInput(f"checkpoint {path}: no such file") from missing
    except Exception as refusal:
        raise InvalidInput(f"checkpoint {path}: expected tensors and plain values only, got {refusal}") from refusal
    if not isinstance(content, dict) or not {"state_dict", "layers", "class_names"} <= content.keys():
        raise InvalidInput(f"checkpoint {path}: expected state_dict, layers and class_names in it")
    return content


def _stored(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    # A copy: a view would drag its whole storage into the file.
    return value.float().clone() if value.is_floating_point() else value.clone()
