"""Where a fit starts from: the champion, weights that the user names, or nothing."""

import inspect
import logging
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from typing import Any

import torch
from ultralytics.nn.tasks import DetectionModel

from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.releases import bring_release, champion
from components.shared.store import Store
from components.train.checkpoint import read_checkpoint
from components.train.settings import TrainSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Starting weights and what they are called in records; no weights mean from scratch."""

    source: str = "scratch"
    digest: str = ""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    warm: bool = False


def find_start(store: Store, model_name: str, settings: TrainSettings, folder: Path) -> Start:
    """The champion's weights where it has the same architecture, else the user's, else none.

    Raises:
        InvalidInput: the weights cannot be read safely.
    """
    leader = champion(store, model_name) if settings.warm_start else None
    if leader is not None:
        path = bring_release(store, leader, folder / "champion", "checkpoint") / "checkpoint" / "model.pt"
        content = read_checkpoint(path)
        if content["architecture"] == settings.architecture:
            return Start(
                f"champion {model_name} version {leader.version}",
                digest_file(path),
                content["state_dict"],
                tuple(content["class_names"]),
                warm=True,
            )
        logger.info(
            "champion version=%d has architecture=%s, wanted %s: not a start",
            leader.version,
            content["architecture"],
            settings.architecture,
        )
    return _named_weights(Path(settings.weights)) if settings.weights else Start()


def _named_weights(path: Path) -> Start:
    if not path.is_file():
        raise InvalidInput(f"train.weights: got {path}, expected a .pt file")
    source, digest = f"weights {path.name}", digest_file(path)
    try:
        content = read_checkpoint(path)
        return Start(source, digest, content["state_dict"], tuple(content["class_names"]))
    except InvalidInput:
        network = _read_ultralytics(path)
        return Start(source, digest, network.float().state_dict(), tuple(network.names.values()))


def _read_ultralytics(path: Path) -> DetectionModel:
    """The network in a file that Ultralytics saved: a pickle of modules, of which only layer classes are allowed.

    Raises:
        InvalidInput: it names anything else, or holds no network.
    """
    try:
        with torch.serialization.safe_globals(_layer_classes()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as refusal:
        raise InvalidInput(
            f"weights {path}: refused, expected our checkpoint or a network of known layers, got {refusal}"
        ) from refusal
    network = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    if not isinstance(network, DetectionModel):
        raise InvalidInput(f"weights {path}: no network in it, expected one under 'model' or 'ema'")
    return network


def _layer_classes() -> list[Any]:
    """Classes whose instances hold tensors and do nothing while they are unpickled."""
    import ultralytics.nn.modules as layers
    from ultralytics.utils import IterableSimpleNamespace

    homes = (layers, layers.block, layers.conv, layers.head, torch.nn)
    found = [value for home in homes for value in vars(home).values() if inspect.isclass(value)]
    modules = {kind for kind in found if issubclass(kind, torch.nn.Module)}
    return [
        *sorted(modules, key=lambda kind: kind.__qualname__),
        DetectionModel,
        IterableSimpleNamespace,
        PosixPath,
    ]
