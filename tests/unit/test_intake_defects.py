"""Every named defect gets its code; clean rows around it are kept; the same on both kinds of store."""

import json
from pathlib import Path

import pytest

from components.intake.findings import read_findings
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import newest, read_rows
from components.shared.errors import InvalidInput
from components.shared.store import Store
from tests.intake_defects import DEFECTS, IMAGES, REFUSED, Defect, Files, clean, export_with

REGISTERED = IntakeSettings(class_names=("crate", "ball"))


def write(files: Files, folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def check(defect: Defect, inbox: str, store: Store, work: Path) -> None:
    """Take the spoiled export in and compare with what the corpus promises."""
    folder = work / "dataset"
    if defect.action == REFUSED:
        with pytest.raises(InvalidInput) as refusal:
            take_in(inbox, store, REGISTERED, folder, work / "report.html")
        assert defect.code in str(refusal.value)
        assert newest(store, "main") is None
        return
    taken = take_in(inbox, store, REGISTERED, folder, work / "report.html")
    findings = read_findings((folder / "findings.parquet").read_bytes())
    action = defect.action.replace("unlisted", "quarantined")
    assert {(finding.code, finding.action) for finding in findings} == {(defect.code, action)}
    assert all(finding.message for finding in findings)
    assert (taken["quarantined"] > 0) == (defect.action == "quarantined")
    assert (taken["repaired"] > 0) == (defect.action == "repaired")
    assert taken["new_images"] >= IMAGES - 2 and taken["accepted"] >= 2 * (IMAGES - 2)
    assert json.loads((folder / "dataset.json").read_text())["digest"] == taken["digest"]


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 100


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_defect(defect: Defect, store: Store, tmp_path: Path) -> None:
    check(defect, str(write(export_with(defect), tmp_path / "inbox")), store, tmp_path)


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "cvat", "label_studio"])
def test_a_clean_export_has_no_findings(format: str, store: Store, tmp_path: Path) -> None:
    taken = take_in(
        str(write(clean(format), tmp_path / "in")), store, REGISTERED, tmp_path / "out", tmp_path / "r.html"
    )
    assert (taken["accepted"], taken["repaired"], taken["quarantined"]) == (2 * IMAGES, 0, 0)
    version = newest(store, "main")
    assert version is not None
    for row in read_rows(store, version).to_pylist():
        assert row["boxes"] == [[6, 8, 26, 32], [30, 10, 50, 40]] and row["class_ids"] == [0, 1]
