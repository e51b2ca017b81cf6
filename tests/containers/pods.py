"""Runs a compiled pipeline's steps in containers, one after the other, as Kubeflow's pods would.

What Kubeflow's driver does (inputs, conditions, exit handler) and what its launcher does (executor input, places of
artifacts) is done here; image, command, user, limits, mounts and environment come from the compiled file.
"""

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONDITION = re.compile(r"inputs\.parameter_values\['(?P<name>[^']+)'\] == '(?P<value>[^']*)'")
RUN_ROOT = "s3://yanshan/kfp/run"
"""In a pod the launcher lays the artifacts of this address under /s3/yanshan/kfp/run."""
Values = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """What a namespace would hold: a network, and ConfigMaps and secrets by name, each a folder of files."""

    network: str
    config_maps: dict[str, Path]
    secrets: dict[str, Path]


@dataclass(frozen=True)
class Ended:
    """How a step's container ended."""

    code: int
    seconds: float
    log: str
    command: list[str]
    outputs: Values = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)


class StepFailed(Exception):
    """A step's container ended with another code than 0."""


class Run:
    """One run of a compiled pipeline: `steps` holds how every step that ran has ended, by task name."""

    def __init__(self, pipeline: Path, folder: Path, cluster: Cluster) -> None:
        self.pipeline, self.platform = yaml.safe_load_all(pipeline.read_text())
        self.folder, self.cluster = folder, cluster
        self.steps: dict[str, Ended] = {}

    def start(self, **arguments: Any) -> "Run":
        """Run every task; returns when the exit handler has ended."""
        defined = self.pipeline["root"]["inputDefinitions"]["parameters"]
        given = {name: arguments.get(name, definition.get("defaultValue")) for name, definition in defined.items()}
        self._dag(self.pipeline["root"]["dag"]["tasks"], _as_kubeflow_carries(given), {})
        return self

    def _dag(self, tasks: Values, parameters: Values, artifacts: Values) -> None:
        failure = ""
        for name in _in_order(tasks):
            task = tasks[name]
            handler = "strategy" in task.get("triggerPolicy", {})
            if failure and not handler:
                break
            values = self._parameters(task, parameters, failure)
            brought = self._artifacts(task, artifacts)
            if not _holds(task, values):
                continue
            component = self.pipeline["components"][task["componentRef"]["name"]]
            try:
                if "dag" in component:
                    self._dag(component["dag"]["tasks"], values, brought)
                else:
                    self.steps[name] = self._step(name, component, values, brought)
                    if self.steps[name].code:
                        raise StepFailed(f"{name}: {self.steps[name].log[-2000:]}")
            except StepFailed as failed:
                failure = str(failed)
                if not any("strategy" in other.get("triggerPolicy", {}) for other in tasks.values()):
                    raise

    def _parameters(self, task: Values, outer: Values, failure: str) -> Values:
        values = {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                values[key] = outer[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                produced = source["taskOutputParameter"]
                values[key] = self.steps[produced["producerTask"]].outputs[produced["outputParameterKey"]]
            elif "taskFinalStatus" in source:
                producer = source["taskFinalStatus"]["producerTask"]
                status = {"state": "FAILED" if failure else "SUCCEEDED", "pipelineTaskName": producer}
                values[key] = status | {"pipelineJobResourceName": "run", "error": {"message": failure, "code": 9}}
            else:
                values[key] = source["runtimeValue"]["constant"]
        return values

    def _artifacts(self, task: Values, outer: Values) -> Values:
        brought = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            if "componentInputArtifact" in source:
                brought[key] = outer[source["componentInputArtifact"]]
            else:
                produced = source["taskOutputArtifact"]
                name = produced["outputArtifactKey"]
                uri = f"{RUN_ROOT}/{produced['producerTask']}/{name}"
                brought[key] = {"artifacts": [{"name": name, "uri": uri, "metadata": {}}]}
        return {key: _typed(value, task, self.pipeline, key) for key, value in brought.items()}

    def _step(self, name: str, component: Values, values: Values, brought: Values) -> Ended:
        place = self.folder / name
        for sub in ("artifacts", "outputs", "parameters"):
            _fresh(place / sub)
        outputs = component.get("outputDefinitions", {})
        executor_input = {
            "inputs": {"parameterValues": values, "artifacts": brought},
            "outputs": {
                "parameters": {key: {"outputFile": f"/tmp/kfp/outputs/{key}"} for key in outputs.get("parameters", {})},
                "artifacts": {
                    key: {"artifacts": [{"name": key, "uri": f"{RUN_ROOT}/{name}/{key}", "type": made["artifactType"]}]}
                    for key, made in outputs.get("artifacts", {}).items()
                },
                "outputFile": "/tmp/kfp_outputs/output_metadata.json",
            },
        }
        label = component["executorLabel"]
        command = self._docker(name, label, place) + self._program(label, executor_input)
        started = time.monotonic()
        seconds_allowed = int(self._pod(label)["activeDeadlineSeconds"])
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_allowed)
        report = place / "outputs" / "output_metadata.json"
        told = json.loads(report.read_text() or "{}") if report.exists() else {}
        return Ended(
            code=done.returncode,
            seconds=time.monotonic() - started,
            log=done.stdout + done.stderr,
            command=command,
            outputs=told.get("parameterValues", {}),
            artifacts={key: place / "artifacts" / key for key in outputs.get("artifacts", {})},
        )

    def _pod(self, label: str) -> Values:
        return self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]

    def _program(self, label: str, executor_input: Values) -> list[str]:
        container = self.pipeline["deploymentSpec"]["executors"][label]["container"]
        words = [*container["command"], *container["args"]]
        return [container["image"], *(json.dumps(executor_input) if word == "{{$}}" else word for word in words)]

    def _docker(self, name: str, label: str, place: Path) -> list[str]:
        """The pod's confinement and mounts in Docker's words."""
        pod = self._pod(label)
        limits = self.pipeline["deploymentSpec"]["executors"][label]["container"]["resources"]
        memory = limits["resourceMemoryLimit"].removesuffix("Gi") + "g"
        user, services = pod["securityContext"], pod["podMetadata"]["labels"]["yanshan/services"]
        words = ["docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        words += ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--pids-limit", "1024"]
        words += ["--memory", memory, "--memory-swap", memory, "--cpus", limits["resourceCpuLimit"]]
        words += ["--network", "none" if services == "none" else self.cluster.network]
        for mount in pod["emptyDirMounts"]:
            size = mount["sizeLimit"].removesuffix("Gi")
            words += ["--tmpfs", f"{mount['mountPath']}:rw,exec,size={size}g"]
        for task in sorted(folder for folder in self.folder.iterdir() if folder != place):
            words += ["--volume", f"{task / 'artifacts'}:{_inside(RUN_ROOT)}/{task.name}:ro"]
        words += ["--volume", f"{place / 'artifacts'}:{_inside(RUN_ROOT)}/{name}"]
        words += ["--volume", f"{place / 'outputs'}:/tmp/kfp_outputs"]
        words += ["--volume", f"{place / 'parameters'}:/tmp/kfp/outputs"]
        return words + self._environment(pod) + self._volumes(pod)

    def _environment(self, pod: Values) -> list[str]:
        words: list[str] = []
        for kind, key, held in (
            ("configMap", "configMapKey", self.cluster.config_maps),
            ("secret", "secretKey", self.cluster.secrets),
        ):
            for source in pod.get(f"{kind}AsEnv", []):
                for entry in source["keyToEnv"]:
                    file = held.get(source[f"{kind}Name"], Path("/none")) / entry[key]
                    if file.exists():
                        words += ["--env", f"{entry['envVar']}={file.read_text()}"]
        return words

    def _volumes(self, pod: Values) -> list[str]:
        words: list[str] = []
        for kind, held in (("configMap", self.cluster.config_maps), ("secret", self.cluster.secrets)):
            for source in pod.get(f"{kind}AsVolume", []):
                if source[f"{kind}Name"] in held:
                    words += ["--volume", f"{held[source[f'{kind}Name']]}:{source['mountPath']}:ro"]
        return words


def _as_kubeflow_carries(value: Any) -> Any:
    """Whole numbers become floats on their way through Kubeflow."""
    if isinstance(value, dict):
        return {key: _as_kubeflow_carries(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_kubeflow_carries(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _typed(brought: Values, task: Values, pipeline: Values, key: str) -> Values:
    definitions = pipeline["components"][task["componentRef"]["name"]].get("inputDefinitions", {})
    kind = definitions["artifacts"][key]["artifactType"]
    return {"artifacts": [artifact | {"type": kind} for artifact in brought["artifacts"]]}


def _holds(task: Values, values: Values) -> bool:
    condition = task.get("triggerPolicy", {}).get("condition")
    if not condition:
        return True
    match = CONDITION.fullmatch(condition)
    assert match, f"a condition of another form than ours: {condition}"
    return bool(values[match["name"]] == match["value"])


def _in_order(tasks: Values) -> list[str]:
    placed: list[str] = []
    while len(placed) < len(tasks):
        ready = (name for name in tasks if name not in placed)
        placed.append(next(name for name in ready if set(tasks[name].get("dependentTasks", [])) <= set(placed)))
    return placed


def _inside(uri: str) -> str:
    return "/" + uri.replace("://", "/")


def _fresh(folder: Path) -> None:
    """An empty folder that the step's user may write."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.chown(folder, 65532, 65532)
