"""A registry as a cluster runs it: MLflow behind our guard, on PostgreSQL, with its artifacts in SeaweedFS."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.shared.signatures import new_key_file, public_pem
from tests.servers import BUCKET, _free_ports

ADMIN = "admin"
PASSWORD = "correct-horse-battery"
WEBHOOK_KEY = "kT3tq1n5n5cF0uQFqW8kq3Cq2n0m9mZ5v1yqk0oQh1Q="


@dataclass(frozen=True)
class RegistryServer:
    """Where the server listens, and what lies around it."""

    uri: str
    root: Path

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    @property
    def audit(self) -> Path:
        return self.root / "audit.jsonl"

    def as_user(self, name: str) -> dict[str, str]:
        """Environment in which MLflow's client is this user."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of its own in a folder of its own; yields the SQLAlchemy address of its database."""
    if not shutil.which("initdb"):
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # PostgreSQL refuses to run as root, and its owner cannot look into pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="yanshan-postgres-"))
    as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_owner:
        shutil.chown(folder, "postgres", "postgres")
    port, data = _free_ports(1), folder / "data"
    subprocess.run([*as_owner, "initdb", "-D", data, "-A", "trust", "-U", "yanshan", "-N"], check=True, stdout=-3)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*as_owner, "pg_ctl", "-D", str(data), "-w"]
    subprocess.run([*control, "-l", str(folder / "log"), "-o", options, "start"], check=True, stdout=-3)
    try:
        yield f"postgresql+psycopg2://yanshan@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=-3)
        shutil.rmtree(folder)


@contextmanager
def registry_server(folder: Path, database: str, s3: Mapping[str, str]) -> Iterator[RegistryServer]:
    """MLflow with basic-auth and our guard; users admin, pipeline, anna, bob and registry share one password."""
    port = _free_ports(1)
    server = RegistryServer(f"http://127.0.0.1:{port}", folder)
    _write_trust(server.trust)
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = {database}\nadmin_username = {ADMIN}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\nauth_cache_ttl_seconds = 60\n"
    )
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": s3["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": s3["AWS_SECRET_ACCESS_KEY"],
        "MLFLOW_S3_ENDPOINT_URL": s3["AWS_ENDPOINT_URL"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "not-secret-in-a-test",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": WEBHOOK_KEY,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "YANSHAN_TRUST": str(server.trust),
        "YANSHAN_AUDIT": str(server.audit),
    }
    command = [sys.executable, "-m", "components.release.guarded_server", "--backend-store-uri", database]
    command += ["--artifacts-destination", f"s3://{BUCKET}/registry", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen([*command, "--workers", "1"], env=environment, stdout=log, stderr=log)
    try:
        _wait_until_healthy(process, server.uri, folder / "mlflow.log")
        _add_users(server)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _write_trust(folder: Path) -> None:
    folder.mkdir()
    listed = []
    for name, role in (("anna", "reviewer"), ("bob", "reviewer"), ("registry", "registry")):
        pem = public_pem(new_key_file(folder / f"reviewer-{name}.pem"))
        listed.append({"name": name, "public_key": pem, "role": role})
    (folder / "reviewers.json").write_text(json.dumps({"reviewers": listed}))
    (folder / "release-keys.pem").write_text(public_pem(new_key_file(folder / "release.pem")))
    (folder / "policy.json").write_text("{}")


def _add_users(server: RegistryServer) -> None:
    """The administrator makes the model and says who may edit it; the pipeline never owns it."""
    os.environ.update(server.as_user(ADMIN))
    from mlflow import MlflowClient
    from mlflow.server import get_app_client

    users = get_app_client("basic-auth", server.uri)
    client = MlflowClient(server.uri)
    client.create_registered_model("parts")
    experiment = client.create_experiment("parts")
    for name in ("pipeline", "anna", "bob", "registry"):
        users.create_user(name, PASSWORD)
        # Taking an alias away asks for MANAGE in MLflow; what reviewers may not do with it, the guard refuses.
        users.grant_user_permission(name, "registered_model", "parts", "EDIT" if name == "pipeline" else "MANAGE")
        users.grant_user_permission(name, "experiment", experiment, "EDIT")


def _wait_until_healthy(process: subprocess.Popen, uri: str, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"MLflow did not start: {log.read_text(errors='replace')[-3000:]}")
