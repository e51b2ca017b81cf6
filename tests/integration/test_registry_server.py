"""The registry as a cluster runs it: MLflow behind the guard on PostgreSQL and SeaweedFS, and ways around it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import requests

from components.release.audit import read_lines
from components.release.promotion import promote
from components.release.release import release_night
from components.release.settings import ReleaseSettings
from components.release.uptake import take_up
from components.release.verification import verify
from components.shared.errors import Refused
from components.shared.ledger import read_ledger
from components.shared.releases import champion
from components.shared.store import Store, open_store
from tests.registry_server import PASSWORD, RegistryServer, postgres_server, registry_server
from tests.sample_night import write_night
from tests.servers import BUCKET, object_server

pytestmark = pytest.mark.slow
MODEL = "parts"
API = "api/2.0/mlflow"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    root, before = tmp_path_factory.mktemp("server"), dict(os.environ)
    (root / "weed").mkdir()
    with object_server(root / "weed") as s3, postgres_server() as database:
        os.environ.update(s3)
        os.environ["AWS_ENDPOINT_URL_S3"] = s3["AWS_ENDPOINT_URL"]
        with registry_server(root, database, s3) as served:
            os.environ["YANSHAN_TRUST"] = str(served.trust)
            os.environ["YANSHAN_SIGNING_KEY"] = str(served.trust / "release.pem")
            yield served
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def store(server: RegistryServer) -> Store:
    return open_store(f"s3://{BUCKET}/store")


def become(server: RegistryServer, name: str) -> None:
    os.environ.update(server.as_user(name))


def release(server: RegistryServer, store: Store, letter: str, before: int) -> dict:
    become(server, "pipeline")
    paths = write_night(Path(tempfile.mkdtemp(dir=server.root)), run_key=letter * 64, champion=before)
    return release_night(paths, store, MODEL, ReleaseSettings(author="nightly"), server.root / "record")


def ask(server: RegistryServer, user: str, method: str, tail: str, body=None, **more) -> int:
    url = f"{server.uri}/{tail}"
    return requests.request(method, url, json=body, auth=(user, PASSWORD), timeout=60, **more).status_code


def shown(server: RegistryServer) -> dict[str, int]:
    from mlflow import MlflowClient

    become(server, "bob")
    aliases = MlflowClient(server.uri).get_registered_model(MODEL).aliases
    return {alias: int(version) for alias, version in aliases.items()}


@pytest.fixture(scope="module")
def reviewed(server: RegistryServer, store: Store) -> RegistryServer:
    """Version 1 is champion by anna's command, version 2 waits."""
    release(server, store, "a", 0)
    become(server, "anna")
    promote(store, MODEL, 1, "anna", "looked at", server.uri, expect_champion=0)
    assert release(server, store, "b", 1)["version"] == 2
    return server


def test_release_and_promotion_work_through_the_server(reviewed: RegistryServer, store: Store) -> None:
    assert shown(reviewed) == {"champion": 1, "challenger": 2}
    become(reviewed, "bob")
    assert verify(store, MODEL, reviewed.uri) == []
    assert release(reviewed, store, "a", 0)["version"] == 1


SET = {"name": MODEL, "alias": "champion", "version": "2"}


@pytest.mark.parametrize(
    "method, tail, body",
    [
        ("POST", "registered-models/alias", SET),
        ("POST", "registered-models/alias", json.dumps(SET)),
        ("DELETE", "registered-models/alias", {"name": MODEL, "alias": "champion"}),
        ("POST", "registered-models/rename", {"name": MODEL, "new_name": "mine"}),
        ("DELETE", "registered-models/delete", {"name": MODEL}),
        ("DELETE", "model-versions/delete", {"name": MODEL, "version": "1"}),
        ("POST", "model-versions/transition-stage", {"name": MODEL, "version": "2", "stage": "Production"}),
        ("POST", "registered-models/set-tag", {"name": MODEL, "key": "yanshan.ledger_head", "value": "0:"}),
    ],
)
def test_the_pipeline_s_user_is_refused_over_rest(reviewed: RegistryServer, method: str, tail: str, body) -> None:
    for prefix in (API, "ajax-api/2.0/mlflow"):
        # MLflow's own check of the password cannot read JSON inside JSON and answers 400 before the guard looks.
        assert ask(reviewed, "pipeline", method, f"{prefix}/{tail}", body) in (
            (403,) if isinstance(body, dict) else (400, 403)
        )
    assert requests.request(method, f"{reviewed.uri}/{API}/{tail}", json=body, timeout=60).status_code == 401
    assert shown(reviewed) == {"champion": 1, "challenger": 2}


def test_the_pipeline_s_user_is_refused_through_the_python_client(reviewed: RegistryServer) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    become(reviewed, "pipeline")
    client = MlflowClient(reviewed.uri)
    for attempt in (
        lambda: client.set_registered_model_alias(MODEL, "champion", "2"),
        lambda: client.delete_registered_model_alias(MODEL, "champion"),
        lambda: client.delete_model_version(MODEL, "1"),
        lambda: client.rename_registered_model(MODEL, "mine"),
    ):
        with pytest.raises(MlflowException, match=r"PERMISSION_DENIED|Permission denied"):
            attempt()


def test_the_files_of_a_registered_model_are_not_overwritten(reviewed: RegistryServer, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    become(reviewed, "pipeline")
    client = MlflowClient(reviewed.uri)
    model_id = client.get_model_version(MODEL, "2").model_id
    (tmp_path / "model.onnx").write_bytes(b"evil")
    with pytest.raises((MlflowException, requests.HTTPError), match=r"403|PERMISSION_DENIED|finished"):
        client.log_model_artifacts(model_id, str(tmp_path))
    with pytest.raises(MlflowException):
        client.delete_logged_model(model_id)


def test_the_reviewer_s_alias_becomes_the_reviewer_s_record(reviewed: RegistryServer, store: Store) -> None:
    assert ask(reviewed, "bob", "POST", f"{API}/registered-models/alias", SET) == 200
    become(reviewed, "registry")
    done = take_up(store, MODEL, reviewed.uri, reviewed.audit, "registry")
    assert done["did"] == "recorded"
    newest = read_ledger(store, MODEL)[-1]
    assert (newest.body["actor"], newest.body["via"], newest.body["champion"]) == ("bob", "mlflow", 2)
    assert [signature["signer"] for signature in newest.signatures] == ["registry"]
    assert champion(store, MODEL).version == 2
    assert take_up(store, MODEL, reviewed.uri, reviewed.audit, "registry")["did"] == "nothing"
    assert ask(reviewed, "bob", "POST", f"{API}/registered-models/alias", SET | {"version": "1"}) == 200
    become(reviewed, "registry")
    assert take_up(store, MODEL, reviewed.uri, reviewed.audit, "registry")["record"]["kind"] == "rollback"


def test_an_alias_on_what_the_checks_refuse_goes_back(reviewed: RegistryServer, store: Store) -> None:
    release(reviewed, store, "c", 0)  # measured against no champion
    assert ask(reviewed, "anna", "POST", f"{API}/registered-models/alias", SET | {"version": "3"}) == 200
    become(reviewed, "registry")
    done = take_up(store, MODEL, reviewed.uri, reviewed.audit, "registry")
    assert (done["did"], "Measured against champion none" in done["why"]) == ("put back", True)
    assert shown(reviewed)["champion"] == champion(store, MODEL).version


def test_a_webhook_wakes_the_uptake(reviewed: RegistryServer, store: Store) -> None:
    from mlflow import MlflowClient

    before = len(read_ledger(store, MODEL))
    release(reviewed, store, "d", champion(store, MODEL).version)
    command = [sys.executable, "-m", "pipelines", "registry", "serve", "--audit", str(reviewed.audit), "--port", "0"]
    command += ["--store", store.uri, "--model", MODEL, "--every", "600", "--then", "echo deliver"]
    environment = os.environ | reviewed.as_user("registry") | {"YANSHAN_WEBHOOK_SECRET": "s3cret"}
    log = reviewed.root / "serve.log"
    with log.open("wb") as output:
        service = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        address = wait_for(lambda: [word for word in log.read_text().split() if word.startswith("http://127")])[0]
        wait_for(lambda: '"did"' in log.read_text())
        become(reviewed, "admin")
        MlflowClient(reviewed.uri).create_webhook(
            "uptake", address, events=["model_version_alias.created"], secret="s3cret"
        )

        def ordered_and_recorded() -> bool:
            # MLflow reads its list of webhooks once a minute: the first orders may wake nobody.
            assert ask(reviewed, "anna", "POST", f"{API}/registered-models/alias", SET | {"version": "4"}) == 200
            time.sleep(5)
            return len(read_ledger(store, MODEL)) > before

        wait_for(ordered_and_recorded, 150)
        wait_for(lambda: "deliver 4" in log.read_text())
    finally:
        service.terminate()
        service.wait(timeout=30)
    assert champion(store, MODEL).version == 4


def release_apart(server: RegistryServer, before: int) -> int:
    return release(server, open_store(f"s3://{BUCKET}/store"), "e", before)["version"]


def test_a_night_released_four_times_at_once_is_one_version(reviewed: RegistryServer, store: Store) -> None:
    from mlflow import MlflowClient

    become(reviewed, "pipeline")
    before, known = champion(store, MODEL).version, len(MlflowClient(reviewed.uri).search_model_versions())
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        versions = set(pool.map(release_apart, [reviewed] * 4, [before] * 4))
    assert len(versions) == 1
    assert len(MlflowClient(reviewed.uri).search_model_versions()) == known + 1
    become(reviewed, "bob")
    assert [
        finding for finding in verify(store, MODEL, reviewed.uri) if f"version {min(versions)}" in str(finding)
    ] == []


def test_every_attempt_is_in_the_audit_file(reviewed: RegistryServer) -> None:
    lines = list(read_lines(reviewed.audit))
    refused = [line for line in lines if line["user"] == "pipeline" and line["status"] == 403]
    assert len(refused) >= 12
    assert PASSWORD not in reviewed.audit.read_text()


def test_a_reviewer_who_is_not_listed_is_refused_even_with_an_account(reviewed: RegistryServer, store: Store) -> None:
    become(reviewed, "pipeline")
    with pytest.raises(Refused, match="is not in"):
        promote(store, MODEL, 3, "pipeline", "mine", reviewed.uri, key=str(reviewed.trust / "release.pem"))


def wait_for(what, seconds: float = 90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s")
