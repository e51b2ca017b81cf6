"""Where each step runs on a cluster: processors, GPUs, memory, time, retries, secrets. One value a step, by task name.

Written into the compiled file as the official SDK writes it (a test compares the two), so that the DAG stays on one
page and the numbers stay literal: the compiler leaves a parameter for a GPU count dangling inside a branch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.settings import Settings

USER_ID = 65532
CONFIG = "yanshan"
"""ConfigMap whose keys are environment variables of every step that reaches a service."""
CONFIG_KEYS = ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI", "YANSHAN_SIGNING_KEY", "YANSHAN_TRUST")
TRUST = "yanshan-trust"
"""ConfigMap with the public half of trust: who may review, which keys seal bundles."""
TRUST_FOLDER = "/etc/yanshan/trust"
SIGNING_FOLDER = "/var/run/secrets/yanshan"
STORE_SECRET = {"yanshan-store": {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}}
REGISTRY_SECRET = {"yanshan-registry": {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}}


class Placement(Settings):
    """What one step asks of a cluster."""

    cpu_cores: PositiveFloat = 1.0
    memory_gib: PositiveFloat = 2.0
    gpus: NonNegativeInt = 0
    gpu_type: str = "nvidia.com/gpu"
    shared_memory_gib: NonNegativeFloat = 0.0
    """Size of /dev/shm, out of `memory_gib`; data loaders and NCCL need more than the usual 64 MiB."""
    scratch_gib: PositiveFloat = 4.0
    """Size of /tmp, the only place where a step writes besides its outputs."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerated_taints: tuple[str, ...] = ()
    """Keys of taints (`NoSchedule`) on nodes where the step may run."""
    timeout_s: PositiveInt = 3600
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Of the whole pod: lost nodes. Kubeflow cannot tell exit codes apart, so that bad input is retried too, and ends
    again within seconds; services that fail are retried inside the step."""
    back_off_s: PositiveInt = 30
    back_off_max_s: PositiveInt = 600
    cached: bool = False
    """Kubeflow may reuse an earlier run's outputs."""
    queue: str = ""
    """Kueue queue that admits the pod."""
    environment: Literal["none", "store", "registry"] = "store"
    """Services whose addresses and credentials the step gets; `registry` means both."""
    signing_secret: str = ""
    """Secret with `private_key.pem`, for the one step that seals bundles."""


def production() -> dict[str, Placement]:
    """A GPU node for training, small pods for the rest."""
    light = Placement(cpu_cores=1, memory_gib=2, timeout_s=900)
    return {
        "intake-labels": Placement(cpu_cores=4, memory_gib=8, scratch_gib=50, timeout_s=4 * 3600),
        "plan-night": light,
        "augment-images": Placement(cpu_cores=8, memory_gib=16, scratch_gib=100, timeout_s=4 * 3600, cached=True),
        "train-detector": Placement(
            cpu_cores=32,
            memory_gib=192,
            gpus=4,
            shared_memory_gib=48,
            scratch_gib=500,
            timeout_s=12 * 3600,
            cached=True,
            node_selector={"nvidia.com/gpu.present": "true"},
            tolerated_taints=("nvidia.com/gpu",),
        ),
        "export-onnx": Placement(cpu_cores=4, memory_gib=8, scratch_gib=8, cached=True),
        "calibrate-int8": Placement(cpu_cores=8, memory_gib=16, scratch_gib=8, cached=True),
        "build-engines": Placement(cpu_cores=8, memory_gib=16, scratch_gib=16, timeout_s=7200, cached=True),
        "evaluate-models": Placement(cpu_cores=16, memory_gib=32, scratch_gib=50, timeout_s=7200),
        "judge-release": light.changed(memory_gib=4),
        "is-approved": light.changed(environment="none"),
        "release-model": Placement(
            cpu_cores=2, memory_gib=4, scratch_gib=8, environment="registry", signing_secret="yanshan-signing"
        ),
        "notify-people": light,
    }


def small() -> dict[str, Placement]:
    """Production's steps on one node without a GPU: demo, smoke, kind."""
    few = {"gpus": 0, "node_selector": {}, "tolerated_taints": [], "shared_memory_gib": 0.0}
    return {
        task: place.changed(
            **few, cpu_cores=min(place.cpu_cores, 2), memory_gib=min(place.memory_gib, 4), scratch_gib=4
        )
        for task, place in production().items()
    }


PLACEMENTS = {"production": production, "demo": small, "smoke": small}


def write_placement(path: Path, places: Mapping[str, Placement]) -> None:
    """Write `places` into the compiled pipeline at `path`."""
    import yaml

    text = path.read_text()
    header = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
    documents = list(yaml.safe_load_all(text))
    placed = place(documents[0], documents[1] if len(documents) > 1 else {}, places)
    beside = path.with_name(f".writing-{path.name}")
    beside.write_text(header + "---\n".join(yaml.safe_dump(document, sort_keys=True) for document in placed))
    beside.replace(path)


def place(
    pipeline: dict[str, Any], platform: dict[str, Any], places: Mapping[str, Placement]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both documents of a compiled pipeline (`PipelineSpec`, `PlatformSpec`) with `places` written into them.

    Raises:
        KeyError: a task without a placement.
    """
    for name, task in tasks(pipeline):
        if "executorLabel" in pipeline["components"][task["componentRef"]["name"]]:
            task["cachingOptions"] = {"enableCache": True} if places[name].cached else {}
            if places[name].retries:
                task["retryPolicy"] = _retry_policy(places[name])
    executors = pipeline["deploymentSpec"]["executors"]
    for label, executor in executors.items():
        executor["container"]["resources"] = _resources(places[label.removeprefix("exec-")])
    pods = {label: _pod(label.removeprefix("exec-"), places[label.removeprefix("exec-")]) for label in executors}
    return pipeline, {**platform, "platforms": {"kubernetes": {"deploymentSpec": {"executors": pods}}}}


def tasks(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task of every branch, by name."""
    for component in [pipeline["root"], *pipeline["components"].values()]:
        yield from component.get("dag", {}).get("tasks", {}).items()


def describe_placement(places: Mapping[str, Placement]) -> str:
    """One line a step: what it asks for."""
    lines = [
        f"{'task':<16} {'cpu':>4} {'GiB':>5} {'gpus':>4} {'shm':>4} {'/tmp':>5} {'hours':>5} retries cache  services"
    ]
    for task, it in places.items():
        lines.append(
            f"{task:<16} {it.cpu_cores:>4g} {it.memory_gib:>5g} {it.gpus:>4} {it.shared_memory_gib:>4g} "
            f"{it.scratch_gib:>5g} {it.timeout_s / 3600:>5g} {it.retries:>7} {'on' if it.cached else 'off':<5}  "
            f"{it.environment}{'  ' + it.signing_secret if it.signing_secret else ''}"
        )
    return "\n".join(lines) + "\n"


def _retry_policy(it: Placement) -> dict[str, Any]:
    back_off = {
        "backoffDuration": f"{it.back_off_s}s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": f"{it.back_off_max_s}s",
    }
    return {"maxRetryCount": it.retries, **back_off}


def _resources(it: Placement) -> dict[str, Any]:
    """Requests equal limits: the pod is of the guaranteed class, the last to be evicted."""
    memory_gb = it.memory_gib * 2**30 / 1e9
    resources: dict[str, Any] = {
        **{f"cpu{bound}": it.cpu_cores for bound in ("Limit", "Request")},
        **{f"memory{bound}": memory_gb for bound in ("Limit", "Request")},
        **{f"resourceCpu{bound}": f"{it.cpu_cores:g}" for bound in ("Limit", "Request")},
        **{f"resourceMemory{bound}": f"{it.memory_gib:g}Gi" for bound in ("Limit", "Request")},
    }
    if it.gpus:
        count = {"count": str(it.gpus), "resourceCount": str(it.gpus)}
        resources["accelerator"] = {**count, "type": it.gpu_type, "resourceType": it.gpu_type}
    return resources


def _pod(task: str, it: Placement) -> dict[str, Any]:
    user = {"runAsUser": str(USER_ID), "runAsGroup": str(USER_ID), "runAsNonRoot": True}
    pod: dict[str, Any] = {
        "activeDeadlineSeconds": str(it.timeout_s),
        "imagePullPolicy": "IfNotPresent",
        "securityContext": user,
        "emptyDirMounts": _mounts(it),
        "podMetadata": {"labels": _labels(task, it)},
    }
    if it.node_selector:
        pod["nodeSelector"] = {"labels": dict(it.node_selector)}
    if it.tolerated_taints:
        pod["tolerations"] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in it.tolerated_taints]
    return pod | _environment(it)


def _mounts(it: Placement) -> list[dict[str, Any]]:
    mounts = [{"volumeName": "scratch", "mountPath": "/tmp", "sizeLimit": f"{it.scratch_gib:g}Gi"}]
    if it.shared_memory_gib:
        size = f"{it.shared_memory_gib:g}Gi"
        mounts.append({"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": size})
    return mounts


def _labels(task: str, it: Placement) -> dict[str, str]:
    """What the network policies select pods by, and Kueue admits them by."""
    labels = {"app.kubernetes.io/part-of": "yanshan", "yanshan/task": task, "yanshan/services": it.environment}
    return labels | ({"kueue.x-k8s.io/queue-name": it.queue} if it.queue else {})


def _environment(it: Placement) -> dict[str, Any]:
    """Addresses from a ConfigMap, credentials from secrets; values stand in neither this file nor the compiled one."""
    if it.environment == "none":
        return {}
    secrets = STORE_SECRET | (REGISTRY_SECRET if it.environment == "registry" else {})
    keys = [{"configMapKey": key, "envVar": key} for key in CONFIG_KEYS]
    environment: dict[str, Any] = {
        "configMapAsEnv": [_named("configMap", CONFIG) | {"keyToEnv": keys}],
        "configMapAsVolume": [_named("configMap", TRUST) | {"mountPath": TRUST_FOLDER}],
        "secretAsEnv": [
            _named("secret", secret)
            | {"keyToEnv": [{"secretKey": key, "envVar": variable} for key, variable in variables.items()]}
            for secret, variables in secrets.items()
        ],
    }
    if it.signing_secret:
        environment["secretAsVolume"] = [_named("secret", it.signing_secret) | {"mountPath": SIGNING_FOLDER}]
    return environment


def _named(kind: str, name: str) -> dict[str, Any]:
    """A reference that may be missing: on a laptop's cluster a service may need no credentials."""
    constant = {"runtimeValue": {"constant": name}}
    return {f"{kind}Name": name, f"{kind}NameParameter": constant, "optional": True}
