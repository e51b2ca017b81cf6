"""Augmentation: what enters the training set, and how often it counts."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.augment.augment import augment
from components.augment.balance import repeats
from components.augment.settings import AugmentSettings
from components.shared.errors import InvalidInput
from components.shared.store import FolderStore
from tests.training_sets import shape_rows, write_version


def changed(rows: pa.Table, place: int, **fields: object) -> pa.Table:
    values = rows.to_pylist()
    values[place] |= fields
    return pa.Table.from_pylist(values, schema=rows.schema)


def prepared(tmp_path: Path, rows: pa.Table, store: FolderStore, **settings: object) -> tuple[dict, pa.Table, str]:
    folder = write_version(tmp_path / "dataset", store, rows.drop_columns("repeat"))
    report = tmp_path / "report.html"
    alone = {"photometry_share": 0.0, "paste_share": 0.0, "crop_share": 0.0}
    counts = augment(folder, store, AugmentSettings(**(alone | settings)), tmp_path / "training_set", report)
    return counts, pq.read_table(tmp_path / "training_set" / "rows.parquet"), report.read_text()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_train_and_val_go_in_and_test_stays_out(tmp_path: Path, store: FolderStore) -> None:
    rows = changed(shape_rows(store, train=5, val=2, side_px=48), 0, split="test")
    counts, written, report = prepared(tmp_path, rows, store)
    assert set(written["split"].to_pylist()) == {"train", "val"}
    assert len(written) == 6
    assert counts["train_images"] + counts["val_images"] == 6
    assert report.count("data:image/jpeg") == counts["train_images"]


def test_what_a_teacher_labeled_never_stands_in_val(tmp_path: Path, store: FolderStore) -> None:
    rows = shape_rows(store, train=4, val=3, side_px=48)
    splits = rows["split"].to_pylist()
    rows = changed(rows, splits.index("val"), origin="teacher")
    rows = changed(rows, splits.index("train"), origin="teacher")
    _, written, _ = prepared(tmp_path, rows, store)
    stands = [(row["split"], row["origin"]) for row in written.to_pylist()]
    assert stands.count(("val", "human")) == 2
    assert ("train", "teacher") in stands
    assert ("val", "teacher") not in stands


def test_images_of_a_rare_class_count_more_often_and_val_once(tmp_path: Path, store: FolderStore) -> None:
    rows = shape_rows(store, train=20, val=3, side_px=48)
    values = rows.to_pylist()
    for place, row in enumerate(row for row in values if row["split"] == "train"):
        row["class_ids"] = [2 if place == 0 else 0] * len(row["boxes"])
    _, written, _ = prepared(tmp_path, pa.Table.from_pylist(values, schema=rows.schema), store, rare_class_share=0.5)
    counted = {(row["split"], row["class_ids"][0]): row["repeat"] for row in written.to_pylist()}
    assert counted["train", 2] in (3, 4)  # sqrt(0.5 / 0.05) = 3.16
    assert counted["train", 0] == 1
    assert {row["repeat"] for row in written.to_pylist() if row["split"] == "val"} == {1}


def test_repeats_follow_the_published_factor_on_average() -> None:
    images = [{"class_ids": [int(place >= 980)], "origin": "human", "flags": []} for place in range(1000)]
    times = repeats(images, 2, AugmentSettings(rare_class_share=0.1, most_repeats=10), "ab" * 32)
    assert set(times[:980]) == {1}
    assert sum(times[980:]) / 20 == pytest.approx((0.1 / 0.02) ** 0.5, abs=0.35)


def test_the_same_version_gives_the_same_bytes(tmp_path: Path, store: FolderStore) -> None:
    rows = shape_rows(store, train=6, val=2, side_px=48)
    prepared(tmp_path, rows, store)
    first = (tmp_path / "training_set" / "rows.parquet").read_bytes()
    again = FolderStore(tmp_path / "elsewhere")
    prepared(tmp_path, shape_rows(again, train=6, val=2, side_px=48), again)
    assert (tmp_path / "training_set" / "rows.parquet").read_bytes() == first
    assert "boxes_by_class" in json.loads((tmp_path / "training_set" / "training_set.json").read_bytes())["counts"]


def test_a_version_without_a_box_is_refused(tmp_path: Path, store: FolderStore) -> None:
    rows = shape_rows(store, train=3, val=1, side_px=48)
    bare = [row | {"boxes": [], "class_ids": []} for row in rows.to_pylist()]
    with pytest.raises(InvalidInput, match="without a box"):
        prepared(tmp_path, pa.Table.from_pylist(bare, schema=rows.schema), store)
