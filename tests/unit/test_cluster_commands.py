"""yanshan submit and schedule, from the command line to the server's contract."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from components.shared.errors import InvalidInput, Refused, YanshanError
from pipelines.__main__ import yanshan
from tests.unit.kfp_contract import ContractServer, serving

ORDER = ["--inbox", "s3://yanshan/inbox", "--store", "s3://yanshan/store"]


@pytest.fixture
def contract() -> ContractServer:
    return ContractServer()


@pytest.fixture
def host(contract: ContractServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(contract) as address:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
        yield address


def call(*words: str) -> Result:
    return CliRunner().invoke(yanshan, list(words))


def test_a_nightly_schedule_is_set_listed_paused_and_deleted(contract: ContractServer, host: str) -> None:
    words = ["schedule", "set", "smoke", "--at", "02:00", "--timezone", "Asia/Tokyo", *ORDER, "--allow-tags"]
    made = call(*words, "--json")
    assert made.exit_code == 0, made.exception
    schedule = json.loads(made.stdout)
    assert schedule["name"] == "parts-detector-smoke" and schedule["cron"] == "0 0 17 * * *"
    assert schedule["parameters"] == {
        "inbox_uri": "s3://yanshan/inbox",
        "store_uri": "s3://yanshan/store",
        "reason": "nightly",
    }
    assert json.loads(call(*words, "--json").stdout) == schedule
    assert call("schedule", "list").stdout.split()[:3] == ["parts-detector-smoke", "0", "0"]
    assert "paused" in call("schedule", "pause", "parts-detector-smoke").output
    assert "off" in call("schedule", "list").stdout
    assert "deleted" in call("schedule", "delete", "parts-detector-smoke").output
    assert call("schedule", "list").stdout == "none\n"


def test_a_submitted_run_is_followed_to_its_end(contract: ContractServer, host: str) -> None:
    def ended(query: dict, body: object) -> dict:
        run = contract.things["run"][query["run_id"]]
        task = {"task_id": "1", "display_name": "intake-labels", "state": "FAILED"}
        run.update(state="FAILED", run_details={"task_details": [task]})
        return run

    contract.get_run = ended  # type: ignore[method-assign]
    done = call("submit", "smoke", *ORDER, "--allow-tags", "--reason", "new camera")
    assert isinstance(done.exception, YanshanError) and "ended failed" in str(done.exception)
    (run,) = contract.things["run"].values()
    assert run["runtime_config"]["parameters"]["reason"] == "new camera"


def test_images_that_are_not_pinned_are_refused_before_anything_is_uploaded(
    contract: ContractServer, host: str
) -> None:
    done = call("submit", "smoke", *ORDER)
    assert isinstance(done.exception, InvalidInput) and "expected a digest" in str(done.exception)
    assert not contract.packages


def test_a_folder_is_no_store_for_a_cluster(host: str) -> None:
    done = call("submit", "smoke", "--inbox", "s3://yanshan/inbox", "--store", "/data/store")
    assert isinstance(done.exception, InvalidInput) and "steps on a cluster share no folder" in str(done.exception)


def test_a_cron_of_five_fields_is_refused_on_the_command_line(contract: ContractServer, host: str) -> None:
    done = call("schedule", "set", "smoke", "--at", "02:00", "--cron", "0 2 * * *", *ORDER, "--allow-tags")
    assert isinstance(done.exception, InvalidInput) and "five fields" in str(done.exception)
    assert not contract.requests


def test_deleting_a_schedule_whose_night_is_under_way_is_refused(contract: ContractServer, host: str) -> None:
    call("schedule", "set", "smoke", "--at", "02:00", *ORDER, "--allow-tags")
    ((recurring_run_id, _),) = contract.things["recurring_run"].items()
    contract.things["run"]["r"] = {
        "run_id": "r",
        "display_name": "r",
        "recurring_run_id": recurring_run_id,
        "state": "RUNNING",
    }
    assert isinstance(call("schedule", "delete", "parts-detector-smoke").exception, Refused)
    assert call("schedule", "delete", "parts-detector-smoke", "--force").exit_code == 0
