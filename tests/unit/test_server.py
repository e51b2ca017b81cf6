"""Submitting and scheduling, through the official client, against the published contract."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import kfp
import pytest
from kubernetes.client import CoreV1Api

from components.shared.errors import InvalidInput, Refused, ServiceFault
from pipelines import server
from pipelines.dag import compile_pipeline
from pipelines.placement import PLACEMENTS, write_placement
from pipelines.pod_logs import PodLogs
from pipelines.recipes import find_recipe
from pipelines.server import Order
from tests.unit.cluster_api import ClusterAPI
from tests.unit.cluster_api import serving as serving_cluster
from tests.unit.kfp_contract import ContractServer, misfit, published_routes, serving

NIGHTLY = "0 0 2 * * *"


@pytest.fixture
def contract() -> ContractServer:
    return ContractServer()


@pytest.fixture
def host(contract: ContractServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    # The client keeps a namespace and tokens in the home folder.
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(contract) as address:
        yield address


@pytest.fixture
def client(host: str) -> kfp.Client:
    return server.connect(host)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compile_pipeline(find_recipe("smoke"), path)
    write_placement(path, PLACEMENTS["smoke"]())
    return path


@pytest.fixture
def order(client: kfp.Client, package: Path) -> Order:
    parameters = {"inbox_uri": "s3://yanshan/inbox", "store_uri": "s3://yanshan/store"}
    return Order(*server.upload(client, package), parameters, "nights", "yanshan-runner", "smoke")


def calls(contract: ContractServer, name: str) -> list[dict]:
    return [body for route, _, body in contract.requests if route.endswith(name)]


def test_the_contract_is_the_whole_published_one() -> None:
    routes = published_routes()
    assert len(routes) > 35
    assert len({(route.method, route.path) for route in routes}) == len(routes)
    assert misfit("V2beta1RecurringRun", {"no_catchups": True}) == "body: V2beta1RecurringRun has no ['no_catchups']"
    assert "none of" in misfit("V2beta1RecurringRun", {"mode": "SOMETIMES"})


def test_a_version_holds_exactly_the_package_and_is_uploaded_once(
    client: kfp.Client, contract: ContractServer, package: Path
) -> None:
    first, again = server.upload(client, package), server.upload(client, package)
    assert first == again
    assert contract.packages[first[1]] == package.read_text()
    assert len(calls(contract, "upload_pipeline_version")) == 1


def test_another_package_is_another_version_of_the_same_pipeline(
    client: kfp.Client, package: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    compile_pipeline(find_recipe("smoke", {"train.epochs": 2}), other)
    first, second = server.upload(client, package), server.upload(client, other)
    assert first[0] == second[0] and first[1] != second[1]
    assert server.upload(client, package) == first


def test_a_run_names_its_version_parameters_and_account(
    client: kfp.Client, contract: ContractServer, order: Order
) -> None:
    run_id = server.submit(client, order, "by hand")
    run = contract.things["run"][run_id]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": order.pipeline_id,
        "pipeline_version_id": order.version_id,
    }
    assert run["runtime_config"]["parameters"] == order.parameters
    assert run["service_account"] == "yanshan-runner"


def test_following_tells_every_change_once_and_names_the_pod_of_a_failure(
    client: kfp.Client, contract: ContractServer, order: Order
) -> None:
    run_id = server.submit(client, order, "by hand")
    run = contract.things["run"][run_id]
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if len(told) == 1:
            run["run_details"]["task_details"] = [step("intake-labels", "SUCCEEDED"), step("plan-night", "RUNNING")]
        elif len(told) == 3:
            failed = step("plan-night", "FAILED") | {"error": {"message": "store gone", "code": 4}}
            failed["child_tasks"] = [{"pod_name": "night-plan-1"}]
            run["run_details"]["task_details"][1] = failed
            run["state"] = "FAILED"

    def step(name: str, state: str) -> dict:
        return {"task_id": name, "display_name": name, "state": state}

    run.update(state="RUNNING", run_details={"task_details": [step("intake-labels", "RUNNING")]})
    assert server.follow(client, run_id, tell, every_s=0.01) == "FAILED"
    assert [line.split()[:2] for line in told] == [
        ["intake-labels", "running"],
        ["intake-labels", "succeeded"],
        ["plan-night", "running"],
        ["plan-night", "failed:"],
    ]
    assert "store gone (pod night-plan-1)" in told[-1]


def test_following_tells_what_the_steps_say_once(client: kfp.Client, contract: ContractServer, order: Order) -> None:
    run_id = server.submit(client, order, "by hand")
    cluster = ClusterAPI()
    labels = {"pipeline/runid": run_id, "app.kubernetes.io/part-of": "yanshan", "yanshan/task": "train-detector"}
    cluster.put("pods", "night-train", metadata={"labels": labels}, spec={"containers": [{"name": "main"}]})
    cluster.put("pods", "night-driver", metadata={"labels": {"pipeline/runid": run_id}}, spec={"containers": []})
    cluster.logs["night-train"] = "2026-01-01T00:00:01Z epoch 1\n"
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        cluster.logs["night-train"] += "2026-01-01T00:00:02Z epoch 2\n"
        contract.things["run"][run_id]["state"] = "SUCCEEDED"

    contract.things["run"][run_id]["state"] = "RUNNING"
    with serving_cluster(cluster) as connection:
        said = PodLogs(CoreV1Api(connection), "yanshan", run_id).new_lines
        assert server.follow(client, run_id, tell, every_s=0.01, logs=said) == "SUCCEEDED"
    assert [line.split("| ")[1] for line in told if "train-detector" in line] == ["epoch 1", "epoch 2"]


def test_following_outlives_a_server_that_is_away_for_a_moment(
    client: kfp.Client, contract: ContractServer, order: Order
) -> None:
    run_id = server.submit(client, order, "by hand")
    contract.things["run"][run_id]["state"] = "SUCCEEDED"
    contract.fail_next = [503, 502]
    assert server.follow(client, run_id, print, every_s=0.01) == "SUCCEEDED"


def test_a_schedule_runs_one_night_at_a_time_and_makes_up_for_none(
    client: kfp.Client, contract: ContractServer, order: Order
) -> None:
    made = server.schedule(client, order, "parts-detector", NIGHTLY)
    (body,) = calls(contract, "create_recurring_run")
    assert body["trigger"]["cron_schedule"]["cron"] == NIGHTLY
    assert int(body["max_concurrency"]) == 1 and body["no_catchup"] is True and body["mode"] == "ENABLE"
    assert body["pipeline_version_reference"]["pipeline_version_id"] == order.version_id
    assert (made.name, made.cron, made.enabled, made.no_catchup) == ("parts-detector", NIGHTLY, True, True)


def test_scheduling_the_same_twice_changes_nothing(client: kfp.Client, contract: ContractServer, order: Order) -> None:
    first = server.schedule(client, order, "parts-detector", NIGHTLY)
    assert server.schedule(client, order, "parts-detector", NIGHTLY) == first
    assert len(calls(contract, "create_recurring_run")) == 1


def test_another_hour_replaces_the_schedule(client: kfp.Client, contract: ContractServer, order: Order) -> None:
    old = server.schedule(client, order, "parts-detector", NIGHTLY)
    new = server.schedule(client, order, "parts-detector", "0 30 3 * * *")
    assert list(contract.things["recurring_run"]) == [new.recurring_run_id]
    names = [route for route, _, _ in contract.requests]
    order_of = [names.index(f"recurring_run_service_{verb}_recurring_run") for verb in ("disable", "delete")]
    assert order_of == sorted(order_of) and old.recurring_run_id != new.recurring_run_id


def test_a_night_under_way_survives_the_replacement_of_its_schedule(
    client: kfp.Client, contract: ContractServer, order: Order
) -> None:
    old = server.schedule(client, order, "parts-detector", NIGHTLY)
    run_id = server.submit(client, order, "night")
    contract.things["run"][run_id].update(recurring_run_id=old.recurring_run_id, state="RUNNING")
    server.schedule(client, order, "parts-detector", "0 30 3 * * *")
    assert contract.things["recurring_run"][old.recurring_run_id]["status"] == "DISABLED"
    with pytest.raises(Refused, match=f"run {run_id} is under way"):
        server.delete(client, "nights", "parts-detector")


def test_schedules_are_listed_paused_and_deleted(client: kfp.Client, contract: ContractServer, order: Order) -> None:
    for name in ("a", "b", "c"):  # more than one page of the server's
        server.schedule(client, order, name, NIGHTLY)
    assert [found.name for found in server.schedules(client, "nights")] == ["a", "b", "c"]
    server.pause(client, "nights", "b")
    assert [found.enabled for found in server.schedules(client, "nights")] == [True, False, True]
    server.delete(client, "nights", "b")
    assert [found.name for found in server.schedules(client, "nights")] == ["a", "c"]
    with pytest.raises(InvalidInput, match=r"schedule 'b': no such schedule.*there are: a, c"):
        server.pause(client, "nights", "b")


def test_a_cron_of_five_fields_is_refused_with_what_the_server_would_do() -> None:
    expected = (
        "cron '0 2 * * *': five fields, which the server reads as seconds first (second minute hour day month): "
        "expected six (second minute hour day month weekday), such as '0 0 2 * * *'"
    )
    with pytest.raises(InvalidInput, match=re.escape(expected)):
        server.check_cron("0 2 * * *")


@pytest.mark.parametrize("cron", ["", "0 2 * *", "0 0 2 * * * *", "0 0 2 * * mon;rm"])
def test_other_crons_are_refused_too(cron: str) -> None:
    with pytest.raises(InvalidInput, match="expected six fields"):
        server.check_cron(cron)


def test_a_refused_cron_never_reaches_the_server(client: kfp.Client, contract: ContractServer, order: Order) -> None:
    with pytest.raises(InvalidInput, match="five fields"):
        server.schedule(client, order, "parts-detector", "0 2 * * *")
    assert not calls(contract, "create_recurring_run")


def test_an_hour_becomes_six_fields_on_the_servers_clock() -> None:
    assert server.nightly_cron("02:00") == ("0 0 2 * * *", "")
    cron, warning = server.nightly_cron("02:30", "Asia/Tokyo")
    assert (cron, warning) == ("0 30 17 * * *", "")
    offset = datetime.now(ZoneInfo("Europe/Berlin")).replace(hour=2, minute=0).utcoffset()
    assert offset is not None
    cron, warning = server.nightly_cron("02:00", "Europe/Berlin")
    assert cron == f"0 0 {(2 - offset.seconds // 3600) % 24} * * *"
    assert "an hour off 02:00 Europe/Berlin" in warning
    assert server.nightly_cron("02:00", "Europe/Berlin", "Europe/Berlin") == ("0 0 2 * * *", "")


@pytest.mark.parametrize("at, zone", [("2", "UTC"), ("24:00", "UTC"), ("02:00", "Mars/Olympus")])
def test_an_hour_or_zone_that_does_not_exist_is_refused(at: str, zone: str) -> None:
    with pytest.raises(InvalidInput):
        server.nightly_cron(at, zone)


def test_a_token_is_sent_and_a_wrong_one_is_no_reason_to_retry(
    host: str, contract: ContractServer, tmp_path: Path
) -> None:
    contract.token = "right"
    (tmp_path / "token").write_text("right")
    assert server.schedules(server.connect(host, token_file=str(tmp_path / "token")), "nights") == []
    (tmp_path / "wrong").write_text("wrong")
    with pytest.raises(InvalidInput, match="401"):
        server.connect(host, token_file=str(tmp_path / "wrong"))


def test_a_server_that_fails_or_is_not_there_is_worth_a_retry(client: kfp.Client, contract: ContractServer) -> None:
    contract.fail_next = [500]
    with pytest.raises(ServiceFault, match="server answered 500"):
        server.schedules(client, "nights")
    with pytest.raises(ServiceFault):
        server.connect("http://127.0.0.1:9")


@pytest.mark.parametrize("host", ["", "kfp.example.com", "ftp://x"])
def test_a_host_that_is_no_address_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(InvalidInput, match="--host"):
        server.connect(host)
