"""The reviewer's commands as a person types them."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import psutil
import pytest
from click.testing import CliRunner

from components.shared.errors import InvalidInput, Refused
from pipelines.__main__ import yanshan
from pipelines.reports import write_index
from tests.registry_workspace import MODEL, RegistryWorkspace
from tests.servers import _free_ports

ROOT = Path(__file__).parents[2]


class Person:
    """Types commands about one workspace."""

    def __init__(self, workspace: RegistryWorkspace) -> None:
        self.place = ["--workspace", str(workspace.root), "--model", MODEL]

    def types(self, *words: str) -> str:
        """What the command prints; its error is raised."""
        answer = CliRunner().invoke(yanshan, [*words, *self.place], catch_exceptions=True)
        if answer.exception:
            raise answer.exception
        return answer.stdout


def test_a_review_from_first_look_to_rollback(workspace: RegistryWorkspace) -> None:
    person, who = Person(workspace), ["--reviewer", "anna", "--reason", "seen on the line"]
    workspace.release("a")
    assert "yanshan review 1 shows what waits" in person.types("review")
    shown = person.types("review", "1")
    assert "parts version 1: challenger, gate approved, by nightly" in shown
    assert "--expect-champion 0" in shown
    assert person.types("promote", "1", *who, "--expect-champion", "0") == (
        "parts: version 1 is champion, before it none (record 1)\n"
    )
    workspace.release("b", champion=1)
    one = json.loads(person.types("review", "2", "--json"))
    assert (one["champion"], one["compared_with"], one["state"]) == (1, 1, "challenger")
    assert Path(one["report"]).read_text().startswith("<!doctype html>")
    with pytest.raises(Refused, match="you expected 0"):
        person.types("promote", "2", *who, "--expect-champion", "0")
    record = json.loads(person.types("promote", "2", *who, "--json"))
    assert (record["champion"], record["gate"]["asked_again"]) == (2, True)
    assert "version 1 is champion again, before it version 2" in person.types("rollback", "1", *who)
    workspace.release("c", champion=1)
    assert "gate map_floor of version 3 is waived" in person.types("waive", "3", "map_floor", *who)
    assert "version 3 is rejected" in person.types("reject", "3", *who)
    kinds = [record["kind"] for record in json.loads(person.types("history", "--json"))]
    assert kinds == ["promote", "promote", "rollback", "waive", "reject"]
    assert "champion 2 -> 1, anna: seen on the line" in person.types("history")
    assert "agree" in person.types("registry", "verify")
    index = write_index(workspace.store, MODEL, workspace.root / "reviews").read_text()
    assert "parts-3/reports/evaluation.html" in index
    assert '<td class="bad">rejected</td>' in index


def test_drift_is_told_and_mended_by_command(workspace: RegistryWorkspace) -> None:
    person = Person(workspace)
    workspace.release("a")
    workspace.promote(1)
    with workspace.registry() as client:
        client.delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(Refused, match="1 findings"):
        person.types("registry", "verify", "--json")
    assert person.types("registry", "reconcile").startswith("alias-missing (mended)")
    assert "agree" in person.types("registry", "verify", "--no-bundles")


def test_what_is_not_there_is_said(workspace: RegistryWorkspace, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no store in it"):
        CliRunner().invoke(yanshan, ["review", "--workspace", str(tmp_path / "none")], catch_exceptions=False)
    workspace.release("a")
    with pytest.raises(InvalidInput, match="no whole version 9; released versions: 1"):
        Person(workspace).types("review", "9")
    assert "no decision was ever recorded" in Person(workspace).types("history")


def test_a_run_that_kubeflow_opened_is_adopted_and_left_open(workspace: RegistryWorkspace, monkeypatch) -> None:
    with workspace.registry() as client:
        experiment = client.create_experiment("nightly", artifact_location=(workspace.root / "artifacts").as_uri())
        run_id = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    workspace.release("a")
    with workspace.registry() as client:
        assert client.get_model_version(MODEL, "1").run_id == run_id
        assert client.get_run(run_id).info.status == "RUNNING"
        assert client.get_run(run_id).data.metrics["int8/map_50_95"] == 0.496


@pytest.mark.slow
def test_the_pages_answer_and_end_with_all_their_processes(workspace: RegistryWorkspace) -> None:
    workspace.release("a")
    port = _free_ports(1)
    command = [sys.executable, "-m", "pipelines", "ui", "--no-browser", "--json", "--port", str(port)]
    shown = subprocess.Popen([*command, *Person(workspace).place], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert shown.stdout
        addresses = json.loads(shown.stdout.readline())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            assert answer.status == 200
        assert Path(urlparse(addresses["reports"]).path).exists()
        family = psutil.Process(shown.pid).children(recursive=True)
        shown.terminate()
        shown.wait(20)
        assert family and psutil.wait_procs(family, timeout=10)[1] == []
    finally:
        shown.kill()
