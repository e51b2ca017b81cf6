"""Released versions: their bundles in the store, and which of them the ledger calls champion."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.digests import digest_bytes, digest_file
from components.shared.errors import InvalidInput
from components.shared.ledger import check_signatures, checked_name, head
from components.shared.signatures import read_trusted, trust_folder
from components.shared.store import Store


@dataclass(frozen=True)
class Release:
    """One whole bundle, `releases/<model_name>/<version>/`."""

    model_name: str
    version: int
    prefix: str
    record: dict[str, Any]
    """Content of release.json: run_key, dataset, class_names, files with digests, scores_summary, ..."""
    digest: str = ""
    """SHA-256 of release.json."""

    @property
    def open_rules(self) -> tuple[str, ...]:
        """Rules that the gate could not decide: a reviewer waives them, with a reason, or the version goes nowhere."""
        return tuple(self.record.get("open_rules", ()))


def release_prefix(model_name: str, version: int) -> str:
    """Folder of a version's bundle in the store."""
    return f"releases/{checked_name(model_name)}/{version}"


def releases(store: Store, model_name: str) -> list[Release]:
    """All whole bundles, oldest version first. A bundle without release.json was never finished and is left out."""
    found = []
    for name in store.list(f"releases/{checked_name(model_name)}"):
        parts = name.split("/")
        if len(parts) == 4 and parts[3] == "release.json" and parts[2].isdigit():
            found.append(int(parts[2]))
    return [read_release(store, model_name, version) for version in sorted(found)]


def read_release(store: Store, model_name: str, version: int) -> Release:
    """The bundle of one version.

    Raises:
        InvalidInput: there is no such version, it was never finished, or its record is of another one.
    """
    prefix = release_prefix(model_name, version)
    name = f"{prefix}/release.json"
    if not store.exists(name):
        raise InvalidInput(f"{store.uri}/{name}: {model_name} has no whole version {version}")
    data = store.get(name)
    try:
        record = json.loads(data)
        stated = (record["model_name"], record["version"])
    except (ValueError, KeyError, TypeError) as fault:
        raise InvalidInput(f"{store.uri}/{name}: not a release record ({fault})") from fault
    if stated != (model_name, version):
        raise InvalidInput(f"{store.uri}/{name}: got the record of {stated}, expected {(model_name, version)}")
    return Release(model_name, version, prefix, record, digest_bytes(data))


def release_of_night(store: Store, model_name: str, run_key: str) -> Release | None:
    """The version that the night `run_key` was released as; None where it was not."""
    return next((one for one in releases(store, model_name) if one.record["run_key"] == run_key), None)


def champion(store: Store, model_name: str) -> Release | None:
    """The version that a reviewer promoted last, from the ledger's head and never from an alias; None before the first.

    Raises:
        InvalidInput: the ledger is broken, or the bundle that it names is not whole or not the one promoted.
        Refused: no trusted reviewer signed the newest record (checked where the list of keys is at hand).
    """
    newest = head(store, model_name)
    if newest is None or not newest.body["champion"]:
        return None
    folder = trust_folder(store)
    if folder is not None and (folder / "reviewers.json").is_file():
        check_signatures(newest, read_trusted(folder / "reviewers.json"))
    release = read_release(store, model_name, newest.body["champion"])
    named = newest.body.get("champion_sha256", release.digest)
    if release.digest != named:
        raise InvalidInput(
            f"{store.uri}/{release.prefix}/release.json: got SHA-256 {release.digest}, the ledger names {named}: "
            "it was changed after the promotion"
        )
    return release


def bring_release(store: Store, release: Release, folder: Path, part: str = "") -> Path:
    """Copy a bundle's files to `folder`, each checked against its digest; those already there are kept.

    Args:
        part: Only what lies under this folder of the bundle, for instance "checkpoint" or "engines/openvino-int8".

    Raises:
        InvalidInput: the bundle has no such part, or a file is not what release.json says.
    """
    wanted = [
        file
        for file in release.record["files"]
        if not part or file["path"] == part or file["path"].startswith(f"{part}/")
    ]
    if not wanted:
        raise InvalidInput(f"{store.uri}/{release.prefix}: no part {part!r} in this bundle")
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: _bring_file(store, release, file, folder), wanted))
    return folder


def _bring_file(store: Store, release: Release, file: dict[str, Any], folder: Path) -> None:
    path = folder / file["path"]
    if ".." in Path(file["path"]).parts or Path(file["path"]).is_absolute():
        raise InvalidInput(f"{store.uri}/{release.prefix}: {file['path']!r} leaves the bundle")
    if path.is_file() and digest_file(path) == file["sha256"]:
        return
    store.fetch(f"{release.prefix}/{file['path']}", path)
    if (got := digest_file(path)) != file["sha256"]:
        path.unlink()
        raise InvalidInput(
            f"{store.uri}/{release.prefix}/{file['path']}: got SHA-256 {got}, expected {file['sha256']}: "
            "the bundle was changed after its release"
        )
