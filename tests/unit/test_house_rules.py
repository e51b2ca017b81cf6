"""The rules that keep the tree readable, checked on every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("components", "pipelines") for path in (ROOT / top).rglob("*.py"))
FACES = sorted((ROOT / "components").glob("*/component.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "manager"}
HEAVY = {"torch", "ultralytics", "kfp", "mlflow", "cv2", "openvino", "onnxruntime", "onnx", "pandas"}
AGPL = {"ultralytics"}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FACES, ids=short)
def test_a_face_is_thin(path: Path) -> None:
    (face,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    statements = [node for node in face.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert ast.get_docstring(face), "a face says what the step does"
    assert len(statements) <= 8, f"{len(statements)} statements: move the work into the step's function"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.parent.name == "components"], ids=short)
def test_a_step_imports_only_itself_and_what_is_shared(path: Path) -> None:
    step = path.relative_to(ROOT / "components").parts[0]
    modules = imported(ast.parse(path.read_text()))
    strangers = {m for m in modules if m.startswith("components.")} - {
        m for m in modules if m.startswith((f"components.{step}.", "components.shared."))
    }
    assert not strangers - {f"components.{step}", "components.shared"}, "steps meet in the pipeline, through artifacts"
    assert not {m for m in modules if m.split(".")[0] == "pipelines"}
    if path.name != "component.py":
        assert not {m for m in modules if m.split(".")[0] == "kfp"}, "only a face imports kfp"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_only_training_and_export_import_the_agpl_trainer(path: Path) -> None:
    if path.relative_to(ROOT).parts[1] in ("train", "export"):
        return
    assert not {m for m in imported(ast.parse(path.read_text())) if m.split(".")[0] in AGPL}


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_names_say_what_a_module_holds(path: Path) -> None:
    names = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert not names & FORBIDDEN_NAMES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=short)
def test_a_package_is_one_sentence(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr), "a docstring and no imports"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_a_file_and_its_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and path.name not in ("component.py", "nightly_retrain.py"):
            doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            assert node.end_lineno - node.lineno + 1 - doc <= 60, f"{node.name} is too long"


@pytest.mark.parametrize("kind", ["pipelines.__main__", "components.train.settings", "components.shared.dataset"])
def test_an_import_stays_light(kind: str) -> None:
    script = f"import {kind}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_no_machine_path_and_no_index_address_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: the file list comes from git")
    hosts = ("python" + "hosted", "pypi" + ".org", "deb." + "debian.org", "registry." + "npmjs")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (".png", ".jpg") or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        assert not [host for host in hosts if host in text], f"{name}: index or registry address"
        assert "/" + "root/" not in text, f"{name}: path of one machine"
