"""The release of a night: one run, one registered version, one bundle, however often it is begun."""

import contextlib
import getpass
import json
import logging
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.release.bundle import lay_out, list_files, write_bundle
from components.release.card import description, model_card
from components.release.mlmodel import log_model
from components.release.policy import release_key
from components.release.projection import DIGEST, project
from components.release.registry import alone, database_file, open_registry, tracking_uri_for
from components.release.settings import ReleaseSettings
from components.release.tracking import RUN_KEY, Night, close_run, find_run, gate_tags, log_night, provenance
from components.shared.errors import InvalidInput, Refused
from components.shared.lease import leased
from components.shared.releases import Release, read_release, release_of_night
from components.shared.signatures import SigningKey
from components.shared.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)
RELEASED = ("approved", "undecided")
"""Verdicts that a reviewer gets to see; an undecided version is a candidate until what is open was waived."""


def release_night(
    paths: dict[str, Path], store: Store, model_name: str, settings: ReleaseSettings, record_folder: Path
) -> dict[str, Any]:
    """Register a night's model and write its bundle; a release that was interrupted is completed, never doubled.

    Args:
        paths: Folders dataset, checkpoint, onnx_model, int8_model, engines, scores, decision; pages intake, augment,
            training, calibration, evaluation.
        record_folder: Gets release.json: version, digests and places.

    Returns:
        The same record, flat.

    Raises:
        Refused: the gate refused the night.
        InvalidInput: an artifact is missing, or they are not of one model and data set.
        MissingCapability: there is no key to seal the bundle with.
        ServiceFault: the registry or the store failed; the same call again completes the release.
    """
    night, key = read_night(paths, model_name, settings), release_key(store)
    tracking_uri = tracking_uri_for(store)
    # Beside a local database the lock is enough; a server may be asked by two pods at once.
    lease = contextlib.nullcontext() if database_file(tracking_uri) else leased(store, f"release/{night.run_key}")
    with alone(tracking_uri, "release"), lease, open_registry(tracking_uri) as client:
        done = release_of_night(store, model_name, night.run_key)
        if done is None:
            done = _complete(client, tracking_uri, night, paths, store, settings, key)
        _describe(client, night, done, f"{store.uri}/{done.prefix}")
        project(client, store, model_name, decided=False)
    return write_record(store, done, tracking_uri, record_folder)


def read_night(paths: dict[str, Path], model_name: str, settings: ReleaseSettings) -> Night:
    """What the artifacts say about the night.

    Raises:
        Refused: the gate refused the night.
        InvalidInput: a file is missing or unreadable, or the artifacts are of different data sets or models.
    """
    decision = _json(paths["decision"] / "decision.json")
    night = Night(
        model_name,
        decision["run_key"],
        settings.author or getpass.getuser(),
        _json(paths["dataset"] / "dataset.json"),
        _json(paths["checkpoint"] / "model.json"),
        _json(paths["scores"] / "scores.json"),
        decision,
    )
    if decision["verdict"] not in RELEASED:
        raise Refused(f"release of {model_name}: the gate's verdict is {decision['verdict']!r}, expected {RELEASED}")
    stated = {decision["dataset"], night.dataset["digest"], night.scores["dataset"]}
    if len(stated) != 1 or decision["model_name"] != model_name:
        raise InvalidInput(
            f"release of {model_name}: decision, scores and data set speak of {sorted(stated)} and model "
            f"{decision['model_name']!r}, expected one data set and {model_name!r}"
        )
    return night


def write_record(store: Store, release: Release, tracking_uri: str, folder: Path) -> dict[str, Any]:
    """release.json of the step's output: where the release lies, in flat values."""
    record = {
        "model_name": release.model_name,
        "version": release.version,
        "run_key": release.record["run_key"],
        "dataset": release.record["dataset"],
        "bundle": f"{store.uri}/{release.prefix}",
        "files": len(release.record["files"]),
        "size_bytes": sum(file["size"] for file in release.record["files"]),
        "map_50_95": release.record["scores_summary"]["float"]["map_50_95"],
        "map_50_95_int8": release.record["scores_summary"]["int8"]["map_50_95"],
        "verdict": release.record["verdict"],
        "open_rules": ", ".join(release.open_rules),
        "registry": tracking_uri.split("@")[-1],
    }
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    beside = folder / ".writing-release.json"
    beside.write_text(json.dumps(record, indent=2) + "\n")
    beside.replace(folder / "release.json")
    logger.info("released model=%s version=%d bundle=%s", release.model_name, release.version, record["bundle"])
    return record


def _complete(
    client: "MlflowClient",
    tracking_uri: str,
    night: Night,
    paths: dict[str, Path],
    store: Store,
    settings: ReleaseSettings,
    key: SigningKey,
) -> Release:
    with tempfile.TemporaryDirectory(prefix="yanshan-release-") as scratch:
        bundle = Path(scratch) / "bundle"
        lay_out(paths, bundle)
        (bundle / "MODEL_CARD.md").write_text(model_card(night, settings))
        with ThreadPoolExecutor(1) as pool:
            files = pool.submit(list_files, bundle)  # 50 MB take as long to read as the registry to answer
            run_id = find_run(client, tracking_uri, night)
            version = _registered(client, night.model_name, night.run_key)
            if not version:
                _register(client, night, run_id, bundle, Path(scratch))
                version = _registered(client, night.model_name, night.run_key)
            record = release_record(night, version, files.result())
        write_bundle(store, record, bundle, key)
    return read_release(store, night.model_name, version)


def _describe(client: "MlflowClient", night: Night, made: Release, place: str) -> None:
    """Tell on the version's and the run's pages what was released, and close the run; the digest's tag comes last."""
    name, version = made.model_name, str(made.version)
    found = [one for one in client.search_model_versions(f"name = '{name}'") if int(one.version) == made.version]
    if not found or found[0].tags.get(DIGEST) == made.digest:
        return  # deleted from the registry, or described already
    run_id = str(found[0].run_id)
    artifacts = f"#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}/artifacts"
    text = description(night, made.version, place, artifacts)
    client.update_model_version(name, version, text)
    client.set_tag(run_id, "mlflow.note.content", text)
    close_run(client, run_id)
    client.set_model_version_tag(name, version, DIGEST, made.digest)


def release_record(night: Night, version: int, files: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of the bundle's release.json; it holds no time and no id, so the same night gives the same bytes."""
    summary = {
        precision: {key: scores.get(key) for key in ("map_50_95", "map_50", "size_bytes", "digest")}
        for precision, scores in night.scores["challenger"].items()
    }
    return {
        "schema": 1,
        "model_name": night.model_name,
        "version": version,
        "run_key": night.run_key,
        "author": night.author,
        "dataset": night.dataset["digest"],
        "class_names": night.dataset["class_names"],
        "test_set": night.scores.get("test_set", ""),
        "champion_version": night.scores.get("champion_version") or 0,
        "verdict": night.decision["verdict"],
        "open_rules": [rule["rule"] for rule in night.decision["rules"] if rule["verdict"] == "undecided"],
        "scores_summary": summary,
        "made_with": provenance(night),
        "files": files,
    }


def _register(client: "MlflowClient", night: Night, run_id: str, bundle: Path, scratch: Path) -> None:
    pages = scratch / "pages"
    for part in ("reports", "scores", "decision"):
        shutil.copytree(bundle / part, pages / part)
    log_night(client, run_id, night, pages)
    model_id = log_model(client, run_id, night, bundle, scratch / "model")
    _ensure_model(client, night.model_name)
    client.create_model_version(
        night.model_name, f"models:/{model_id}", run_id, tags=provenance(night) | gate_tags(night), model_id=model_id
    )


def _registered(client: "MlflowClient", model_name: str, run_key: str) -> int:
    """The version that an interrupted release of this night registered, 0 where there is none."""
    found = client.search_model_versions(f"name = '{model_name}' and tags.`{RUN_KEY}` = '{run_key}'")
    return min((int(one.version) for one in found), default=0)


def _ensure_model(client: "MlflowClient", model_name: str) -> None:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        client.create_registered_model(model_name, description=f"{model_name}: versions wait for `yanshan review`.")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as missing:
        raise InvalidInput(f"release: {path} is missing") from missing
    except ValueError as fault:
        raise InvalidInput(f"release: {path} is not JSON ({fault})") from fault
    if not isinstance(value, dict):
        raise InvalidInput(f"release: {path}: got {type(value).__name__}, expected an object")
    return value
