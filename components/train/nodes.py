"""A night on several nodes: all it needs goes through the store, because their pods share nothing else.

The step's own pod writes the job to the store, makes a TrainJob that runs `components.train.ranks` on every node,
watches it, and fetches what the first rank left. Killed at any moment, the next try adopts the job or carries on.
"""

import json
import logging
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared import images
from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, MissingCapability, ServiceFault
from components.shared.store import Store
from components.train.launcher import NodeJob, train_on_nodes
from components.train.ranks import Job
from components.train.settings import TrainSettings

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, CustomObjectsApi

logger = logging.getLogger(__name__)
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEADLINE_S = 12 * 3600
"""As the step's own on a cluster."""
BROUGHT = ("weights", "teacher")
"""Settings that name a file of the launcher's machine."""
RESULTS = {"model.pt": "checkpoint", "model.json": "checkpoint", "report.html": "report"}


def launch_nodes(job: Job, store: Store, settings: TrainSettings, every_s: float = 10.0) -> None:
    """Run the night as a TrainJob and bring its checkpoint and report.

    Raises:
        InvalidInput: the batch cannot be cut evenly, or a rank refused its input.
        MissingCapability: this is no pod of a cluster with Trainer.
        ServiceFault: the job failed; its state carries on.
    """
    per_node = ranks_per_node(settings)
    folder = folder_of(job.state_name)
    send_job(job, store, folder)
    jobs, core = cluster()
    namespace = NAMESPACE.read_text().strip() if NAMESPACE.exists() else "default"
    command = ("torchrun", "--module", "components.train.ranks", store.uri, folder)
    key = digest_bytes(job.state_name.encode())
    gpus = 0 if settings.device == "cpu" else per_node
    node_job = NodeJob(key, namespace, own_image(core, namespace), command, settings.nodes, gpus, DEADLINE_S)
    try:
        train_on_nodes(jobs, core, node_job, every_s)
    except ServiceFault:
        if store.exists(f"{folder}/refused.json") and (told := store.get(f"{folder}/refused.json")):
            raise InvalidInput(json.loads(told)) from None
        raise
    for name, kind in RESULTS.items():
        place = Path(job.report) if kind == "report" else Path(job.checkpoint) / name
        store.fetch(f"{folder}/result/{name}", place)


def ranks_per_node(settings: TrainSettings) -> int:
    """Ranks, and GPUs, of each node.

    Raises:
        InvalidInput: nobody says how many, or the batch is no multiple of all of them.
    """
    if not settings.ranks:
        raise InvalidInput("train.ranks: got 0 with train.nodes above 1, expected the GPUs of a node")
    if settings.batch_size % (settings.nodes * settings.ranks):
        raise InvalidInput(
            f"train.batch_size: got {settings.batch_size}, expected a multiple of {settings.nodes} nodes x "
            f"{settings.ranks} ranks"
        )
    return settings.ranks


def folder_of(state_name: str) -> str:
    """Where in the store a night's job and results lie: beside its state."""
    return f"{state_name.rpartition('/')[0]}/job"


def send_job(job: Job, store: Store, folder: str) -> None:
    """Put the job, its rows and the files that its settings name into the store; the job's own name comes last."""
    store.put(f"{folder}/refused.json", b"")  # of an earlier try
    store.send(Path(job.training_set) / "rows.parquet", f"{folder}/rows.parquet")
    for name in BROUGHT:
        if job.settings[name]:
            store.send(Path(job.settings[name]), f"{folder}/{name}.pt")
    store.put(f"{folder}/job.json", json.dumps(asdict(job)).encode())


def receive_job(store: Store, folder: str) -> Job:
    """The job with its files on this node; the node's ranks share one folder, and each file appears whole."""
    job = Job(**json.loads(store.get(f"{folder}/job.json")))
    scratch = Path(tempfile.gettempdir()) / f"yanshan-{digest_bytes(f'{store.uri}/{folder}'.encode())[:16]}"
    scratch = scratch.with_name(f"{scratch.name}-{os.environ.get('GROUP_RANK', '0')}")
    scratch.mkdir(parents=True, exist_ok=True)
    store.fetch(f"{folder}/rows.parquet", scratch / "rows.parquet")
    brought = {name: str(scratch / f"{name}.pt") for name in BROUGHT if job.settings[name]}
    for name, path in brought.items():
        store.fetch(f"{folder}/{name}.pt", Path(path))
    result = str(scratch / "result")
    here = replace(job, settings=job.settings | brought, training_set=str(scratch), scratch=str(scratch))
    return replace(here, checkpoint=result, report=f"{result}/report.html")


def send_results(job: Job, store: Store, folder: str) -> None:
    """Put what the first rank made into the store."""
    for name, kind in RESULTS.items():
        store.send(Path(job.report) if kind == "report" else Path(job.checkpoint) / name, f"{folder}/result/{name}")


def cluster() -> "tuple[CustomObjectsApi, CoreV1Api]":
    """The API of the cluster whose pod this is.

    Raises:
        MissingCapability: this is no pod, or its account has no token.
    """
    from kubernetes import client, config

    try:
        config.load_incluster_config()
    except config.ConfigException as fault:
        raise MissingCapability(
            f"train.nodes: several nodes need a cluster with Kubeflow Trainer, and this is no pod of one ({fault}); "
            "see manifests/README.md"
        ) from fault
    return client.CustomObjectsApi(), client.CoreV1Api()


def own_image(core: "CoreV1Api", namespace: str) -> str:
    """The image that this pod's main container runs: nodes run the same code."""
    from kubernetes.client.exceptions import ApiException

    try:
        pod = core.read_namespaced_pod(os.environ.get("HOSTNAME", ""), namespace)
    except (ApiException, ValueError):
        return images.TRAINING
    by_name = {one.name: one.image for one in pod.spec.containers}
    return str(by_name.get("main") or next(iter(by_name.values())))
