"""The smoke night in containers: confined as on a cluster, with an S3 server, an MLflow server and nothing else."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.digests import digest_file
from components.shared.releases import bring_release, releases
from components.shared.store import Store, open_store
from pipelines.ir_lint import lint
from tests.containers.conftest import BUCKET, MODEL, ROOT, S3, Registry, docker
from tests.containers.pods import Cluster, Run
from tests.hand_export import write_export

pytestmark = pytest.mark.containers
STEPS = (
    "intake-labels plan-night augment-images train-detector export-onnx calibrate-int8 build-engines evaluate-models"
)
STEPS += " judge-release is-approved release-model notify-people"
MADE_BY_CONTENT = ("checkpoint/model.pt", "models/model.onnx", "models/model.int8.qdq.onnx")
ON_METADATA = ("metrics", "confusion")
"""Outputs that are drawn from their metadata and have no file."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    write_export(folder / "inbox" / "batch")
    return folder


@pytest.fixture(scope="module")
def pipeline(place: Path, tag: str) -> Path:
    """The smoke recipe's pipeline with the images of this commit, as `yanshan compile` writes it."""
    path = place / "pipeline.yaml"
    command = [sys.executable, "-m", "pipelines", "compile", "smoke", "-o", str(path)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"YANSHAN_IMAGE_TAG": tag})
    return path


@pytest.fixture(scope="module")
def inbox(place: Path, s3: S3) -> str:
    for file in sorted(path for path in (place / "inbox").rglob("*") if path.is_file()):
        s3.client().fput_object(BUCKET, f"inbox/{file.relative_to(place / 'inbox').as_posix()}", str(file))
    return f"s3://{BUCKET}/inbox"


Night = Callable[[str], Run]


@pytest.fixture(scope="module")
def night(place: Path, pipeline: Path, cluster: Cluster, inbox: str) -> Night:
    def run(name: str) -> Run:
        folder = place / name
        folder.mkdir()
        arguments = {"inbox_uri": inbox, "store_uri": f"s3://{BUCKET}/store", "reason": "a test"}
        return Run(pipeline, folder, cluster).start(**arguments)

    return run


@pytest.fixture(scope="module")
def first(night: Night) -> Run:
    return night("first")


@pytest.fixture(scope="module")
def store(s3: S3, first: Run) -> Store:
    """The night's store as this process reaches it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{s3.outside}")
    patch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    patch.delenv("AWS_CA_BUNDLE", raising=False)
    opened = open_store(f"s3://{BUCKET}/store")
    patch.undo()
    return opened


def test_the_pipeline_that_runs_has_no_problem(pipeline: Path) -> None:
    assert list(lint(pipeline, placed=True)) == []


def test_every_step_ends_well(first: Run) -> None:
    for name, step in first.steps.items():
        print(f"{name:<16} {step.seconds:6.1f} s  exit {step.code}")  # noqa: T201 (read with -s)
    for name, step in first.steps.items():
        assert not step.code, f"{name}: {step.log[-3000:]}"
    assert list(first.steps) == STEPS.split()
    assert first.steps["plan-night"].outputs == {"Output": "train"}
    assert first.steps["is-approved"].outputs == {"Output": "yes"}


def test_every_output_lies_where_kubeflow_collects_it(first: Run) -> None:
    for name, step in first.steps.items():
        if name != "notify-people":
            assert step.artifacts or step.outputs, name
        missing = [key for key, path in step.artifacts.items() if not path.exists() and key not in ON_METADATA]
        assert missing == [], name


def test_steps_are_confined(first: Run, tag: str) -> None:
    for name, step in first.steps.items():
        words = " ".join(step.command)
        assert "--read-only --cap-drop ALL --security-opt no-new-privileges --user 65532:65532" in words, name
        assert "--memory " in words and "--pids-limit" in words, name
    assert "--network none" in " ".join(first.steps["is-approved"].command)
    assert f"yanshan/training:{tag}" in first.steps["train-detector"].command


def test_the_network_of_the_steps_leads_nowhere_else(first: Run, network: str, tag: str) -> None:
    script = "import socket; socket.create_connection(('1.1.1.1', 443), 3)"
    command = ["docker", "run", "--rm", "--network", network, f"yanshan/data:{tag}", "python3", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and ("unreachable" in done.stderr or "timed out" in done.stderr)


def test_the_release_is_whole_in_the_bucket_and_challenger_in_mlflow(
    first: Run, store: Store, registry: Registry, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (release,) = releases(store, MODEL)
    bundle = bring_release(store, release, place / "bundle")
    assert all((bundle / name).exists() for name in MADE_BY_CONTENT)

    from mlflow import MlflowClient

    for name, value in registry.as_environment().items():
        monkeypatch.setenv(name, value)
    version = MlflowClient(registry.uri).get_model_version_by_alias(MODEL, "challenger")
    assert int(version.version) == release.version


def test_a_second_night_finds_nothing_new(first: Run, night: Night) -> None:
    again = night("second")
    assert list(again.steps) == ["intake-labels", "plan-night", "notify-people"]
    assert again.steps["plan-night"].outputs == {"Output": "skip"}


def test_the_models_are_those_of_a_laptop_to_the_byte(
    first: Run, store: Store, place: Path, s3: S3, inbox: str
) -> None:
    command = [sys.executable, "-m", "pipelines", "run", "smoke", "--inbox", inbox, "--quiet"]
    reaching = {"AWS_ENDPOINT_URL_S3": f"http://{s3.outside}", "AWS_ACCESS_KEY_ID": s3.access_key}
    reaching |= {"AWS_SECRET_ACCESS_KEY": s3.secret_key}
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"} | reaching
    subprocess.run([*command, "--workspace", str(place / "laptop")], cwd=ROOT, check=True, env=environment)
    here = open_store((place / "laptop" / "store").as_uri())
    bundles = {}
    for name, where in (("pods", store), ("laptop", here)):
        (release,) = releases(where, MODEL)
        folder = bring_release(where, release, place / f"bundle-of-{name}")
        bundles[name] = {f.relative_to(folder).as_posix(): digest_file(f) for f in folder.rglob("*") if f.is_file()}
    assert bundles["pods"].keys() == bundles["laptop"].keys()
    differing = sorted(name for name, digest in bundles["pods"].items() if bundles["laptop"][name] != digest)
    print("differing files:", differing)  # noqa: T201 (read with -s)
    assert not set(differing) & set(MADE_BY_CONTENT)


def test_bad_input_ends_in_seconds_and_the_retry_says_the_same(
    pipeline: Path, cluster: Cluster, place: Path, s3: S3, inbox: str
) -> None:
    said = []
    for attempt in ("bad-1", "bad-2"):
        (place / attempt).mkdir()
        started = time.monotonic()
        arguments = {
            "inbox_uri": f"s3://{BUCKET}/nothing-here",
            "store_uri": f"s3://{BUCKET}/store",
            "reason": "a test",
        }
        run = Run(pipeline, place / attempt, cluster).start(**arguments)
        assert time.monotonic() - started < 60
        assert list(run.steps) == ["intake-labels", "notify-people"]
        assert run.steps["intake-labels"].code and not run.steps["notify-people"].code
        said.append(run.steps["intake-labels"].log.strip().splitlines()[-1])
    assert said[0] == said[1] and "InvalidInput" in said[0] and "nothing-here" in said[0]


@pytest.mark.parametrize(
    "words, said",
    [
        ("-m components.release.guarded_server --help", "--allowed-hosts"),
        ("-m pipelines registry serve --help", "--audit"),
        ("-c 'import components.release.uptake, pipelines.commands.regate, components.judge.judge'", ""),
    ],
)
def test_the_release_image_runs_the_registry_and_its_uptake(words: str, said: str, tag: str) -> None:
    command = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", f"yanshan/release:{tag}", "python3"]
    done = subprocess.run([*command, *shlex.split(words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and said in done.stdout, done.stderr


def test_an_image_says_what_it_is_and_what_it_was_built_from(tag: str) -> None:
    for kind in ("data", "training", "engine", "release"):
        labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", f"yanshan/{kind}:{tag}"))
        assert labels["org.opencontainers.image.title"] == f"yanshan-{kind}"
        assert labels["org.opencontainers.image.revision"] == tag
        assert labels["org.opencontainers.image.licenses"].startswith("Apache-2.0")
        assert docker("inspect", "--format", "{{.Config.User}}", f"yanshan/{kind}:{tag}") == "65532:65532"


def test_an_image_holds_no_setting_of_the_machine_that_built_it(tag: str) -> None:
    for kind in ("data", "training", "engine", "release"):
        history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", f"yanshan/{kind}:{tag}")
        variables = docker("inspect", "--format", "{{json .Config.Env}}", f"yanshan/{kind}:{tag}")
        for word in ("PIP_FIND_LINKS", "PIP_INDEX", "127.0.0.1", "_proxy=", "PIP_CERT"):
            assert word not in history + variables, f"{kind}: {word}"
