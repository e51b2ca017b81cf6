"""What each step asks of a cluster, written as the official SDK writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, components, dsl, kubernetes, local

from components.shared.errors import InvalidInput
from pipelines.dag import compile_pipeline, describe, read_ir
from pipelines.ir_lint import lint
from pipelines.placement import (
    CONFIG,
    CONFIG_KEYS,
    PLACEMENTS,
    REGISTRY_SECRET,
    SIGNING_FOLDER,
    STORE_SECRET,
    TRUST,
    TRUST_FOLDER,
    Placement,
    describe_placement,
    place,
    tasks,
    write_placement,
)
from pipelines.recipes import find_recipe

FULL = Placement(
    cpu_cores=8,
    memory_gib=64,
    gpus=4,
    shared_memory_gib=16,
    scratch_gib=100,
    node_selector={"accelerator": "h200"},
    tolerated_taints=("nvidia.com/gpu",),
    timeout_s=7200,
    cached=True,
    queue="nightly",
    environment="registry",
    signing_secret="yanshan-signing",
)


@dsl.component(base_image="yanshan/data:1", install_kfp_package=False)
def some_step(text: str) -> str:
    return text


@dsl.pipeline(name="bare")
def bare(text: str):
    some_step(text=text)


@dsl.pipeline(name="bare")
def official(text: str):
    # FULL, said in the words of the official SDK.
    task = some_step(text=text)
    task.set_cpu_request("8").set_cpu_limit("8").set_memory_request("64Gi").set_memory_limit("64Gi")
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(4).set_caching_options(True)
    task.set_retry(2, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    kubernetes.set_timeout(task, 7200)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=65532, run_as_group=65532, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit="100Gi")
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit="16Gi")
    kubernetes.add_node_selector(task, "accelerator", "h200")
    kubernetes.add_toleration(task, key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
    for secret, variables in (STORE_SECRET | REGISTRY_SECRET).items():
        kubernetes.use_secret_as_env(task, secret, variables, optional=True)
    kubernetes.use_config_map_as_env(task, CONFIG, {key: key for key in CONFIG_KEYS}, optional=True)
    kubernetes.use_config_map_as_volume(task, TRUST, TRUST_FOLDER, optional=True)
    kubernetes.use_secret_as_volume(task, "yanshan-signing", SIGNING_FOLDER, optional=True)
    for key, value in {"app.kubernetes.io/part-of": "yanshan", "yanshan/task": "some-step"}.items():
        kubernetes.add_pod_label(task, key, value)
    kubernetes.add_pod_label(task, "yanshan/services", "registry")
    kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", "nightly")


def compiled(pipeline: Any, path: Path) -> list[dict[str, Any]]:
    compiler.Compiler().compile(pipeline, str(path))
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture
def production(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(find_recipe("production"), path)
    write_placement(path, PLACEMENTS["production"]())
    return path


def test_a_placement_reads_as_the_official_sdk_writes_it(tmp_path: Path) -> None:
    ours = list(place(compiled(bare, tmp_path / "bare.yaml")[0], {}, {"some-step": FULL}))
    assert ours == compiled(official, tmp_path / "official.yaml")


@pytest.mark.parametrize("recipe", PLACEMENTS)
def test_every_task_has_a_placement_and_every_placement_a_task(recipe: str, tmp_path: Path) -> None:
    compile_pipeline(find_recipe(recipe), tmp_path / "p.yaml")
    executors = read_ir(tmp_path / "p.yaml")["deploymentSpec"]["executors"]
    assert {f"exec-{task}" for task in PLACEMENTS[recipe]()} == set(executors)


def test_the_placed_pipeline_has_no_problem(production: Path) -> None:
    assert list(lint(production, placed=True)) == []


def test_placing_changes_nothing_but_where_steps_run(production: Path, tmp_path: Path) -> None:
    compile_pipeline(find_recipe("production"), tmp_path / "bare.yaml")
    bare_dag = describe(read_ir(tmp_path / "bare.yaml"))
    assert describe(read_ir(production)).replace("gpus=4", "gpus=0") == bare_dag
    assert production.read_text().startswith("# PIPELINE DEFINITION")


@pytest.mark.filterwarnings("ignore")
def test_a_placed_pipeline_still_runs_on_a_laptop(tmp_path: Path) -> None:
    compiler.Compiler().compile(bare, str(tmp_path / "p.yaml"))
    write_placement(tmp_path / "p.yaml", {"some-step": FULL})
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"))
    components.load_component_from_file(str(tmp_path / "p.yaml"))(text="as it is")
    # Ask the disk: the local runner also says SUCCESS for steps it skipped.
    (output,) = tmp_path.glob("runs/*/some-step/executor_output.json")
    assert "as it is" in output.read_text()


def test_placing_twice_writes_the_same_file(production: Path) -> None:
    before = production.read_bytes()
    write_placement(production, PLACEMENTS["production"]())
    assert production.read_bytes() == before


def test_steps_whose_answer_depends_on_the_day_are_never_cached(production: Path) -> None:
    cached = {name for name, task in tasks(read_ir(production)) if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"augment-images", "train-detector", "export-onnx", "calibrate-int8", "build-engines"}


def test_a_lost_pod_is_tried_again_later_and_later(production: Path) -> None:
    policy = dict(tasks(read_ir(production)))["train-detector"]["retryPolicy"]
    expected = {"maxRetryCount": 2, "backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "600s"}
    assert policy == expected


def test_no_value_of_a_secret_and_no_address_stands_in_the_compiled_file(production: Path) -> None:
    _, platform = yaml.safe_load_all(production.read_text())
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        for source in executor.get("secretAsEnv", []):
            assert set(source) == {"secretName", "secretNameParameter", "keyToEnv", "optional"}
    assert "://" not in production.read_text().split("---")[-1]


def test_only_training_asks_for_gpus_and_small_placements_for_none() -> None:
    assert {task for task, it in PLACEMENTS["production"]().items() if it.gpus} == {"train-detector"}
    assert not any(it.gpus or it.node_selector or it.shared_memory_gib for it in PLACEMENTS["smoke"]().values())


@pytest.mark.parametrize("recipe", ["production", "smoke"])
def test_the_table_of_placements_is_the_reviewed_one(recipe: str, golden: Callable[[str, str], None]) -> None:
    golden(describe_placement(PLACEMENTS[recipe]()), f"placement.{recipe}.txt")


def test_a_placement_refuses_what_no_cluster_can_give() -> None:
    with pytest.raises(InvalidInput, match=r"memory_gib.*retries"):
        FULL.changed(memory_gib=0, retries=99)
