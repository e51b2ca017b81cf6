"""Which model files stand to be measured: the challenger's, its engines', the champion's."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared.errors import InvalidInput
from components.shared.plans import runs_plans
from components.shared.releases import bring_release, champion
from components.shared.store import Store

logger = logging.getLogger(__name__)
FILES = {"float": "model.onnx", "int8": "model.int8.qdq.onnx"}
ENGINE_OF = {"float": ("openvino-fp32", "onnx"), "int8": ("openvino-int8", "onnx-int8")}
"""Targets whose measured latency stands for a model file, the first that is there."""


@dataclass(frozen=True)
class Artifact:
    """One model file."""

    role: str
    """challenger, champion or engine."""
    kind: str
    """float, int8, or the engine's target."""
    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    """What target.json says about the engine that stands for it."""

    @property
    def name(self) -> str:
        return f"{self.role}.{self.kind}"


def challenger_artifacts(
    onnx_folder: Path, int8_folder: Path, engines_folder: Path, engine_targets: Iterable[str]
) -> list[Artifact]:
    """The night's float and INT8 files, and those of its engines that are wanted and were built.

    Raises:
        InvalidInput: one of the two model files is missing.
    """
    targets = read_targets(engines_folder)
    found = [
        Artifact("challenger", kind, _present(folder / FILES[kind]), _facts(targets, kind))
        for kind, folder in (("float", onnx_folder), ("int8", int8_folder))
    ]
    for target in engine_targets:
        file = engines_folder / target / str(targets.get(target, {}).get("file", ""))
        if file.is_file() and (file.suffix in (".xml", ".onnx") or (file.suffix == ".plan" and runs_plans())):
            found.append(Artifact("engine", target, file, targets[target]))
        else:
            logger.info("engine=%s not measured: not built here, or no file that this step runs", target)
    return found


def champion_artifacts(store: Store, model_name: str, folder: Path) -> tuple[int, list[Artifact]]:
    """Version and files of the champion, brought to `folder`; 0 and none before the first promotion.

    Raises:
        InvalidInput: there is a champion, but its bundle lacks a model file: an error, not a first version.
    """
    release = champion(store, model_name)
    if release is None:
        return 0, []
    bring_release(store, release, folder, "models")
    if any(file["path"].startswith("engines/") for file in release.record["files"]):
        bring_release(store, release, folder, "engines")
    targets = read_targets(folder / "engines")
    return release.version, [
        Artifact("champion", kind, _present(folder / "models" / name), _facts(targets, kind))
        for kind, name in FILES.items()
    ]


def read_targets(engines_folder: Path) -> dict[str, dict[str, Any]]:
    """target.json of every engine, by target."""
    files = sorted(engines_folder.glob("*/target.json"))
    return {file.parent.name: json.loads(file.read_bytes()) for file in files}


def _facts(targets: dict[str, dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((targets[target] for target in ENGINE_OF[kind] if target in targets), {})


def _present(path: Path) -> Path:
    if not path.is_file():
        raise InvalidInput(f"{path}: missing, expected the model file of an earlier step or of the champion's bundle")
    return path
