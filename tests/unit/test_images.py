"""What an image holds, read from its lock: everything its steps import, pinned with hashes, and no address."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from pipelines.placement import production

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("data", "training", "engine", "release")
OPTIONAL = {
    *("tensorrt", "modelopt", "pynvml", "nncf", "torch_pruning"),
    *("ncnn", "litert", "ai_edge_litert", "coremltools"),
}
"""Imported where they are installed, and done without where they are not."""


ELSEWHERE = {("detection.py", name) for name in ("onnxruntime", "openvino", "onnx")}
"""Shared code whose other half only some steps use."""


def locked(name: str) -> dict[str, str]:
    """Version of every distribution in a lock."""
    text = (ROOT / "images" / name).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def image_of(step: Path) -> str:
    match = re.search(r"base_image=images\.(\w+)", (step / "component.py").read_text())
    assert match, step
    return match[1].lower()


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"components", "pipelines"} - OPTIONAL


def sources(step: Path) -> set[Path]:
    """The step's files, and those of the shared modules that they reach."""
    found, waiting = set(), set(step.rglob("*.py"))
    while waiting:
        path = waiting.pop()
        found.add(path)
        text = path.read_text()
        names = re.findall(r"components\.shared\.(\w+)", text) + re.findall(
            r"from components\.shared import (\w+)", text
        )
        waiting |= {ROOT / "components" / "shared" / f"{name}.py" for name in names} - found
    return {path for path in found if path.exists()}


STEPS = sorted(path.parent for path in (ROOT / "components").glob("*/component.py"))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_an_image_holds_what_its_step_imports(step: Path) -> None:
    held = locked(f"{image_of(step)}/requirements.txt")
    distributions = packages_distributions()
    missing = {
        f"{path.name}: {name}"
        for path in sources(step)
        for name in imports(path)
        if (path.name, name) not in ELSEWHERE
        and not {re.sub(r"[-_.]+", "-", found).lower() for found in distributions.get(name, [name])} & held.keys()
    }
    assert missing == set()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_pinned_as_everything_is(kind: str) -> None:
    everything, held = locked("constraints.txt"), locked(f"{kind}/requirements.txt")
    assert held.items() <= everything.items()
    assert "kfp" in held


@pytest.mark.parametrize(
    "lock", ["constraints.txt", "build-tools.txt", *(f"{kind}/requirements.txt" for kind in KINDS)]
)
def test_a_lock_has_a_hash_for_everything_and_no_address(lock: str) -> None:
    text = (ROOT / "images" / lock).read_text()
    assert "://" not in text and "file:" not in text
    for block in re.split(r"^(?=[a-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_what_the_trainer_brings_stays_in_the_training_image() -> None:
    holders = {kind for kind in KINDS if "ultralytics" in locked(f"{kind}/requirements.txt")}
    assert holders == {"training"}
    assert not {"torch", "nvidia-cublas"} & (
        locked("data/requirements.txt").keys() | locked("engine/requirements.txt").keys()
    )


def test_every_step_has_an_image_of_ours() -> None:
    assert {image_of(step) for step in STEPS} == set(KINDS)
    assert len(STEPS) == len(production())
