"""The launcher of a training on several nodes, against an API server over HTTP, with the official client."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes import client

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault
from components.train.launcher import NodeJob, Stopped, manifest, train_on_nodes
from tests.unit.cluster_api import ClusterAPI, serving

JOB = NodeJob(
    run_key="0123456789abcdef" * 4,
    namespace="yanshan",
    image="registry.example.com/yanshan/training@sha256:" + "0" * 64,
    command=("torchrun", "--module", "components.train.ranks", "/job.json"),
    nodes=4,
    gpus_per_node=8,
    timeout_s=3600,
)
NODE_LABELS = {"jobset.sigs.k8s.io/jobset-name": JOB.name, "batch.kubernetes.io/job-completion-index": "0"}


@pytest.fixture
def cluster() -> ClusterAPI:
    return ClusterAPI()


@pytest.fixture
def apis(cluster: ClusterAPI) -> Iterator[tuple[client.CustomObjectsApi, client.CoreV1Api]]:
    with serving(cluster) as connection:
        yield client.CustomObjectsApi(connection), client.CoreV1Api(connection)


def ending(cluster: ClusterAPI, *states: dict[str, Any]) -> None:
    """Each look at the TrainJob finds the next state; the last one stays."""
    waiting = list(states)

    def step(plural: str, thing: dict[str, Any]) -> None:
        if plural == "trainjobs" and waiting:
            thing["status"] = waiting.pop(0)

    cluster.on_get = step


def condition(kind: str, **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", **more}]}


def deleted(cluster: ClusterAPI) -> bool:
    return ("trainjobs", JOB.name) not in cluster.things


def test_the_manifest_holds_only_fields_that_trainer_knows() -> None:
    made = manifest(JOB, {"name": "launcher", "uid": "1"})
    back = TrainerV1alpha1TrainJob.from_dict(made).to_dict()
    assert back["spec"] == made["spec"]
    assert set(made["spec"]) == {"runtimeRef", "activeDeadlineSeconds", "trainer"}
    assert made["spec"]["trainer"]["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "8"}


def test_a_job_runs_to_its_end_is_told_of_and_cleared_away(
    cluster: ClusterAPI, apis: tuple, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.put("pods", "node-0", metadata={"labels": NODE_LABELS}, spec={"containers": [{"name": "node"}]})
    cluster.logs["node-0"] = "2026-01-01T00:00:01Z epoch 1\n2026-01-01T00:00:02Z epoch 2\n"
    ending(cluster, {}, condition("Suspended") | {"conditions": []}, condition("Complete"))
    with caplog.at_level(logging.INFO):
        train_on_nodes(*apis, JOB, every_s=0.01)
    assert [message for message in caplog.messages if "epoch" in message] == ["node=0 epoch 1", "node=0 epoch 2"]
    assert deleted(cluster)


def test_a_failed_job_is_worth_a_retry_and_says_why(cluster: ClusterAPI, apis: tuple) -> None:
    ending(cluster, condition("Failed", reason="DeadlineExceeded", message="too long"))
    with pytest.raises(ServiceFault, match="DeadlineExceeded too long; run it again, training resumes"):
        train_on_nodes(*apis, JOB, every_s=0.01)
    assert deleted(cluster)


def test_a_launcher_that_starts_anew_adopts_its_job(cluster: ClusterAPI, apis: tuple) -> None:
    cluster.put("trainjobs", JOB.name, **manifest(JOB))
    ending(cluster, {}, condition("Complete"))
    train_on_nodes(*apis, JOB, every_s=0.01)
    assert [method for method, path in cluster.calls if path.endswith("trainjobs")] == ["POST"]


def test_a_job_that_failed_earlier_is_made_again(cluster: ClusterAPI, apis: tuple) -> None:
    cluster.put("trainjobs", JOB.name, **manifest(JOB), status=condition("Failed"))
    seen = []

    def finish_the_new_one(plural: str, thing: dict[str, Any]) -> None:
        seen.append(thing["metadata"]["uid"])
        if "status" not in thing:
            thing["status"] = condition("Complete")

    cluster.on_get = finish_the_new_one
    train_on_nodes(*apis, JOB, every_s=0.01)
    assert len(set(seen)) == 2


def test_a_job_of_another_run_is_left_alone(cluster: ClusterAPI, apis: tuple) -> None:
    stranger = manifest(JOB)
    stranger["metadata"]["annotations"] = {}
    cluster.put("trainjobs", JOB.name, **stranger)
    with pytest.raises(InvalidInput, match="exists and is not of run"):
        train_on_nodes(*apis, JOB, every_s=0.01)
    assert not deleted(cluster)


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(cluster: ClusterAPI, apis: tuple) -> None:
    ending(cluster, condition("Complete"))
    cluster.fail = [503, 500]
    train_on_nodes(*apis, JOB, every_s=0.01)


def test_an_api_server_that_stays_away_ends_the_launcher(cluster: ClusterAPI, apis: tuple) -> None:
    cluster.fail = [503] * 50
    with pytest.raises(ServiceFault, match=r"has not answered for 0\.2 s: 503"):
        train_on_nodes(*apis, JOB, every_s=0.01, max_silence_s=0.2)


def test_no_right_to_train_is_said_at_once(cluster: ClusterAPI, apis: tuple) -> None:
    cluster.forbidden = {"trainjobs"}
    with pytest.raises(MissingCapability, match="no right; see manifests/README"):
        train_on_nodes(*apis, JOB, every_s=0.01)


def test_a_cancelled_run_takes_its_job_with_it(cluster: ClusterAPI, apis: tuple) -> None:
    looks = []

    def cancel(plural: str, thing: dict[str, Any]) -> None:
        looks.append(plural)
        if len(looks) == 2:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

    cluster.on_get = cancel
    with pytest.raises(Stopped):
        train_on_nodes(*apis, JOB, every_s=0.5)
    assert deleted(cluster)


def test_a_job_belongs_to_the_pod_that_launched_it(
    cluster: ClusterAPI, apis: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTNAME", "launcher-1")
    pod = cluster.put("pods", "launcher-1", spec={"containers": [{"name": "main"}]})
    owners = []

    def finish(plural: str, thing: dict[str, Any]) -> None:
        if plural == "trainjobs":
            owners.extend(thing["metadata"].get("ownerReferences", []))
            thing["status"] = condition("Complete")

    cluster.on_get = finish
    train_on_nodes(*apis, JOB, every_s=0.01)
    assert [(one["kind"], one["name"], one["uid"]) for one in owners] == [("Pod", "launcher-1", pod["metadata"]["uid"])]
