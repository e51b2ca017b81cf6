"""The ledger: hash-chained records, each written once."""

import json
import multiprocessing
from pathlib import Path

import pytest

from components.shared.errors import InvalidInput, Refused
from components.shared.ledger import append_record, head, read_ledger
from components.shared.store import open_store

MODEL = "parts"


def entry(version: int, kind: str = "promote") -> dict:
    return {"kind": kind, "version": version, "champion": version, "actor": "anna", "reason": "better"}


def ledger_of(folder: Path, length: int):
    store = open_store(folder.as_uri())
    for version in range(1, length + 1):
        append_record(store, MODEL, entry(version), head(store, MODEL))
    return store


def record_file(store, seq: int) -> Path:
    return store.root / f"ledger/{MODEL}/{seq:06d}.json"


def test_an_empty_ledger_has_no_head(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    assert head(store, MODEL) is None
    assert read_ledger(store, MODEL) == []


def test_records_are_read_back_in_order_and_name_the_one_before(tmp_path: Path) -> None:
    records = read_ledger(ledger_of(tmp_path, 3), MODEL)
    assert [record.body["version"] for record in records] == [1, 2, 3]
    assert [record.body["previous"] for record in records] == ["", records[0].digest, records[1].digest]
    assert [record.body["champion_before"] for record in records] == [0, 1, 2]


def test_a_writer_who_saw_an_older_head_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    store = ledger_of(tmp_path, 1)
    seen = head(store, MODEL)
    append_record(store, MODEL, entry(2), seen)
    with pytest.raises(Refused, match="recorded first"):
        append_record(store, MODEL, entry(3), seen)
    assert [record.body["version"] for record in read_ledger(store, MODEL)] == [1, 2]


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_a_changed_record_breaks_the_chain_for_every_reader(tmp_path: Path, seq: int) -> None:
    store = ledger_of(tmp_path, 4)
    envelope = json.loads(record_file(store, seq).read_bytes())
    envelope["record"]["actor"] = "mallory"
    record_file(store, seq).write_text(json.dumps(envelope))
    with pytest.raises(InvalidInput, match="chain is broken"):
        read_ledger(store, MODEL)


def test_a_record_taken_from_the_middle_is_missed(tmp_path: Path) -> None:
    store = ledger_of(tmp_path, 4)
    record_file(store, 2).unlink()
    for reader in (read_ledger, head):
        with pytest.raises(InvalidInput, match="missing or foreign"):
            reader(store, MODEL)


def test_a_record_of_another_model_is_not_accepted(tmp_path: Path) -> None:
    store = ledger_of(tmp_path, 1)
    data = record_file(store, 1).read_bytes()
    store.put("ledger/other/000001.json", data)
    with pytest.raises(InvalidInput, match="expected \\('other'"):
        read_ledger(store, "other")


def test_a_replayed_record_is_not_accepted_under_a_new_number(tmp_path: Path) -> None:
    store = ledger_of(tmp_path, 2)
    store.put(f"ledger/{MODEL}/000003.json", record_file(store, 1).read_bytes())
    with pytest.raises(InvalidInput):
        head(store, MODEL)


def test_garbage_is_named_and_not_read(tmp_path: Path) -> None:
    store = ledger_of(tmp_path, 2)
    record_file(store, 2).write_bytes(b"\x00")
    with pytest.raises(InvalidInput, match="not a ledger record"):
        read_ledger(store, MODEL)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 101])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="model name"):
        head(open_store(tmp_path.as_uri()), name)


def _race(folder: str, actor: int, start, answers) -> None:
    store = open_store(Path(folder).as_uri())
    seen = head(store, MODEL)
    start.wait()
    try:
        append_record(store, MODEL, entry(actor), seen)
        answers.put(actor)
    except Refused:
        answers.put(0)


def test_of_eight_processes_that_saw_one_head_exactly_one_writes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for length in range(1, 4):
        start, answers = context.Barrier(8), context.Queue()
        racers = [context.Process(target=_race, args=(str(tmp_path), actor, start, answers)) for actor in range(1, 9)]
        for racer in racers:
            racer.start()
        won = [answer for answer in (answers.get(timeout=30) for _ in racers) if answer]
        for racer in racers:
            racer.join()
        records = read_ledger(open_store(tmp_path.as_uri()), MODEL)
        assert len(won) == 1
        assert len(records) == length
        assert records[-1].body["version"] == won[0]
