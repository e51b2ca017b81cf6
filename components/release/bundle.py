"""The bundle of a release: what goes in, under which names, and how it is written so that half is never whole."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.release.seal import seal, seal_name
from components.shared.digests import canonical_json, digest_bytes, digest_file
from components.shared.errors import InvalidInput
from components.shared.releases import release_prefix
from components.shared.signatures import SigningKey
from components.shared.store import Store

REPORTS = ("intake", "augment", "training", "calibration", "evaluation")
PLACES = {
    "checkpoint": "checkpoint",
    "onnx_model": "models",
    "int8_model": "models",
    "engines": "engines",
    "scores": "scores",
    "decision": "decision",
    "dataset": "dataset",
}
"""Folder of the bundle for every artifact that comes as a folder."""


def lay_out(paths: dict[str, Path], folder: Path) -> None:
    """Gather a night's artifacts under the bundle's names, by link where the disk allows.

    Raises:
        InvalidInput: an artifact is missing or empty, or two of them claim one name.
    """
    for name, place in PLACES.items():
        files = [file for file in sorted(paths[name].rglob("*")) if file.is_file()]
        if not files:
            raise InvalidInput(f"release: artifact {name!r} at {paths[name]} is empty, expected its files")
        for file in files:
            _place(file, folder / place / file.relative_to(paths[name]))
    for name in REPORTS:
        if not paths[name].is_file():
            raise InvalidInput(f"release: report {name!r} at {paths[name]} is missing")
        _place(paths[name], folder / "reports" / f"{name}.html")


def list_files(folder: Path) -> list[dict[str, Any]]:
    """path, sha256 and size of every file below `folder`, in order of their paths."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(digest_file, files))
    return [
        {"path": file.relative_to(folder).as_posix(), "sha256": digest, "size": file.stat().st_size}
        for file, digest in zip(files, digests, strict=True)
    ]


def release_bytes(record: dict[str, Any]) -> bytes:
    """release.json as it is written and signed: the same record always gives the same bytes."""
    canonical_json(record)
    return (json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def write_bundle(store: Store, record: dict[str, Any], folder: Path, key: SigningKey) -> None:
    """Send the files, then the seal, then release.json: a bundle without it was never finished.

    Args:
        folder: The bundle's files; the seal is made beside it.
        key: Seals the bundle.

    Raises:
        InvalidInput: another night already holds this version's place.
    """
    prefix = release_prefix(record["model_name"], record["version"])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: store.send(folder / file["path"], f"{prefix}/{file['path']}"), record["files"]))
    data = release_bytes(record)
    signature = folder.with_name("release.sig")
    seal([*record["files"], {"path": "release.json", "sha256": digest_bytes(data)}], key, signature)
    store.send(signature, seal_name(prefix, data))
    if not store.put_new(f"{prefix}/release.json", data) and store.get(f"{prefix}/release.json") != data:
        raise InvalidInput(
            f"{store.uri}/{prefix}: another release already holds this place; the registry gave its number out again: "
            "`yanshan registry verify` says what differs"
        )


def _place(source: Path, target: Path) -> None:
    if target.exists():
        raise InvalidInput(f"release: {source} and another artifact both claim {target.name!r} in the bundle")
    link_or_copy(source.resolve(), target)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name where the disk allows, else its copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
