"""Training on several nodes: a Kubeflow TrainJob, made, watched, told of and cleared away by one small pod.

Only fields that have stayed the same over Trainer's releases are set (runtimeRef, trainer, activeDeadlineSeconds); all
else about the pods stands in the TrainingRuntime of manifests/base.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, CustomObjectsApi

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
KEY = "yanshan/run-key"
MAX_SILENCE_S = 600
"""How long the API server may be away before the launcher gives up; the job itself goes on until its deadline."""
Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeJob:
    """One training on several nodes.

    Attributes:
        run_key: Digest of all that decides the result: same key, same job, adopted by a launcher that starts anew.
        command: Runs once a node, with PET_* set as torchrun reads them.
    """

    run_key: str
    namespace: str
    image: str
    command: tuple[str, ...]
    nodes: int
    gpus_per_node: int
    timeout_s: int
    runtime: str = "yanshan-torch"

    @property
    def name(self) -> str:
        return f"train-{self.run_key[:16]}"


class Stopped(Exception):
    """The launcher was told to end: its run was cancelled, or its pod has to go."""


def train_on_nodes(
    jobs: "CustomObjectsApi",
    core: "CoreV1Api",
    job: NodeJob,
    every_s: float = 10.0,
    max_silence_s: float = MAX_SILENCE_S,
) -> None:
    """Run `job` to its end, telling the first node's log; resumes watching a job that is there already.

    Args:
        jobs: For TrainJobs.
        core: For pods and their logs.
        job: What to run.
        every_s: Between two looks at the job.
        max_silence_s: How long the API server may fail in a row.

    Raises:
        ServiceFault: the job failed, or the API server stayed away: run the step again, training resumes.
        InvalidInput: the cluster refused the job as it is.
        MissingCapability: no right to make it, or Trainer is not installed.
    """
    with _stop_on_signal(), contextlib.ExitStack() as undo:
        ask = _Patient(max_silence_s)
        _make(jobs, core, job, ask)
        # Made or adopted, it is ours to clear away: a launcher that ends early leaves nothing behind.
        undo.callback(_delete, jobs, job)
        _watch(jobs, core, job, ask, every_s)


def manifest(job: NodeJob, owner: dict[str, str] | None = None) -> dict[str, Any]:
    """The TrainJob object; it goes with its `owner`, the launcher's pod, where that is known."""
    resources = {"nvidia.com/gpu": str(job.gpus_per_node)} if job.gpus_per_node else {}
    trainer: dict[str, Any] = {
        "image": job.image,
        "command": list(job.command),
        "numNodes": job.nodes,
        "numProcPerNode": max(job.gpus_per_node, 1),
    }
    if resources:
        trainer["resourcesPerNode"] = {"limits": resources, "requests": resources}
    metadata: dict[str, Any] = {"name": job.name, "namespace": job.namespace}
    metadata |= {"labels": {"app.kubernetes.io/part-of": "yanshan"}, "annotations": {KEY: job.run_key}}
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "blockOwnerDeletion": False, **owner}]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": job.runtime},
            "activeDeadlineSeconds": job.timeout_s,
            "trainer": trainer,
        },
    }


class _Patient:
    """Asks the API server, and asks again with growing pauses while it is away or busy."""

    def __init__(self, max_silence_s: float) -> None:
        self._max_silence_s = max_silence_s

    def __call__(self, call: Callable[[], Answer]) -> Answer:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        silent_since, pause = time.monotonic(), 0.5
        while True:
            try:
                return call()
            except ApiException as fault:
                if fault.status and fault.status < 500 and fault.status != 429:
                    raise
                why = f"{fault.status} {fault.reason}"
            except (urllib3.exceptions.HTTPError, OSError) as fault:
                why = str(fault)
            if time.monotonic() - silent_since > self._max_silence_s:
                raise ServiceFault(f"the cluster has not answered for {self._max_silence_s:g} s: {why}")
            time.sleep(pause)
            pause = min(pause * 2, 30.0)


def _make(jobs: "CustomObjectsApi", core: "CoreV1Api", job: NodeJob, ask: _Patient) -> None:
    from kubernetes.client.exceptions import ApiException

    try:
        ask(
            lambda: jobs.create_namespaced_custom_object(
                GROUP, VERSION, job.namespace, PLURAL, manifest(job, _own_pod(core, job))
            )
        )
        logger.info("trainjob=%s made nodes=%d gpus_per_node=%d", job.name, job.nodes, job.gpus_per_node)
    except ApiException as fault:
        if fault.status == 409:
            _adopt(jobs, core, job, ask)
        elif fault.status in (401, 403, 404):
            what = (
                "Trainer is not installed, or the runtime's namespace is missing" if fault.status == 404 else "no right"
            )
            raise MissingCapability(f"TrainJob {job.namespace}/{job.name}: {what}; see manifests/README.md") from fault
        else:
            raise InvalidInput(
                f"TrainJob {job.namespace}/{job.name}: refused with {fault.status}: {fault.body}"
            ) from fault


def _adopt(jobs: "CustomObjectsApi", core: "CoreV1Api", job: NodeJob, ask: _Patient) -> None:
    """Go on with the job of an earlier launcher; one that has failed makes way for a new attempt."""
    found = ask(lambda: jobs.get_namespaced_custom_object(GROUP, VERSION, job.namespace, PLURAL, job.name))
    if found["metadata"].get("annotations", {}).get(KEY) != job.run_key:
        raise InvalidInput(f"TrainJob {job.namespace}/{job.name}: exists and is not of run {job.run_key}")
    if not _condition(found, "Failed") and not found["metadata"].get("deletionTimestamp"):
        logger.info("trainjob=%s adopted", job.name)
        return
    logger.info("trainjob=%s failed earlier: made again, training resumes", job.name)
    _delete(jobs, job)
    while _there(jobs, job, ask):
        time.sleep(0.2)
    _make(jobs, core, job, ask)


def _watch(jobs: "CustomObjectsApi", core: "CoreV1Api", job: NodeJob, ask: _Patient, every_s: float) -> None:
    told = ""
    while True:
        found = ask(lambda: jobs.get_namespaced_custom_object(GROUP, VERSION, job.namespace, PLURAL, job.name))
        told = _tell_log(core, job, told)
        if _condition(found, "Complete"):
            logger.info("trainjob=%s complete", job.name)
            return
        if failed := _condition(found, "Failed"):
            why = f"{failed.get('reason', '')} {failed.get('message', '')}".strip()
            raise ServiceFault(f"TrainJob {job.namespace}/{job.name} failed: {why}; run it again, training resumes")
        time.sleep(every_s)


def _tell_log(core: "CoreV1Api", job: NodeJob, told: str) -> str:
    """Tell the first node's new lines; a log that cannot be read yet ends nothing. Returns the last line's time."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    selector = f"jobset.sigs.k8s.io/jobset-name={job.name},batch.kubernetes.io/job-completion-index=0"
    try:
        for pod in core.list_namespaced_pod(job.namespace, label_selector=selector).items:
            text = core.read_namespaced_pod_log(pod.metadata.name, job.namespace, timestamps=True, tail_lines=1000)
            for line in text.splitlines():
                stamp, _, rest = line.partition(" ")
                if stamp > told:
                    logger.info("node=0 %s", rest)
                    told = stamp
    except (ApiException, urllib3.exceptions.HTTPError, OSError) as fault:
        logger.debug("log of %s: %s", job.name, fault)
    return told


def _condition(found: dict[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def _there(jobs: "CustomObjectsApi", job: NodeJob, ask: _Patient) -> bool:
    from kubernetes.client.exceptions import ApiException

    try:
        ask(lambda: jobs.get_namespaced_custom_object(GROUP, VERSION, job.namespace, PLURAL, job.name))
    except ApiException as fault:
        if fault.status == 404:
            return False
        raise
    return True


def _delete(jobs: "CustomObjectsApi", job: NodeJob) -> None:
    """Best effort: a job that cannot be deleted now ends with its owner or at its deadline."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        jobs.delete_namespaced_custom_object(
            GROUP, VERSION, job.namespace, PLURAL, job.name, propagation_policy="Background", _request_timeout=10
        )
    except (ApiException, urllib3.exceptions.HTTPError, OSError) as fault:
        if getattr(fault, "status", 0) != 404:
            logger.warning("trainjob=%s not deleted: %s", job.name, fault)


def _own_pod(core: "CoreV1Api", job: NodeJob) -> dict[str, str] | None:
    """The pod this runs in, by its host name."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    name = os.environ.get("HOSTNAME", "")
    try:
        pod = core.read_namespaced_pod(name, job.namespace) if name else None
    except (ApiException, urllib3.exceptions.HTTPError, OSError):
        return None
    return {"name": name, "uid": pod.metadata.uid} if pod else None


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[None]:
    """Raise `Stopped` where SIGTERM would end the process before it has cleared away its job."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(f"signal {number}")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
