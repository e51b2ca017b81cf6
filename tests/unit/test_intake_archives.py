"""Zip exports: read like folders, and refused in time when they attack."""

import os
import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest

from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import newest
from components.shared.errors import InvalidInput
from components.shared.store import Store
from tests.unit.test_intake_take_in import write_coco


def intake(inbox: Path, store: Store, work: Path) -> dict:
    return take_in(str(inbox), store, IntakeSettings(), work / "dataset", work / "report.html")


def pack(folder: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, top + path.relative_to(folder).as_posix())
    return archive


@pytest.mark.parametrize("top", ["", "project-7/"])
def test_a_zip_is_read_as_its_folder_is(top: str, store: Store, tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "folder", range(6))
    taken = intake(folder, store, tmp_path / "work")
    pack(folder, tmp_path / "export.zip", top)
    again = intake(tmp_path / "export.zip", store, tmp_path / "work")
    assert again["digest"] == taken["digest"] and again["new_images"] == 0 and again["accepted"] == 12


def test_zips_and_folders_share_an_inbox(store: Store, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    pack(write_coco(tmp_path / "a", range(4)), tmp_path / "inbox" / "a.zip")
    write_coco(tmp_path / "inbox" / "b", range(10, 14))
    assert intake(tmp_path / "inbox", store, tmp_path / "work")["new_images"] == 8


def _link(packed: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("images/link.jpg")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed.writestr(member, "/etc/passwd")


def _zeros(packed: zipfile.ZipFile) -> None:
    """Ten gigabytes of zeros, claimed and really there: deflate packs a gigabyte into one megabyte."""
    with packed.open("images/zeros.bmp", "w", force_zip64=True) as member:
        for _ in range(64):
            member.write(bytes(2**20))
    packed.infolist()[-1].file_size = 10 * 2**30


ATTACKS = {
    "ARC_PATH": [
        lambda packed: packed.writestr("../outside.jpg", b"x"),
        lambda packed: packed.writestr("images/../../outside.jpg", b"x"),
        lambda packed: packed.writestr("/tmp/outside.jpg", b"x"),
        lambda packed: packed.writestr("C:\\outside.jpg", b"x"),
        lambda packed: packed.writestr("..\\outside.jpg", b"x"),
    ],
    "ARC_LINK": [_link],
    "ARC_BOMB": [_zeros],
    "ARC_CASE": [
        lambda packed: (packed.writestr("images/A.jpg", b"x"), packed.writestr("images/a.jpg", b"y")),
        lambda packed: (packed.writestr("images/\u00e9.jpg", b"x"), packed.writestr("images/e\u0301.jpg", b"y")),
    ],
    "ARC_NESTED": [lambda packed: packed.writestr("more.zip", b"PK")],
}


@pytest.mark.parametrize(("code", "attack"), [(code, attack) for code, some in ATTACKS.items() for attack in some])
def test_an_attack_is_refused_at_once_and_nothing_is_written(code: str, attack, store: Store, tmp_path: Path) -> None:
    archive = pack(write_coco(tmp_path / "folder", range(3)), tmp_path / "inbox.zip")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as packed:
        attack(packed)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    started = time.monotonic()
    with pytest.raises(InvalidInput, match=code):
        intake(archive, store, tmp_path / "work")
    assert time.monotonic() - started < 2
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert newest(store, "main") is None


def test_a_directory_that_lies_about_sizes_is_caught_on_reading(store: Store, tmp_path: Path) -> None:
    archive = pack(write_coco(tmp_path / "folder", range(3)), tmp_path / "inbox.zip")
    data = bytearray(archive.read_bytes())
    place = data.rfind(b"PK\x01\x02", 0, data.rfind(b"labels.json"))
    struct.pack_into("<I", data, place + 24, struct.unpack_from("<I", data, place + 24)[0] - 40)
    archive.write_bytes(data)
    with pytest.raises(InvalidInput, match="ARC_DAMAGED"):
        intake(archive, store, tmp_path / "work")


@pytest.mark.parametrize("cut", [10, 200, -30])
def test_a_cut_archive_is_refused(cut: int, store: Store, tmp_path: Path) -> None:
    archive = pack(write_coco(tmp_path / "folder", range(3)), tmp_path / "inbox.zip")
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(InvalidInput, match="ARC_DAMAGED"):
        intake(archive, store, tmp_path / "work")


def test_too_many_members_are_refused_before_they_are_listed(store: Store, tmp_path: Path) -> None:
    archive = pack(write_coco(tmp_path / "folder", range(3)), tmp_path / "inbox.zip")
    data = bytearray(archive.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    wide = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 10**9, 10**9, 0, 0)
    archive.write_bytes(data[:end] + wide + data[end:])
    with pytest.raises(InvalidInput, match="ARC_COUNT"):
        intake(archive, store, tmp_path / "work")


def test_overlapping_members_are_refused(store: Store, tmp_path: Path) -> None:
    archive = tmp_path / "inbox.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.json", os.urandom(5000))
        packed.writestr("b.json", os.urandom(5000))
        packed.infolist()[1].header_offset = 100
    with pytest.raises(InvalidInput, match="ARC_BOMB"):
        intake(archive, store, tmp_path / "work")
