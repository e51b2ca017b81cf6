"""`kill -9` at random moments of an intake, then the same intake again: nothing half-written ever counts."""

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.intake.history import find_version, problems
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.store import Store, open_store
from tests.servers import BUCKET, object_server
from tests.unit.test_intake_take_in import write_coco

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["components.intake.intake", "components.intake.remote", __name__])


def intake(inbox: str, store_uri: str, work: str, environment: dict[str, str]) -> None:
    """One whole intake, in a process of its own."""
    os.environ.update(environment)
    take_in(inbox, open_store(store_uri), IntakeSettings(), Path(work, "dataset"), Path(work, "report.html"))


@pytest.fixture(scope="module", params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict]]:
    folder = tmp_path_factory.mktemp("killed")
    if request.param == "file":
        yield (folder / "stores").as_uri(), {}
        return
    with object_server(folder) as environment:
        yield f"s3://{BUCKET}/stores", environment


def run(inbox: Path, store_uri: str, work: Path, environment: dict, kill_after_s: float = 60.0) -> float:
    """Start an intake and kill it after a while, unless it ends first; returns how long it ran."""
    process = FORKS.Process(target=intake, args=(str(inbox), store_uri, str(work), environment))
    process.start()
    started = time.monotonic()
    process.join(kill_after_s)
    if process.is_alive():
        process.kill()
        process.join()
    else:
        assert process.exitcode == 0
    return time.monotonic() - started


def contents(store: Store) -> list[str]:
    return sorted(store.list(""))


@pytest.mark.parametrize("kills", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_intake_ends_where_it_would_have(
    kills: int, place: tuple[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, environment = f"{place[0]}/{kills}", place[1]
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    for batch in range(3):
        write_coco(tmp_path / "inbox" / f"b{batch}", range(10 * batch, 10 * batch + 5))
    run(tmp_path / "inbox", f"{stores}/warm-up", tmp_path / "work", environment)
    whole_s = run(tmp_path / "inbox", f"{stores}/undisturbed", tmp_path / "work", environment)
    undisturbed = open_store(f"{stores}/undisturbed")
    expected = find_version(undisturbed, "main", "newest")
    moments = random.Random(7)
    killed = 0
    for at in range(kills):
        uri = f"{stores}/{at}"
        ran_s = run(tmp_path / "inbox", uri, tmp_path / "work", environment, moments.uniform(0.0, 1.1) * whole_s)
        killed += ran_s < whole_s
        run(tmp_path / "inbox", uri, tmp_path / "work", environment)
        store = open_store(uri)
        version = find_version(store, "main", "newest")
        assert version == expected, f"kill {at} after {ran_s:.3f} s"
        assert list(problems(store, version)) == []
        assert contents(store) == contents(undisturbed)
    assert killed > kills / 4
