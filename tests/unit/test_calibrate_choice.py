"""Calibration images: from train only, every stratum, and unlike each other."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from components.calibrate.choose import choose_images, look_at
from components.shared.dataset import ROW_SCHEMA
from components.shared.errors import InvalidInput


def row(number: int, kind: int, shift: str, camera: str, brightness: float, split: str = "train") -> dict:
    return {
        "image_sha256": f"{number:064}", "format": "png", "width_px": 100, "height_px": 100,
        "boxes": [[0, 0, 10 + number % 7, 10]], "class_ids": [kind], "group": "g", "split": split, "origin": "human",
        "source": "s", "batch": "b", "phash": int(brightness), "flags": [], "added_at": "2026-01-01T00:00:00Z",
        "tags": [("shift", shift), ("camera", camera)],
    }  # fmt: skip


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)


def by_phash(rows: pa.Table) -> np.ndarray:
    return rows["phash"].to_numpy().astype(float)[:, None]


@pytest.fixture
def lopsided() -> pa.Table:
    """300 day images of class 0, and only 6 night images of class 1."""
    random = np.random.default_rng(0)
    rows = [row(n, 0, "day", f"c{n % 2}", random.normal(100, 5)) for n in range(300)]
    rows += [row(300 + n, 1, "night", "c0", random.normal(20, 5)) for n in range(6)]
    rows.append(row(400, 0, "day", "c0", 250))
    return table(rows)


def shifts(rows: pa.Table) -> Counter:
    return Counter(dict(tags)["shift"] for tags in rows["tags"].to_pylist())


def test_rare_strata_get_their_turn(lopsided: pa.Table) -> None:
    chosen, _ = choose_images(lopsided, 12, 10, 0, by_phash)
    assert shifts(chosen)["night"] >= 4
    cameras = Counter(dict(tags)["camera"] for tags in chosen["tags"].to_pylist())
    assert cameras["c1"] >= 4


def test_within_a_stratum_the_odd_image_is_found(lopsided: pa.Table) -> None:
    found = [250 in choose_images(lopsided, 80, 10, seed, by_phash)[0]["phash"].to_pylist() for seed in range(5)]
    assert all(found)


def test_the_choice_follows_the_seed(lopsided: pa.Table) -> None:
    first, again, other = (choose_images(lopsided, 12, 10, seed, by_phash)[0] for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)


def test_nothing_is_taken_twice_and_the_numbers_are_kept(lopsided: pa.Table) -> None:
    chosen, held_out = choose_images(lopsided, 40, 20, 0, by_phash)
    names = [*chosen["image_sha256"].to_pylist(), *held_out["image_sha256"].to_pylist()]
    assert len(names) == len(set(names)) == 60
    chosen, held_out = choose_images(lopsided.slice(0, 10), 256, 32, 0, by_phash)
    assert (chosen.num_rows, held_out.num_rows) == (8, 2)


def test_rows_of_another_split_and_too_few_rows_are_refused(lopsided: pa.Table) -> None:
    foreign = pa.concat_tables([lopsided, table([row(999, 0, "day", "c0", 1, split="test")])])
    with pytest.raises(InvalidInput, match=r"got rows of \['test'\], expected train rows only"):
        choose_images(foreign, 12, 10, 0, by_phash)
    with pytest.raises(InvalidInput, match="got 1 train images"):
        choose_images(lopsided.slice(0, 1), 12, 10, 0, by_phash)


def test_dark_and_bright_pictures_look_different(tmp_path: Path) -> None:
    for name, value in (("dark.png", 20), ("bright.png", 220)):
        cv2.imwrite(str(tmp_path / name), np.full((64, 64, 3), value, np.uint8))
    looks = look_at([tmp_path / "dark.png", tmp_path / "bright.png"])
    assert looks[0, 0] == 20 and looks[1, 0] == 220


def test_labels_by_machines_may_calibrate_but_not_judge(lopsided: pa.Table) -> None:
    origins = ["teacher" if place % 3 else "human" for place in range(lopsided.num_rows)]
    place = lopsided.column_names.index("origin")
    rows = lopsided.set_column(place, "origin", pa.array(origins))
    chosen, held_out = choose_images(rows, 12, 30, 0, by_phash)
    assert set(held_out["origin"].to_pylist()) == {"human"}
    assert "teacher" in chosen["origin"].to_pylist()
