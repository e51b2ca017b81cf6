"""What Kubeflow accepts and then gets wrong, found in really compiled files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kfp import compiler, dsl

from components.shared.errors import InvalidInput
from pipelines.dag import compile_pipeline
from pipelines.ir_lint import check_ir, lint
from pipelines.placement import PLACEMENTS, write_placement
from pipelines.recipes import find_recipe

Two = NamedTuple("Two", [("count", int), ("passed", str)])  # noqa: UP014 (kfp reads no other form)
step = dsl.component(base_image="yanshan/data:1", install_kfp_package=False)


@step
def answer() -> str:
    return "yes"


@step
def answers() -> Two:
    return Two(1, "yes")


@step
def number() -> int:
    return 1


@step
def work() -> None:
    pass


@dsl.component(base_image="yanshan/data:1", packages_to_install=["numpy"])
def installing() -> None:
    pass


@dsl.pipeline(name="dangling")
def dangling(gpus: int = 1):
    with dsl.If(answer().output == "yes"):
        work().set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus)


@dsl.pipeline(name="named")
def named():
    with dsl.If(answers().outputs["passed"] == "yes"):
        work()


@dsl.pipeline(name="counted")
def counted():
    with dsl.If(number().output == 1):
        work()


@dsl.pipeline(name="chosen")
def chosen(kind: str = "x"):
    with dsl.If(kind == "x"):
        work()


@dsl.pipeline(name="installs")
def installs():
    installing()


@dsl.pipeline(name="good")
def good():
    with dsl.If(answer().output == "yes"):
        work()


def problems(pipeline: Any, folder: Path, **options: bool) -> str:
    compiler.Compiler().compile(pipeline, str(folder / "p.yaml"))
    return "\n".join(lint(folder / "p.yaml", **options))


@pytest.fixture
def change(tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], str]:
    """Compile and place the real pipeline, damage its documents, lint the result."""

    def damaged(damage: Callable[..., None]) -> str:
        path = tmp_path / "p.yaml"
        compile_pipeline(find_recipe("production"), path)
        write_placement(path, PLACEMENTS["production"]())
        documents = list(yaml.safe_load_all(path.read_text()))
        damage(*documents)
        path.write_text(yaml.safe_dump_all(documents))
        return "\n".join(lint(path, placed=True))

    return damaged


def test_a_sound_pipeline_has_no_problem(tmp_path: Path) -> None:
    assert problems(good, tmp_path) == ""


def test_a_gpu_count_that_its_branch_does_not_have_is_found(tmp_path: Path) -> None:
    assert "pipelinechannel--gpus, which its branch does not have" in problems(dangling, tmp_path)


def test_a_condition_on_one_of_several_outputs_is_found(tmp_path: Path) -> None:
    expected = "condition on answers, which has outputs ['count', 'passed']: expected one unnamed string"
    assert expected in problems(named, tmp_path)


def test_a_condition_on_a_number_is_found(tmp_path: Path) -> None:
    assert "condition on number: expected a string, got NUMBER_INTEGER" in problems(counted, tmp_path)


def test_a_condition_on_a_parameter_is_found(tmp_path: Path) -> None:
    assert "condition on kind, which is no output of a step beside it" in problems(chosen, tmp_path)


def test_a_step_that_installs_packages_is_found(tmp_path: Path) -> None:
    assert "exec-installing: installs packages when it starts" in problems(installs, tmp_path)


def test_an_image_without_a_digest_is_found_where_digests_are_asked_for(tmp_path: Path) -> None:
    assert problems(good, tmp_path, pinned=True).count("expected a digest") == 2


def test_a_step_without_resources_timeout_or_user_is_found(tmp_path: Path) -> None:
    found = problems(good, tmp_path, placed=True)
    assert "exec-work: asks for no resourceCpuLimit, resourceCpuRequest, resourceMemoryLimit" in found
    assert "exec-work: no timeout" in found and "exec-work: may run as root" in found
    # The compiler writes `enableCache: true` where nobody said a word.
    assert "cached" not in found


def test_a_field_that_the_protos_do_not_know_is_found(change: Callable[..., str]) -> None:
    assert "proto:" in change(lambda pipeline, platform: pipeline.update(surprise=1))

    def misspell(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
        pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        pods["exec-train-detector"]["nodeSelectors"] = {}

    assert "exec-train-detector: kubernetes settings:" in change(misspell)


def test_an_input_from_an_output_that_is_not_there_is_found(change: Callable[..., str]) -> None:
    def forget(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
        del pipeline["components"]["comp-train-detector"]["outputDefinitions"]["artifacts"]["checkpoint"]

    assert "checkpoint comes from train-detector, which has no such output" in change(forget)


def test_settings_for_a_step_that_is_gone_are_found(change: Callable[..., str]) -> None:
    def leave(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
        platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-gone"] = {}

    assert "exec-gone: kubernetes settings for a step that is not there" in change(leave)


def test_values_in_the_environment_and_moving_images_are_found(change: Callable[..., str]) -> None:
    def spoil(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
        container = pipeline["deploymentSpec"]["executors"]["exec-release-model"]["container"]
        container["env"] = [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]
        container["image"] = "yanshan/release:latest"

    found = change(spoil)
    assert "exec-release-model: carries environment values" in found
    assert "exec-release-model: image yanshan/release:latest" in found


@pytest.mark.parametrize("text", ["", "a: [", "just text", "a: 1\n"])
def test_a_file_that_is_no_pipeline_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=r"p\.yaml: not a compiled pipeline"):
        list(lint(tmp_path / "p.yaml"))


def test_a_refusal_names_every_problem(tmp_path: Path) -> None:
    compiler.Compiler().compile(installs, str(tmp_path / "p.yaml"))
    with pytest.raises(InvalidInput, match=r"2 problems\n.*installs packages.*\n.*digest"):
        check_ir(tmp_path / "p.yaml", pinned=True)
