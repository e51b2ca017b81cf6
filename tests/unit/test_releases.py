"""Reading released bundles, and which version the ledger calls champion."""

from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from components.release.bundle import lay_out, list_files, write_bundle
from components.shared.errors import InvalidInput
from components.shared.ledger import append_record, head
from components.shared.releases import bring_release, champion, read_release, release_of_night, releases
from components.shared.signatures import SigningKey
from components.shared.store import open_store
from tests.sample_night import write_night

MODEL = "parts"
KEY = cast(SigningKey, ec.generate_private_key(ec.SECP256R1()))


def released(folder: Path, store, version: int):
    bundle = folder / f"bundle-{version}"
    lay_out(write_night(folder / f"night-{version}", run_key=str(version) * 64), bundle)
    record = {"model_name": MODEL, "version": version, "run_key": str(version) * 64, "files": list_files(bundle)}
    write_bundle(store, record, bundle, KEY)
    return record


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store((tmp_path / "store").as_uri())
    for version in (1, 2, 10):
        released(tmp_path, opened, version)
    return opened


def promote(store, version: int) -> None:
    entry = {"kind": "promote", "version": version, "champion": version, "actor": "anna", "reason": "better"}
    append_record(store, MODEL, entry, head(store, MODEL))


def test_versions_come_in_order_of_their_number(store) -> None:
    assert [release.version for release in releases(store, MODEL)] == [1, 2, 10]


def test_a_bundle_without_its_record_is_no_release(store) -> None:
    (store.root / f"releases/{MODEL}/2/release.json").unlink()
    assert [release.version for release in releases(store, MODEL)] == [1, 10]
    with pytest.raises(InvalidInput, match="no whole version 2"):
        read_release(store, MODEL, 2)


def test_a_record_copied_to_another_version_is_refused(store) -> None:
    store.put(f"releases/{MODEL}/3/release.json", store.get(f"releases/{MODEL}/1/release.json"))
    with pytest.raises(InvalidInput, match="got the record of"):
        read_release(store, MODEL, 3)


def test_the_night_finds_its_release(store) -> None:
    found = release_of_night(store, MODEL, "2" * 64)
    assert found is not None
    assert found.version == 2
    assert release_of_night(store, MODEL, "9" * 64) is None


def test_the_champion_is_what_the_newest_record_says(store) -> None:
    assert champion(store, MODEL) is None
    promote(store, 2)
    promote(store, 10)
    promote(store, 1)
    assert champion(store, MODEL).version == 1


def test_a_champion_without_its_bundle_is_an_error_not_a_silence(store) -> None:
    promote(store, 2)
    (store.root / f"releases/{MODEL}/2/release.json").unlink()
    with pytest.raises(InvalidInput, match="no whole version 2"):
        champion(store, MODEL)


def test_a_bundle_is_brought_whole_or_in_part(store, tmp_path: Path) -> None:
    release = read_release(store, MODEL, 1)
    whole = bring_release(store, release, tmp_path / "whole")
    assert {file["path"] for file in release.record["files"]} == {file["path"] for file in list_files(whole)}
    part = bring_release(store, release, tmp_path / "part", "checkpoint")
    assert sorted(file["path"] for file in list_files(part)) == ["checkpoint/model.json", "checkpoint/model.pt"]
    with pytest.raises(InvalidInput, match="no part 'tensorrt'"):
        bring_release(store, release, tmp_path / "none", "tensorrt")


def test_a_changed_file_is_refused_and_not_left_behind(store, tmp_path: Path) -> None:
    release = read_release(store, MODEL, 1)
    path = store.root / release.prefix / "models/model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    with pytest.raises(InvalidInput, match="changed after its release"):
        bring_release(store, release, tmp_path / "copy", "models")
    assert not (tmp_path / "copy/models/model.onnx").exists()


def test_a_file_that_would_leave_the_bundle_is_refused(store, tmp_path: Path) -> None:
    release = read_release(store, MODEL, 1)
    release.record["files"][0]["path"] = "../../outside"
    with pytest.raises(InvalidInput, match="leaves the bundle"):
        bring_release(store, release, tmp_path / "copy")


def test_a_number_given_out_twice_does_not_overwrite_the_release_that_holds_it(store, tmp_path: Path) -> None:
    before = store.get(f"releases/{MODEL}/1/release.json")
    bundle = tmp_path / "bundle-1"
    record = {"model_name": MODEL, "version": 1, "run_key": "9" * 64, "files": list_files(bundle)}
    with pytest.raises(InvalidInput, match="another release already holds this place"):
        write_bundle(store, record, bundle, KEY)
    assert store.get(f"releases/{MODEL}/1/release.json") == before
