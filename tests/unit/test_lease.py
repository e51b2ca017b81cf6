"""A lease in the store: one holder at a time, and a killed one is not waited for without end."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from components.shared.errors import ServiceFault
from components.shared.lease import leased
from components.shared.store import Store, open_store


def hold(uri: str, log: str) -> None:
    for _ in range(3):
        with leased(open_store(uri), "night"):
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, b"in ")
            time.sleep(0.02)
            os.write(descriptor, b"out ")
            os.close(descriptor)


def test_holders_follow_each_other(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.shared.lease.LOOK_EVERY_S", 0.01)
    context, log = multiprocessing.get_context("fork"), tmp_path / "log"
    holders = [context.Process(target=hold, args=(store.uri, str(log))) for _ in range(4)]
    for one in holders:
        one.start()
    for one in holders:
        one.join(60)
    assert [one.exitcode for one in holders] == [0] * 4
    assert log.read_text() == "in out " * 12


def test_a_killed_holder_is_overdue_after_its_lease(store: Store) -> None:
    killed = leased(store, "night", lease_s=0.2)
    killed.__enter__()
    with pytest.raises(ServiceFault, match="held by others"), leased(store, "night", patience_s=0):
        pass
    time.sleep(0.25)
    with leased(store, "night", patience_s=0):
        pass
    with leased(store, "night", patience_s=0):
        pass


def test_a_lease_is_given_back_by_an_error(store: Store) -> None:
    with pytest.raises(ValueError), leased(store, "night"):
        raise ValueError
    with leased(store, "night", patience_s=0):
        pass
