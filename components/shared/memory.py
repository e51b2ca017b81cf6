"""A night costs what is new: work done once for the same inputs, settings and code is fetched, not repeated."""

import functools
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.shared.digests import digest_file, digest_json, digest_path
from components.shared.errors import InvalidInput
from components.shared.store import Store

logger = logging.getLogger(__name__)
COMPONENTS = Path(__file__).resolve().parents[1]


def once(
    store: Store, step: str, inputs: Mapping[str, Any], outputs: Mapping[str, Path], work: Callable[[], None]
) -> bool:
    """Run `work` unless the store remembers its outputs; either way they lie at `outputs` afterwards.

    Args:
        store: Remembers under `runs/<key>/<step>/`.
        step: Folder of the step whose code counts as an input.
        inputs: JSON values and digests that decide the result, settings included.
        outputs: File or folder of each output, by name; emptied before `work` runs.
        work: Fills `outputs`.

    Returns:
        True when the outputs were remembered.
    """
    key = step_key(step, inputs)
    prefix = f"runs/{key}/{step}"
    if store.exists(f"{prefix}/done.json"):
        _bring(store, prefix, outputs)
        logger.info("step=%s remembered key=%s", step, key[:12])
        return True
    for path in outputs.values():
        _empty(path)
    started = time.monotonic()
    work()
    _keep(store, prefix, outputs, time.monotonic() - started)
    return False


def step_key(step: str, inputs: Mapping[str, Any]) -> str:
    """Digest of everything that decides a step's result: its inputs, its code and the shared code."""
    code = {name: code_digest(name) for name in (step, "shared")}
    return digest_json({"step": step, "inputs": dict(inputs), "code": code})


@functools.cache
def code_digest(step: str = "") -> str:
    """Digest of the source of one step, of all of them when empty."""
    folder = COMPONENTS / step
    return digest_json(
        [[path.relative_to(folder).as_posix(), digest_file(path)] for path in sorted(folder.rglob("*.py"))]
    )


def _bring(store: Store, prefix: str, outputs: Mapping[str, Path]) -> None:
    done = json.loads(store.get(f"{prefix}/done.json"))
    for name, path in outputs.items():
        _empty(path)
        if not done["outputs"][name]["file"]:
            path.mkdir(parents=True, exist_ok=True)
        for relative in done["outputs"][name]["names"]:
            store.fetch(f"{prefix}/{name}/{relative}", path if done["outputs"][name]["file"] else path / relative)
        if digest_path(path) != done["outputs"][name]["digest"]:
            raise InvalidInput(f"{store.uri}/{prefix}/{name}: content changed since it was written")


def _keep(store: Store, prefix: str, outputs: Mapping[str, Path], seconds: float) -> None:
    listing = {}
    for name, path in outputs.items():
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        names = [path.name if path.is_file() else file.relative_to(path).as_posix() for file in files]
        for file, relative in zip(files, names, strict=True):
            store.send(file, f"{prefix}/{name}/{relative}")
        listing[name] = {"file": path.is_file(), "names": names, "digest": digest_path(path)}
    store.put(f"{prefix}/done.json", json.dumps({"outputs": listing, "seconds": round(seconds, 3)}).encode())


def _empty(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
