"""What a cluster is given: rendered, valid, confined, and in agreement with what the steps ask for."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from components.release import guarded_server
from pipelines import recipes
from pipelines.commands.review import registry
from pipelines.placement import (
    CONFIG,
    CONFIG_KEYS,
    REGISTRY_SECRET,
    SIGNING_FOLDER,
    STORE_SECRET,
    TRUST,
    TRUST_FOLDER,
    USER_ID,
    production,
)

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
GOLDEN = ROOT / "tests" / "golden"
SCHEMAS = ROOT / "tests" / "data" / "schemas"
OVERLAYS = ("local", "production")
CLUSTER_SCOPED = {"Namespace"}
Object = dict[str, Any]


def rendered(overlay: str) -> list[Object]:
    """What the golden test below compares with `kubectl kustomize`."""
    return list(yaml.safe_load_all((GOLDEN / f"manifests.{overlay}.yaml").read_text()))


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, dict[str, str], Object]]:
    """Name, labels and spec of every pod that the objects make."""
    for thing in objects:
        if thing["kind"] in ("Deployment", "StatefulSet"):
            template = thing["spec"]["template"]
            yield thing["metadata"]["name"], template["metadata"]["labels"], template["spec"]
        elif thing["kind"] == "TrainingRuntime":
            for job in thing["spec"]["template"]["spec"]["replicatedJobs"]:
                template = job["template"]["spec"]["template"]
                yield thing["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for name, _, spec in pod_specs(objects):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield f"{name}/{container['name']}", container


def of_kind(overlay: str, kind: str) -> dict[str, Object]:
    return {thing["metadata"]["name"]: thing for thing in rendered(overlay) if thing["kind"] == kind}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Kubernetes' label selectors, as far as the manifests use them."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(
        expression["key"] in labels
        and (expression["operator"] == "Exists" or labels[expression["key"]] in expression["values"])
        for expression in selector.get("matchExpressions", [])
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_to_what_was_reviewed(overlay: str, golden: Callable[[str, str], None]) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here: the reviewed rendering itself is checked by the tests below")
    command = ["kubectl", "kustomize", str(MANIFESTS / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    golden(done.stdout, f"manifests.{overlay}.yaml")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_its_schema(overlay: str) -> None:
    kinds = set()
    for thing in rendered(overlay):
        kinds.add(thing["kind"])
        if thing["kind"] == "TrainingRuntime":
            fits_the_trainer(thing)
        elif (schema := SCHEMAS / f"{thing['kind']}.json").exists():
            jsonschema.validate(thing, json.loads(schema.read_text()))
        else:
            kubernetes_validate.validate(thing, "1.32", strict=True)
    assert {"NetworkPolicy", "Role", "StatefulSet", "Deployment", "TrainingRuntime"} <= kinds


def fits_the_trainer(thing: Object) -> None:
    """The official models drop what they do not know: what comes back must be all that went in."""
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime

    back = TrainerV1alpha1TrainingRuntime.from_dict(thing).to_dict()
    assert back["spec"] == thing["spec"]


def test_the_schemas_refuse_what_they_do_not_know() -> None:
    broken = of_kind("production", "ExternalSecret")["yanshan-store"]
    broken["spec"]["secretstore"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads((SCHEMAS / "ExternalSecret.json").read_text()))
    runtime = of_kind("production", "TrainingRuntime")["yanshan-torch"]
    runtime["spec"]["mlPolicy"]["torch"]["numProcPerNode"] = "auto"
    with pytest.raises(AssertionError):
        fits_the_trainer(runtime)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_bounded_and_confined(overlay: str) -> None:
    listed = dict(containers(rendered(overlay)))
    assert len(listed) >= 4
    for name, container in listed.items():
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert re.search(r":\d[\w.-]+$|@sha256:[0-9a-f]{64}$", container["image"]), f"{name}: {container['image']}"


def test_the_list_of_containers_is_the_reviewed_one(golden: Callable[[str, str], None]) -> None:
    lines = []
    for overlay in OVERLAYS:
        for name, container in containers(rendered(overlay)):
            limits = " ".join(f"{key}={value}" for key, value in sorted(container["resources"]["limits"].items()))
            context = " ".join(f"{key}={value}" for key, value in sorted(container["securityContext"].items()))
            lines.append(f"{overlay:<10} {name:<34} {container['image']}\n    {limits}\n    {context}\n")
    golden("".join(lines), "manifests.containers.txt")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_runs_without_root_and_without_a_token_it_does_not_need(overlay: str) -> None:
    accounts = of_kind(overlay, "ServiceAccount")
    for name, _, spec in pod_specs(rendered(overlay)):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] in accounts, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_is_probed(overlay: str) -> None:
    for thing in rendered(overlay):
        if thing["kind"] in ("Deployment", "StatefulSet"):
            for container in thing["spec"]["template"]["spec"]["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), container["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_of_ours_escapes_the_default_denial(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    deny = policies["yanshan-deny-all"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in deny and "egress" not in deny
    for name, labels, _ in pod_specs(rendered(overlay)):
        assert selects(deny["podSelector"], labels), name
    assert "0.0.0.0/0" not in json.dumps(policies)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_policy_and_service_selects_pods_that_exist(overlay: str) -> None:
    made = [labels for _, labels, _ in pod_specs(rendered(overlay))]
    steps = [
        {"app.kubernetes.io/part-of": "yanshan", "yanshan/task": task, "yanshan/services": it.environment}
        for task, it in production().items()
    ]
    for name, policy in of_kind(overlay, "NetworkPolicy").items():
        assert any(selects(policy["spec"]["podSelector"], labels) for labels in [*made, *steps]), name
    for name, service in of_kind(overlay, "Service").items():
        assert any(selects({"matchLabels": service["spec"]["selector"]}, labels) for labels in made), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rights_are_named_one_by_one(overlay: str) -> None:
    roles = of_kind(overlay, "Role")
    for name, role in roles.items():
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], name
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"] and rule["resourceNames"], name
    for binding in of_kind(overlay, "RoleBinding").values():
        assert binding["roleRef"]["name"] in roles
        assert {subject["name"] for subject in binding["subjects"]} <= of_kind(overlay, "ServiceAccount").keys()
    assert not of_kind(overlay, "ClusterRole") and not of_kind(overlay, "ClusterRoleBinding")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_lies_in_the_overlays_namespace(overlay: str) -> None:
    expected = {"local": "kubeflow", "production": "yanshan"}[overlay]
    for thing in rendered(overlay):
        if thing["kind"] not in CLUSTER_SCOPED:
            assert thing["metadata"]["namespace"] == expected, thing["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_value_is_in_git(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for name, container in containers(rendered(overlay)):
        for variable in container.get("env", []):
            if re.search("PASSWORD|SECRET|KEY|TOKEN|URI", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"


def test_production_gets_every_secret_that_steps_and_services_ask_for() -> None:
    offered = {
        name: {entry["secretKey"] for entry in secret["spec"]["data"]}
        for name, secret in of_kind("production", "ExternalSecret").items()
    }
    for secret, keys in (STORE_SECRET | REGISTRY_SECRET).items():
        assert keys.keys() <= offered[secret], secret
    assert {it.signing_secret for it in production().values() if it.signing_secret} <= offered.keys()
    for name, container in containers(rendered("production")):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["key"] in offered[reference["name"]], name


def test_production_gets_every_secret_file_that_services_mount() -> None:
    offered = {
        name: {entry["secretKey"] for entry in secret["spec"]["data"]}
        for name, secret in of_kind("production", "ExternalSecret").items()
    }
    mounted = [
        (volume["secret"]["secretName"], item["key"])
        for _, _, spec in pod_specs(rendered("production"))
        for volume in spec["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    ]
    assert mounted and all(key in offered[secret] for secret, key in mounted)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_registry_is_guarded_and_what_reviewers_do_there_is_taken_up(overlay: str) -> None:
    spec = of_kind(overlay, "Deployment")["yanshan-registry"]["spec"]["template"]["spec"]
    server, uptake = spec["containers"]
    assert server["command"][-1] == guarded_server.__name__
    environment = {variable["name"]: variable for variable in server["env"]}
    assert environment["YANSHAN_TRUST"]["valueFrom"]["configMapKeyRef"]["key"] == "YANSHAN_TRUST"
    assert uptake["command"] == ["python3", "-m", "pipelines", "registry", "serve"]
    asked = registry.commands["serve"].make_context("serve", list(uptake["args"])).params
    assert str(asked["audit"]) == environment["YANSHAN_AUDIT"]["value"]
    assert asked["model_name"] == recipes.production().model_name
    assert uptake["ports"][0]["containerPort"] == asked["port"]
    audit = {mount["mountPath"]: mount for mount in uptake["volumeMounts"]}[str(asked["audit"].parent)]
    assert audit["name"] == "audit" and audit["readOnly"] is True


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_config_map_holds_what_steps_read(overlay: str) -> None:
    config = of_kind(overlay, "ConfigMap")
    assert set(CONFIG_KEYS) == config[CONFIG]["data"].keys()
    assert config[CONFIG]["data"]["YANSHAN_TRUST"] == TRUST_FOLDER and TRUST in config
    assert config[CONFIG]["data"]["YANSHAN_SIGNING_KEY"] == f"{SIGNING_FOLDER}/private_key.pem"
    providers = yaml.safe_load(config["kfp-launcher"]["data"]["providers"])["s3"]["default"]
    assert providers["endpoint"] in config[CONFIG]["data"]["AWS_ENDPOINT_URL_S3"]
    assert providers["disableSSL"] is config[CONFIG]["data"]["AWS_ENDPOINT_URL_S3"].startswith("http:")


def test_the_quota_admits_a_training_beside_all_other_steps() -> None:
    hard = of_kind("production", "ResourceQuota")["yanshan"]["spec"]["hard"]
    asked = production().values()
    assert sum(it.cpu_cores for it in asked) <= int(hard["requests.cpu"])
    assert sum(it.memory_gib for it in asked) <= int(hard["requests.memory"].removesuffix("Gi"))
    assert sum(it.gpus for it in asked) <= int(hard["requests.nvidia.com/gpu"])


def test_training_on_several_nodes_is_placed_as_training_on_one() -> None:
    (_, labels, spec), *_ = [pod for pod in pod_specs(rendered("production")) if pod[0] == "yanshan-torch"]
    step, (node,) = production()["train-detector"], spec["containers"]
    assert node["resources"]["limits"] == {
        "cpu": f"{step.cpu_cores:g}",
        "memory": f"{step.memory_gib:g}Gi",
        step.gpu_type: str(step.gpus),
    }
    assert spec["nodeSelector"] == step.node_selector and spec["securityContext"]["runAsUser"] == USER_ID
    assert labels["yanshan/services"] == step.environment
    sizes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if "emptyDir" in volume}
    assert sizes == {"scratch": f"{step.scratch_gib:g}Gi", "shm": f"{step.shared_memory_gib:g}Gi"}


def test_what_comes_from_others_is_pinned() -> None:
    references = [
        resource
        for path in (MANIFESTS / "third_party").rglob("kustomization.yaml")
        for resource in yaml.safe_load(path.read_text())["resources"]
    ]
    assert len(references) == 3
    assert all(re.search(r"\?ref=(v?\d+\.\d+\.\d+|[0-9a-f]{40})$", reference) for reference in references)


def test_the_dashboard_asks_for_series_that_exist() -> None:
    dashboard = json.loads(of_kind("production", "ConfigMap")["yanshan-dashboard"]["data"]["dashboard.json"])
    rules = of_kind("production", "PrometheusRule")["yanshan-nights"]["spec"]["groups"][0]["rules"]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert set(re.findall(r"yanshan:\w+", queries)) <= recorded
    assert all(task in production() for task in re.findall(r'label_yanshan_task="([\w-]+)"', queries))


def test_the_rules_are_accepted_by_prometheus(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool here (Debian package prometheus)")
    spec = of_kind("production", "PrometheusRule")["yanshan-nights"]["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
