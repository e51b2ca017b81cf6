"""Files that nobody touched are not read again; whatever was touched is, however well it hides."""

import os
import time
from pathlib import Path

import pytest

from components.intake import batch, stamps
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.intake.stamps import digests_of
from components.shared.digests import digest_bytes
from components.shared.store import Store, open_store
from tests.unit.test_intake_take_in import write_coco


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(stamps, "SETTLED_NS", 10_000_000)
    folder = tmp_path / "inbox"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode() * 100)
    time.sleep(0.05)
    return {name: str(folder / name) for name in ("a", "b")}


def read_again(files: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], set]:
    """Digests, and the names of the files that were read for them."""
    read: set[str] = set()

    def told(path: Path) -> str:
        read.add(path.name)
        return digest_bytes(path.read_bytes())

    monkeypatch.setattr(stamps, "digest_file", told)
    return digests_of(Path(files["a"]).parent, files, store), read


def test_an_untouched_file_is_read_once(files: dict, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, read = read_again(files, store, monkeypatch)
    assert read == {"a", "b"} and first["a"] == digest_bytes(b"a" * 100)
    assert read_again(files, store, monkeypatch) == (first, set())


def test_other_bytes_of_one_size_and_time_are_noticed(
    files: dict, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_again(files, store, monkeypatch)
    path = Path(files["a"])
    before = path.stat()
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    digests, read = read_again(files, store, monkeypatch)
    assert read == {"a"} and digests["a"] == digest_bytes(b"x" * 100)


def test_a_file_that_is_still_young_is_read_again(files: dict, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "SETTLED_NS", 10**12)
    read_again(files, store, monkeypatch)
    assert read_again(files, store, monkeypatch)[1] == {"a", "b"}


def test_a_damaged_memory_costs_one_more_reading(files: dict, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read_again(files, store, monkeypatch)
    [name] = store.list("stamps")
    store.put(name, b"half a fi")
    assert read_again(files, store, monkeypatch)[1] == {"a", "b"}


def test_processes_make_the_same_data_set(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = write_coco(tmp_path / "inbox" / "one", range(40)).parent
    outputs = (tmp_path / "dataset", tmp_path / "report.html")
    alone = take_in(str(inbox), store, IntakeSettings(), *outputs)
    monkeypatch.setattr(batch, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(batch.os, "cpu_count", lambda: 2)
    other = open_store((tmp_path / "other").as_uri())
    assert take_in(str(inbox), other, IntakeSettings(), *outputs) == alone
    assert list(other.list("objects")) == list(store.list("objects"))
