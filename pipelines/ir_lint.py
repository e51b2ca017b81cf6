"""What Kubeflow accepts and then gets wrong: found in the compiled file, before it runs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.errors import InvalidInput
from pipelines.placement import tasks

CHANNEL = re.compile(r"pipelinechannel--([\w-]+)")


def check_ir(path: Path, pinned: bool = False, placed: bool = False) -> None:
    """Refuse a compiled pipeline with any problem.

    Raises:
        InvalidInput: names every problem.
    """
    problems = list(lint(path, pinned, placed))
    if problems:
        raise InvalidInput(f"{path}: {len(problems)} problems\n  " + "\n  ".join(problems))


def lint(path: Path, pinned: bool = False, placed: bool = False) -> Iterator[str]:
    """One sentence a problem in the compiled pipeline at `path`.

    Args:
        path: IR YAML, one or two documents.
        pinned: Every image must be named by its digest.
        placed: Every step must ask for its resources.
    """
    import yaml

    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    except (OSError, yaml.YAMLError) as fault:
        raise InvalidInput(f"{path}: not a compiled pipeline ({fault})") from fault
    if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
        raise InvalidInput(f"{path}: not a compiled pipeline; expected YAML with pipelineInfo, root, components")
    if unparsed := list(_unparsed(documents)):
        yield from unparsed
        return
    yield from _wiring(documents[0])
    for label, executor in documents[0]["deploymentSpec"]["executors"].items():
        yield from (f"{label}: {problem}" for problem in _executor(executor, pinned, placed))
    yield from _platform(documents, placed)


def _unparsed(documents: list[dict[str, Any]]) -> Iterator[str]:
    """Fields that the official protos do not know; the server would drop or refuse them."""
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
        if len(documents) > 1:
            json_format.ParseDict(documents[1], pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as fault:
        yield f"proto: {fault}"
    for label, config in _pods(documents).items():
        try:
            json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        except json_format.ParseError as fault:
            yield f"{label}: kubernetes settings: {fault}"


def _wiring(pipeline: Mapping[str, Any]) -> Iterator[str]:
    """Every input has a source, and every condition one that the local runner reads too."""
    for name, component in {"root": pipeline["root"], **pipeline["components"]}.items():
        inner = component.get("dag", {}).get("tasks", {})
        for task_name, task in inner.items():
            for problem in [*_inputs(pipeline, component, inner, task), *_condition(pipeline, inner, task)]:
                yield f"{name}/{task_name}: {problem}"


def _inputs(
    pipeline: Mapping[str, Any], component: Mapping[str, Any], inner: Mapping[str, Any], task: Mapping[str, Any]
) -> Iterator[str]:
    """Inputs whose source does not exist; the compiler writes them for parameters used inside a branch only."""
    defined = component.get("inputDefinitions", {})
    for kind, singular in (("parameters", "Parameter"), ("artifacts", "Artifact")):
        for key, source in task.get("inputs", {}).get(kind, {}).items():
            outer = source.get(f"componentInput{singular}")
            if outer and outer not in defined.get(kind, {}):
                yield f"{key} comes from {outer}, which its branch does not have"
            produced = source.get(f"taskOutput{singular}")
            if produced and not _produces(pipeline, inner, produced, kind, singular):
                yield f"{key} comes from {produced['producerTask']}, which has no such output"


def _produces(
    pipeline: Mapping[str, Any], inner: Mapping[str, Any], produced: Mapping[str, Any], kind: str, singular: str
) -> bool:
    producer = inner.get(produced["producerTask"])
    if producer is None:
        return False
    outputs = pipeline["components"][producer["componentRef"]["name"]].get("outputDefinitions", {}).get(kind, {})
    return produced[f"output{singular}Key"] in outputs


def _condition(pipeline: Mapping[str, Any], inner: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    """On anything but one unnamed string the local runner skips the branch and reports success."""
    condition = task.get("triggerPolicy", {}).get("condition", "")
    for channel in CHANNEL.findall(condition):
        source = task["inputs"]["parameters"][f"pipelinechannel--{channel}"]
        producer = source.get("taskOutputParameter", {}).get("producerTask")
        if producer is None:
            yield f"condition on {channel}, which is no output of a step beside it"
            continue
        outputs = pipeline["components"][inner[producer]["componentRef"]["name"]].get("outputDefinitions", {})
        named = [*outputs.get("parameters", {}), *outputs.get("artifacts", {})]
        if named != ["Output"]:
            yield f"condition on {producer}, which has outputs {named}: expected one unnamed string"
        elif outputs["parameters"]["Output"]["parameterType"] != "STRING":
            yield f"condition on {producer}: expected a string, got {outputs['parameters']['Output']['parameterType']}"


def _executor(executor: Mapping[str, Any], pinned: bool, placed: bool) -> Iterator[str]:
    container = executor.get("container")
    if container is None:
        yield f"runs as {next(iter(executor))}: the local runner knows containers only"
        return
    command = " ".join([*container.get("command", []), *container.get("args", [])])
    if "kfp.dsl.executor_main" not in command or "--component_module_path" not in command:
        yield "is no lightweight Python step: the local runner refuses it"
    if "pip install" in command:
        yield "installs packages when it starts: they belong into its image"
    if container["image"].endswith(":latest") or container["image"].startswith("argostub/"):
        yield f"image {container['image']}: expected one that is built once and named for ever"
    if pinned and "@sha256:" not in container["image"]:
        yield f"image {container['image']}: expected a digest (name@sha256:...), a tag can change under the cache"
    if container.get("env"):
        yield "carries environment values: they belong into a ConfigMap or a secret"
    wanted = {f"resource{what}{bound}" for what in ("Cpu", "Memory") for bound in ("Request", "Limit")}
    if placed and (missing := wanted - container.get("resources", {}).keys()):
        yield f"asks for no {', '.join(sorted(missing))}"


def _platform(documents: list[dict[str, Any]], placed: bool) -> Iterator[str]:
    pods, executors = _pods(documents), documents[0]["deploymentSpec"]["executors"]
    for label in pods.keys() - executors.keys():
        yield f"{label}: kubernetes settings for a step that is not there"
    if not placed:
        return
    for label in executors:
        pod = pods.get(label, {})
        if "activeDeadlineSeconds" not in pod:
            yield f"{label}: no timeout"
        if not pod.get("securityContext", {}).get("runAsNonRoot"):
            yield f"{label}: may run as root"
    for name, task in tasks(documents[0]):
        if "executorLabel" in documents[0]["components"][task["componentRef"]["name"]] and "cachingOptions" not in task:
            yield f"{name}: does not say whether it may be cached"


def _pods(documents: list[dict[str, Any]]) -> dict[str, Any]:
    if len(documents) < 2:
        return {}
    kubernetes = documents[1].get("platforms", {}).get("kubernetes", {})
    return dict(kubernetes.get("deploymentSpec", {}).get("executors", {}))
