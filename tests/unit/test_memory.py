"""Work is done once for the same inputs, settings and code."""

from pathlib import Path

import pytest

from components.shared.errors import InvalidInput
from components.shared.memory import once, step_key
from components.shared.store import Store


class Work:
    """Counts how often it ran, and may die half way."""

    def __init__(self, folder: Path, file: Path, dies: bool = False) -> None:
        self.folder, self.file, self.dies, self.runs = folder, file, dies, 0

    def __call__(self) -> None:
        self.runs += 1
        (self.folder / "deep").mkdir(parents=True)
        (self.folder / "deep" / "weights.bin").write_bytes(b"\x00\x01")
        if self.dies:
            raise KeyboardInterrupt
        self.file.write_text("<html>")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "out" / "checkpoint", tmp_path / "out" / "report")


def do(store: Store, work: Work, inputs: dict[str, object]) -> bool:
    return once(store, "train", inputs, {"checkpoint": work.folder, "report": work.file}, work)


def test_the_second_time_the_outputs_are_fetched(store: Store, work: Work) -> None:
    assert not do(store, work, {"dataset": "abc"})
    work.file.unlink()
    (work.folder / "left over.txt").write_text("from an earlier try")
    assert do(store, work, {"dataset": "abc"})
    assert work.runs == 1
    assert work.file.read_text() == "<html>"
    assert [path.name for path in work.folder.rglob("*.*")] == ["weights.bin"]


def test_another_input_is_another_work(store: Store, work: Work) -> None:
    do(store, work, {"dataset": "abc"})
    do(store, work, {"dataset": "abd"})
    assert work.runs == 2


def test_work_that_died_is_done_again_from_an_empty_folder(store: Store, work: Work) -> None:
    work.dies = True
    with pytest.raises(KeyboardInterrupt):
        do(store, work, {})
    work.dies = False
    assert not do(store, work, {})
    assert work.runs == 2


def test_a_remembered_output_that_was_changed_is_refused(store: Store, work: Work) -> None:
    do(store, work, {})
    (name,) = (name for name in store.list("runs") if name.endswith("weights.bin"))
    store.put(name, b"other")
    with pytest.raises(InvalidInput, match="changed"):
        do(store, work, {})


def test_the_key_sees_the_step() -> None:
    assert step_key("train", {"a": 1}) == step_key("train", {"a": 1})
    assert step_key("train", {"a": 1}) != step_key("export", {"a": 1})
