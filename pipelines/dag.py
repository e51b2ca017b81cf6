"""The DAG as text: compile to Kubeflow's form, and print it one line a step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.recipes import Recipe


def compile_pipeline(recipe: Recipe, path: Path) -> None:
    """Write the pipeline with the recipe's settings as its parameters' defaults (Kubeflow IR YAML)."""
    from kfp import compiler

    from pipelines.nightly_retrain import nightly_retrain

    path.parent.mkdir(parents=True, exist_ok=True)
    defaults = recipe.as_parameters() | {"reason": "nightly"}
    compiler.Compiler().compile(nightly_retrain, str(path), pipeline_parameters=defaults)


def read_ir(path: Path) -> dict[str, Any]:
    """The pipeline document of a compiled file."""
    import yaml

    with path.open() as file:
        return next(iter(yaml.safe_load_all(file)))


def describe(ir: dict[str, Any]) -> str:
    """The DAG, one line a step in running order, branches indented below what opens them."""
    return "\n".join(_lines(ir, ir["root"]["dag"]["tasks"], "")) + "\n"


def display_names(ir: dict[str, Any]) -> dict[str, str]:
    """What people call each task, by task name, in running order; branches left out."""
    return dict(_display_names(ir, ir["root"]["dag"]["tasks"]))


def _display_names(ir: dict[str, Any], tasks: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _in_order(tasks):
        inner = ir["components"][tasks[name]["componentRef"]["name"]].get("dag")
        if inner:
            yield from _display_names(ir, inner["tasks"])
        else:
            yield name, tasks[name]["taskInfo"]["name"]


def _lines(ir: dict[str, Any], tasks: dict[str, Any], indent: str) -> Iterator[str]:
    for name in _in_order(tasks):
        task = tasks[name]
        component = ir["components"][task["componentRef"]["name"]]
        if "dag" in component:
            yield f"{indent}{_branch(task)}"
            yield from _lines(ir, component["dag"]["tasks"], indent + "    ")
            continue
        executor = ir["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        gpus = executor.get("resources", {}).get("accelerator", {}).get("resourceCount", "0")
        image = executor["image"].rsplit("/", 1)[-1].split(":")[0].split("@")[0]
        after = ", ".join(
            "night" if n.startswith("exit-handler") else n for n in sorted(task.get("dependentTasks", []))
        )
        called = task["taskInfo"]["name"]
        yield f"{indent}{name:<16} {called:<26} {image:<9} gpus={gpus}  after {after or '-'}"


def _branch(task: dict[str, Any]) -> str:
    condition = task.get("triggerPolicy", {}).get("condition")
    if not condition:
        return f"{task['taskInfo']['name']}:"
    producer = condition.split("pipelinechannel--")[1].split("-Output")[0]
    return f"if {producer} == {condition.split('== ')[1]}:"


def _in_order(tasks: dict[str, Any]) -> list[str]:
    """Names such that every task comes after those it depends on; exit handlers last."""
    placed: list[str] = []
    waiting = sorted(tasks, key=lambda name: "strategy" in tasks[name].get("triggerPolicy", {}))
    while waiting:
        ready = [n for n in waiting if all(d in placed for d in tasks[n].get("dependentTasks", []))]
        name = next((n for n in ready if "dag" not in n), ready[0])
        placed.append(name)
        waiting.remove(name)
    return placed
