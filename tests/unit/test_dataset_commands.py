"""`yanshan dataset`: log, show, diff, verify and export."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.intake.exporting import export_version
from components.intake.history import find_version, problems
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import read_rows
from components.shared.digests import digest_path
from components.shared.errors import InvalidInput
from components.shared.store import Store, open_store
from pipelines.commands.data import dataset, intake
from tests.unit.test_intake_take_in import write_coco


@pytest.fixture
def grown(store: Store, tmp_path: Path) -> Store:
    """Two versions: eight images, then four more and one labeled anew."""
    for folder, seeds in (("a", range(8)), ("b", range(50, 54))):
        inbox = write_coco(tmp_path / folder, seeds, camera="c1")
        take_in(str(inbox), store, IntakeSettings(), tmp_path / "dataset", tmp_path / "r.html")
    relabeled = write_coco(tmp_path / "c", range(1))
    document = json.loads((relabeled / "labels.json").read_text())
    document["annotations"].pop()
    (relabeled / "labels.json").write_text(json.dumps(document))
    take_in(str(relabeled), store, IntakeSettings(), tmp_path / "dataset", tmp_path / "r.html")
    return store


def asked(store: Store, *words: str) -> object:
    answer = CliRunner().invoke(dataset, [*words, "--store", store.uri, "--json"], catch_exceptions=False)
    return json.loads(answer.output)


def test_the_log_lists_every_version(grown: Store) -> None:
    entries = asked(grown, "log")
    assert [one["number"] for one in entries] == [1, 2, 3] and [one["images"] for one in entries] == [8, 12, 12]
    assert entries[1]["parent"] == entries[0]["dataset"]
    assert asked(grown, "show", "2")["dataset"] == asked(grown, "show", entries[1]["dataset"][:8])["dataset"]


def test_a_difference_names_what_was_added_and_what_was_relabeled(grown: Store) -> None:
    first, last = asked(grown, "diff", "1", "2"), asked(grown, "diff", "2")
    assert (len(first["added"]), first["removed"], first["relabeled"]) == (4, [], [])
    assert (last["added"], last["removed"], len(last["relabeled"])) == ([], [], 1)
    assert last["counts"]["boxes"] == [24, 23]
    old = find_version(grown, "main", "2")
    assert read_rows(grown, old).num_rows == 12 and sum(map(len, read_rows(grown, old)["boxes"].to_pylist())) == 24


def test_verify_finds_every_kind_of_damage(grown: Store, tmp_path: Path) -> None:
    version = find_version(grown, "main", "newest")
    assert list(problems(grown, version)) == []
    root = tmp_path / "store"
    images = sorted((root / "objects").rglob("*/*"))
    images[0].write_bytes(b"rot")
    images[1].unlink()
    segment = root / "segments" / f"{version.segments[-1]}.parquet"
    segment.write_bytes(segment.read_bytes()[:-100])
    found = "\n".join(problems(grown, version))
    assert "bytes changed" in found and "no object named" in found and "damaged" in found
    with pytest.raises(InvalidInput, match="problems"):
        CliRunner().invoke(dataset, ["verify", "--store", grown.uri], catch_exceptions=False)


@pytest.mark.parametrize("export_format", ["coco", "yolo", "voc"])
def test_an_export_is_the_same_bytes_every_time_and_comes_back_as_the_same_labels(
    export_format: str, grown: Store, tmp_path: Path
) -> None:
    version = find_version(grown, "main", "2")
    for folder in ("one", "two"):
        assert export_version(grown, version, export_format, "", tmp_path / folder) == 12
    assert digest_path(tmp_path / "one") == digest_path(tmp_path / "two")
    other = open_store((tmp_path / "other").as_uri())
    settings = IntakeSettings(class_names=version.class_names)
    taken = take_in(str(tmp_path / "one"), other, settings, tmp_path / "dataset", tmp_path / "r.html")
    assert taken["accepted"] == 24 and taken["repaired"] == taken["quarantined"] == 0
    ours, theirs = read_rows(grown, version), read_rows(other, find_version(other, "main", "newest"))
    for column in ("image_sha256", "class_ids"):
        assert ours[column].equals(theirs[column])
    for mine, back in zip(ours["boxes"].to_pylist(), theirs["boxes"].to_pylist(), strict=True):
        assert all(
            abs(a - b) < 0.01 for one, two in zip(mine, back, strict=True) for a, b in zip(one, two, strict=True)
        )


def test_intake_prints_what_became_of_every_row(tmp_path: Path) -> None:
    inbox = write_coco(tmp_path / "inbox", range(4))
    document = json.loads((inbox / "labels.json").read_text())
    document["annotations"][0]["bbox"] = [5, 5, -3, 5]
    (inbox / "labels.json").write_text(json.dumps(document))
    words = ["--inbox", str(inbox), "--store", str(tmp_path / "store"), "--json"]
    told = json.loads(CliRunner().invoke(intake, words, catch_exceptions=False).stdout)
    assert (told["accepted"], told["repaired"], told["quarantined"], len(told["dataset"])) == (7, 0, 1, 64)
    assert [set(finding) for finding in told["findings"]] == [{"image", "row", "code", "action", "message"}]
    assert (told["findings"][0]["image"], told["findings"][0]["code"]) == ("0.jpg", "BOX_NEG")


def test_a_refused_batch_is_refused_with_its_findings(tmp_path: Path) -> None:
    inbox = write_coco(tmp_path / "inbox", range(12))
    document = json.loads((inbox / "labels.json").read_text())
    for annotation in document["annotations"][:5]:
        annotation["bbox"] = [5, 5, -3, 5]
    (inbox / "labels.json").write_text(json.dumps(document))
    words = ["--inbox", str(inbox), "--store", str(tmp_path / "store"), "--json", "--report", str(tmp_path / "r.html")]
    answer = CliRunner().invoke(intake, words)
    assert answer.exit_code == 2 and "5 of 24 rows" in answer.stderr
    told = json.loads(answer.stdout)
    assert "5 of 24 rows" in told["error"]
    assert told["dataset"] == "" and told["quarantined"] == 5 and "Refused" in (tmp_path / "r.html").read_text()
    assert not list((tmp_path / "store").rglob("datasets/*"))
