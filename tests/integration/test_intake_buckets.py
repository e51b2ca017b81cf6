"""Intake with inbox and store in buckets of a real SeaweedFS: the same answers, byte for byte the same data set."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.intake.findings import read_findings
from components.intake.history import find_version, problems
from components.intake.intake import take_in
from components.shared.errors import InvalidInput
from components.shared.store import Store, open_store
from tests.intake_defects import DEFECTS, IMAGES, Defect, Files, clean, export_with
from tests.servers import BUCKET, object_server
from tests.unit.test_intake_archives import pack
from tests.unit.test_intake_defects import REGISTERED, check, write


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_server(tmp_path_factory.mktemp("weed")) as environment:
        yield environment


@pytest.fixture
def bucket(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Store:
    for key, value in server.items():
        monkeypatch.setenv(key, value)
    return open_store(f"s3://{BUCKET}/{abs(hash(request.node.name))}")


def upload(files: Files, bucket: Store) -> str:
    for name, data in files.items():
        bucket.put(f"inbox/{name}", data)
    return f"{bucket.uri}/inbox"


SOME = [
    pytest.param(defect, id=defect.name, marks=[pytest.mark.slow] if at % 12 else [])
    for at, defect in enumerate(DEFECTS)
]
"""Every twelfth in the default run, all of them in `make test-slow`."""


@pytest.mark.parametrize("defect", SOME)
def test_defect(defect: Defect, bucket: Store, tmp_path: Path) -> None:
    check(defect, upload(export_with(defect), bucket), open_store(f"{bucket.uri}/store"), tmp_path)


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "cvat", "label_studio"])
def test_bucket_and_folder_make_the_same_data_set(format: str, bucket: Store, store: Store, tmp_path: Path) -> None:
    work = (tmp_path / "dataset", tmp_path / "report.html")
    write(clean(format), tmp_path / "inbox" / "batch")
    local = take_in(str(tmp_path / "inbox"), store, REGISTERED, *work)
    remote_store = open_store(f"{bucket.uri}/store")
    inbox = upload({f"batch/{name}": data for name, data in clean(format).items()}, bucket)
    remote = take_in(inbox, remote_store, REGISTERED, *work)
    assert remote["accepted"] == local["accepted"] == 2 * IMAGES
    assert remote["digest"] == local["digest"]
    assert list(problems(remote_store, find_version(remote_store, "main", "newest"))) == []
    again = take_in(inbox, remote_store, REGISTERED, *work)
    assert again["digest"] == remote["digest"] and again["new_images"] == 0


def test_a_zip_in_a_bucket_is_read(bucket: Store, tmp_path: Path) -> None:
    archive = pack(write(clean("yolo"), tmp_path / "folder"), tmp_path / "export.zip")
    bucket.send(archive, "inbox/export.zip")
    for inbox in (f"{bucket.uri}/inbox", f"{bucket.uri}/inbox/export.zip"):
        store = open_store(f"{bucket.uri}/store{len(inbox)}")
        taken = take_in(inbox, store, REGISTERED, tmp_path / "dataset", tmp_path / "report.html")
        assert (taken["accepted"], taken["new_images"]) == (2 * IMAGES, IMAGES)
    assert read_findings((tmp_path / "dataset" / "findings.parquet").read_bytes()) == []


def test_an_empty_inbox_in_a_bucket_is_told(bucket: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing there"):
        take_in(f"{bucket.uri}/nowhere", bucket, REGISTERED, tmp_path / "dataset", tmp_path / "report.html")
