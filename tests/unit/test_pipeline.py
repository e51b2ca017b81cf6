"""The DAG and its compiled form."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.errors import InvalidInput
from pipelines.dag import compile_pipeline, describe, display_names, read_ir
from pipelines.recipes import RECIPES, Recipe, find_recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ir") / "pipeline.yaml"
    compile_pipeline(find_recipe("production"), path)
    return path


def dags(ir: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield ir["root"]["dag"]
    yield from (component["dag"] for component in ir["components"].values() if "dag" in component)


def test_the_graph_is_the_one_we_reviewed(compiled: Path, golden: Callable[[str, str], None]) -> None:
    golden(describe(read_ir(compiled)), "nightly_retrain.dag.txt")


def test_the_ir_is_the_one_we_reviewed(compiled: Path, golden: Callable[[str, str], None]) -> None:
    documents = list(yaml.safe_load_all(compiled.read_text()))
    documents[0]["sdkVersion"] = "any"
    for parameter in documents[0]["root"]["inputDefinitions"]["parameters"].values():
        parameter.pop("defaultValue", None)  # the recipe's numbers, which have their own test
    text = yaml.safe_dump_all(documents, sort_keys=True, width=110)
    golden(re.sub(r"image: .*/(\w+):\S+", r"image: \1", text), "nightly_retrain.ir.yaml")


def test_readme_shows_the_graph(compiled: Path) -> None:
    assert describe(read_ir(compiled)) in (ROOT / "README.md").read_text()


def test_every_step_has_a_name_for_people(compiled: Path) -> None:
    names = display_names(read_ir(compiled))
    assert len(names) == 12
    assert names["judge-release"] == "Release gate"


def test_no_step_installs_anything(compiled: Path) -> None:
    assert "pip install" not in compiled.read_text()


def test_every_component_has_an_image(compiled: Path) -> None:
    executors = read_ir(compiled)["deploymentSpec"]["executors"]
    assert len(executors) == 12
    assert all(executor["container"]["image"] for executor in executors.values())


def test_conditions_stand_on_one_output_string_steps(compiled: Path) -> None:
    ir = read_ir(compiled)
    conditions = [
        (dag, task["triggerPolicy"]["condition"])
        for dag in dags(ir)
        for task in dag["tasks"].values()
        if "condition" in task.get("triggerPolicy", {})
    ]
    assert len(conditions) == 2
    for dag, condition in conditions:
        producer = re.search(r"pipelinechannel--([\w-]+)-Output", condition)
        assert producer, f"{condition}: a named output is skipped in silence by the local runner"
        component = ir["components"][dag["tasks"][producer[1]]["componentRef"]["name"]]
        outputs = component["outputDefinitions"]
        assert set(outputs) == {"parameters"} and list(outputs["parameters"]) == ["Output"]
        assert outputs["parameters"]["Output"]["parameterType"] == "STRING"


def test_compiling_twice_gives_the_same_bytes(compiled: Path, tmp_path: Path) -> None:
    compile_pipeline(find_recipe("production"), tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == compiled.read_bytes()


def test_recipe_fields_are_the_pipelines_parameters(compiled: Path) -> None:
    parameters = read_ir(compiled)["root"]["inputDefinitions"]["parameters"]
    assert set(Recipe.model_fields) | {"inbox_uri", "store_uri", "reason"} == set(parameters)


@pytest.mark.parametrize("name", RECIPES)
def test_the_form_is_filled_in_with_the_recipe(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    compile_pipeline(recipe, tmp_path / "p.yaml")
    parameters = next(iter(yaml.safe_load_all((tmp_path / "p.yaml").read_text())))["root"]["inputDefinitions"]
    for field, value in recipe.as_parameters().items():
        assert parameters["parameters"][field]["defaultValue"] == value


@pytest.mark.parametrize(
    "change", [{"train.epoch": 3}, {"trian.epochs": 3}, {"train": 3}, {"train.epochs": "many"}, {"train.epochs.x": 1}]
)
def test_a_wrong_setting_is_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"train|trian"):
        find_recipe("demo", change)


def test_a_setting_is_changed_by_its_dotted_name() -> None:
    assert find_recipe("demo", {"train.epochs": 3}).train.epochs == 3
