"""Release and promotion under kill -9 and under sixteen reviewers at once: nothing doubled, nothing half."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.release.verification import verify
from components.shared.errors import Refused
from components.shared.ledger import read_ledger
from components.shared.releases import champion, releases
from tests.registry_workspace import MODEL, RegistryWorkspace

# Children of a server that has imported all this already: cheap, and without this process's database connections.
SERVER = multiprocessing.get_context("forkserver")
NIGHTS = "0123456789abcdefghijklmnopqrstuvwxyz"
STORES = [f"mlflow.store.{kind}.sqlalchemy_store" for kind in ("tracking", "model_registry")]
SERVER.set_forkserver_preload(
    [*STORES, "mlflow.models", "model_signing.signing", "onnx", "pandas", "tests.registry_workspace"]
)


def release(root: str, letter: str, before: int) -> None:
    RegistryWorkspace(Path(root)).release(letter, champion=before)


def promote(root: str, version: int, before: int) -> None:
    RegistryWorkspace(Path(root)).promote(version, "anna", "better", expect_champion=before)


def killed_after(seconds: float, what: Callable[..., None], *arguments) -> bool:
    """Whether the process was still at work when it was killed."""
    process = SERVER.Process(target=what, args=arguments)
    process.start()
    process.join(seconds)
    alive = process.is_alive()
    if alive and process.pid:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def timed(what: Callable[..., None], *arguments) -> float:
    started = time.monotonic()
    process = SERVER.Process(target=what, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - started


def survive(workspace: RegistryWorkspace, moments: int) -> int:
    """Kill as many releases and promotions, repeat each, and check after each; how many were caught at work."""
    root, chance, caught = str(workspace.root), random.Random(7), 0
    timed(release, root, "1", 0), timed(promote, root, 1, 0)  # starts the server: too slow to go by
    spans = timed(release, root, "2", 1), timed(promote, root, 2, 1)
    for version in range(3, moments + 3):
        night = NIGHTS[version]
        caught += killed_after(chance.uniform(0.05, spans[0]), release, root, night, version - 1)
        workspace.release(night, champion=version - 1)
        with workspace.registry() as client:
            registered = client.search_model_versions(f"name = '{MODEL}'")
        assert len(registered) == len(releases(workspace.store, MODEL)) == version
        assert {one.tags["yanshan.run_key"][0] for one in registered if int(one.version) == version} == {night}

        caught += killed_after(chance.uniform(0.05, spans[1]), promote, root, version, version - 1)
        workspace.promote(version, "anna", "better", expect_champion=version - 1)
        assert len(read_ledger(workspace.store, MODEL)) == version
        assert champion(workspace.store, MODEL).version == version
        assert workspace.aliases() == {"champion": version}
    assert verify(workspace.store, MODEL, workspace.tracking_uri) == []
    return caught


def test_a_killed_release_or_promotion_is_completed_by_the_next_one(workspace: RegistryWorkspace) -> None:
    assert survive(workspace, 3) >= 3


@pytest.mark.slow
def test_thirty_kills_of_each_leave_one_version_and_one_record(workspace: RegistryWorkspace) -> None:
    assert survive(workspace, 30) >= 30


def racer(root: str, number: int, rounds: int, start, answers) -> None:
    workspace = RegistryWorkspace(Path(root))
    for version in range(1, rounds + 1):
        start.wait()
        try:
            workspace.promote(version, f"reviewer-{number}", "mine first", expect_champion=version - 1)
            answers.put((version, number))
        except Refused:
            answers.put((version, -1))


def race(workspace: RegistryWorkspace, reviewers: int, rounds: int) -> None:
    """Every round, all reviewers promote the same version at once."""
    start, answers = SERVER.Barrier(reviewers + 1), SERVER.Queue()
    arguments = (str(workspace.root), rounds, start, answers)
    racers = [
        SERVER.Process(target=racer, args=(arguments[0], number, *arguments[1:]), daemon=True)
        for number in range(reviewers)
    ]
    for one in racers:
        one.start()
    for version in range(1, rounds + 1):
        workspace.release(chr(ord("a") + version), champion=version - 1)
        start.wait(120)
        told = [answers.get(timeout=120) for _ in racers]
        winners = [number for round_, number in told if number >= 0 and round_ == version]
        records = read_ledger(workspace.store, MODEL)
        assert len(winners) == 1
        assert (len(records), records[-1].body["actor"]) == (version, f"reviewer-{winners[0]}")
        assert workspace.aliases() == {"champion": version}
        assert verify(workspace.store, MODEL, workspace.tracking_uri, bundles=False) == []
    for one in racers:
        one.join(30)


def test_of_eight_reviewers_at_once_exactly_one_promotes(workspace: RegistryWorkspace) -> None:
    race(workspace, 8, 2)


@pytest.mark.slow
def test_twenty_rounds_of_sixteen_reviewers_have_one_winner_each(workspace: RegistryWorkspace) -> None:
    race(workspace, 16, 20)
