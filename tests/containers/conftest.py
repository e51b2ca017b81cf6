"""A Docker engine, our images, and a network that holds an S3 server and an MLflow server and leads nowhere else."""

import base64
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from minio import Minio

from components.shared.signatures import new_key_file, public_pem, read_key
from tests.containers.pods import Cluster

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "yanshan"
MODEL = "parts-detector-smoke"


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0


def wait_until(ready: object, what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if ready():  # type: ignore[operator]
                return
        except Exception as not_yet:
            why = not_yet
        else:
            why = None
        assert time.monotonic() < deadline, f"{what} is not ready after {seconds} s: {why}"
        time.sleep(0.5)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Docker engine: the one that runs, or one started for the tests."""
    if shutil.which("docker") and answers():
        yield
        return
    if not shutil.which("dockerd") or os.geteuid():
        pytest.skip("no Docker engine runs here, and none can be started (needs root and Debian's docker.io)")
    log = (tmp_path_factory.mktemp("docker") / "dockerd.log").open("w")
    daemon = subprocess.Popen(["dockerd"], stdout=log, stderr=log)
    try:
        wait_until(lambda: daemon.poll() is not None or answers(), "dockerd", 60)
        if daemon.poll() is not None:
            pytest.skip(f"no Docker engine can be started here: {Path(log.name).read_text()[-300:]}")
        yield
    finally:
        daemon.terminate()
        daemon.wait(30)


@pytest.fixture(scope="session")
def tag(engine: None) -> str:
    """Tag of the images of the committed code, built first; YANSHAN_TEST_TAG takes other ones as they are."""
    if given := os.environ.get("YANSHAN_TEST_TAG"):
        return given
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    done = subprocess.run(
        [ROOT / "images" / "build.sh"], cwd=ROOT, stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return commit.stdout.strip()


@pytest.fixture(scope="session")
def network(engine: None) -> Iterator[str]:
    name = f"yanshan-test-{os.getpid()}"
    docker("network", "create", "--internal", name)
    yield name
    docker("network", "rm", name, check=False)


@dataclass(frozen=True)
class S3:
    """Where the S3 server answers: by name to containers, by address to this process."""

    inside: str
    outside: str
    access_key: str
    secret_key: str

    def client(self) -> Minio:
        return Minio(self.outside, self.access_key, self.secret_key, secure=False)


def start(name: str, network: str, *words: str) -> str:
    """Start a server's container, confined like a step's; its address."""
    confined = ["--read-only", "--cap-drop", "ALL", "--user", "65532:65532", "--tmpfs", "/tmp:rw,exec"]
    docker(
        "run",
        "--detach",
        "--rm",
        "--name",
        f"{name}-{network}",
        "--network-alias",
        name,
        "--network",
        network,
        *confined,
        *words,
    )
    return docker(
        "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{name}-{network}"
    )


@pytest.fixture(scope="session")
def s3(network: str, tag: str) -> Iterator[S3]:
    """SeaweedFS with the arguments of manifests/store, from the package's binary."""
    weed = Path(sys.executable).parent / "weed"
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    *_, stateful = [
        d for d in yaml.safe_load_all((ROOT / "manifests/store/store.yaml").read_text()) if d["kind"] == "StatefulSet"
    ]
    arguments = stateful["spec"]["template"]["spec"]["containers"][0]["args"]
    environment = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "S3_BUCKET": BUCKET,
        "GOMEMLIMIT": "512MiB",
    }
    words = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    words += ["--memory", "2g", "--tmpfs", "/data:rw,uid=65532,size=4g", "--volume", f"{weed}:/usr/bin/weed:ro"]
    address = start("yanshan-store", network, *words, f"yanshan/data:{tag}", "weed", *arguments)
    server = S3("http://yanshan-store:8333", f"{address}:8333", access_key, secret_key)
    wait_until(lambda: server.client().bucket_exists(bucket_name=BUCKET), "the S3 server")
    yield server
    docker("stop", f"yanshan-store-{network}", check=False)


@dataclass(frozen=True)
class Registry:
    """Where MLflow answers this process, and the pipeline's account."""

    uri: str
    username: str
    password: str

    def as_environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_USERNAME": self.username, "MLFLOW_TRACKING_PASSWORD": self.password}


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whom the services believe, as the ConfigMap yanshan-trust holds it, and beside it the key that signs releases."""
    folder = tmp_path_factory.mktemp("trust")
    folder.chmod(0o755)
    (folder / "policy.json").write_text("{}")
    (folder / "reviewers.json").write_text('{"reviewers": []}')
    signing = folder.with_name("signing")
    signing.mkdir()
    key = signing / "private_key.pem"
    new_key_file(key)
    (folder / "release-keys.pem").write_text(public_pem(read_key(str(key))))
    shutil.chown(key, 65532, 65532)
    return folder


@pytest.fixture(scope="session")
def registry(
    network: str, tag: str, s3: S3, trust: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """MLflow behind the guard, from the release image with what manifests/base/registry.yaml says, on SQLite."""
    *_, deployment = yaml.safe_load_all((ROOT / "manifests/base/registry.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    arguments = [f"{a},172.*" if a.startswith("--allowed-hosts") else a for a in container["args"]]
    auth = tmp_path_factory.mktemp("auth")
    auth.chmod(0o755)
    (auth / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:////tmp/auth.db\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    password = secrets.token_urlsafe(16)
    values = {
        "backend_store_uri": "sqlite:////tmp/mlflow.db",
        "accesskey": s3.access_key,
        "secretkey": s3.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3.inside,
        "admin_password": password,
        "flask_key": secrets.token_hex(16),
        "webhook_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "YANSHAN_TRUST": "/etc/yanshan/trust",
    }
    words = ["--memory", "2g", "--tmpfs", "/var/lib/yanshan:rw,uid=65532"]
    words += ["--volume", f"{auth}:/etc/yanshan/auth:ro", "--volume", f"{trust}:/etc/yanshan/trust:ro"]
    for variable in container["env"]:
        source = next(iter(variable.get("valueFrom", {}).values()), None)
        words += ["--env", f"{variable['name']}={values[source['key']] if source else variable['value']}"]
    served = shlex.join([*container["command"], *arguments])
    migrated = f'python3 -m mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI" && exec {served}'
    address = start("yanshan-registry", network, *words, f"yanshan/release:{tag}", "sh", "-c", migrated)
    server = Registry(f"http://{address}:5000", "pipeline", password)
    try:
        wait_until(lambda: urllib.request.urlopen(f"{server.uri}/health", timeout=2).status == 200, "MLflow", 240)
    except AssertionError as late:
        raise AssertionError(docker("logs", f"yanshan-registry-{network}", check=False)[-3000:]) from late
    _add_pipeline(server)
    yield server
    docker("stop", f"yanshan-registry-{network}", check=False)


def _add_pipeline(server: Registry) -> None:
    """What manifests/README.md tells the administrator to do once; no account moves aliases here but the pipeline's."""
    from mlflow import MlflowClient
    from mlflow.server import get_app_client

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (server.as_environment() | {"MLFLOW_TRACKING_USERNAME": "admin"}).items():
            patch.setenv(name, value)
        client, users = MlflowClient(server.uri), get_app_client("basic-auth", server.uri)
        client.create_registered_model(MODEL)
        experiment = client.create_experiment(MODEL)
        users.create_user(server.username, server.password)
        users.grant_user_permission(server.username, "registered_model", MODEL, "EDIT")
        users.grant_user_permission(server.username, "experiment", experiment, "EDIT")


@pytest.fixture(scope="session")
def cluster(s3: S3, registry: Registry, network: str, trust: Path, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The ConfigMaps and secrets that manifests/ names, with this network's addresses."""
    folder = tmp_path_factory.mktemp("cluster")
    folder.chmod(0o755)
    files = {
        "yanshan/AWS_ENDPOINT_URL_S3": s3.inside,
        "yanshan/AWS_REGION": "us-east-1",
        "yanshan/MLFLOW_TRACKING_URI": "http://yanshan-registry:5000",
        "yanshan/YANSHAN_SIGNING_KEY": "/var/run/secrets/yanshan/private_key.pem",
        "yanshan/YANSHAN_TRUST": "/etc/yanshan/trust",
        "yanshan-store/accesskey": s3.access_key,
        "yanshan-store/secretkey": s3.secret_key,
        "yanshan-registry/username": registry.username,
        "yanshan-registry/password": registry.password,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return Cluster(
        network,
        config_maps={"yanshan": folder / "yanshan", "yanshan-trust": trust},
        secrets={
            "yanshan-store": folder / "yanshan-store",
            "yanshan-registry": folder / "yanshan-registry",
            "yanshan-signing": trust.with_name("signing"),
        },
    )
