"""Images that augment makes: exact boxes, same bytes, only in train."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from components.augment import variants
from components.augment.balance import repeats, replayed
from components.augment.geometry import crop, paste
from components.augment.photometry import PHOTOMETRY
from components.augment.settings import AugmentSettings
from components.augment.variants import make_variants, plan_variants
from components.shared.dataset import object_name
from components.shared.store import FolderStore
from tests.training_sets import draw_shapes, shape_rows
from tests.unit.test_augment import prepared

ALL = AugmentSettings(photometry_share=1.0, paste_share=1.0, crop_share=1.0)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    image, boxes, _ = draw_shapes(np.random.default_rng(seed), 96)
    return image, np.array(boxes, np.float32)


@pytest.mark.parametrize("kind", sorted(PHOTOMETRY))
def test_light_lens_and_codec_change_pixels_and_nothing_else(kind: str) -> None:
    image, _ = scene(1)
    before = image.copy()
    changed = PHOTOMETRY[kind](image, np.random.default_rng(2))
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)
    assert np.abs(changed.astype(int) - image).mean() > 1
    assert np.array_equal(changed, PHOTOMETRY[kind](image, np.random.default_rng(2)))


def test_night_is_dark() -> None:
    image, _ = scene(1)
    assert PHOTOMETRY["night"](image, np.random.default_rng(0)).mean() < 0.65 * image.mean()


@pytest.mark.parametrize("seed", range(12))
def test_a_window_cuts_no_object_and_its_boxes_show_the_same_pixels(seed: int) -> None:
    image, boxes = scene(seed)
    window, inside, kept = crop(image, boxes, np.random.default_rng(seed))
    assert len(inside) == len(kept) > 0
    for box, source in zip(inside.astype(int), boxes[kept].astype(int), strict=True):
        seen = window[box[1] : box[3], box[0] : box[2]]
        assert np.array_equal(seen, image[source[1] : source[3], source[0] : source[2]])


@pytest.mark.parametrize("seed", range(12))
def test_pasted_objects_change_their_box_and_no_other_pixel(seed: int) -> None:
    image, boxes = scene(seed)
    piece = np.full((14, 18, 3), 250, np.uint8)
    pasted, placed, used = paste(image, boxes, [piece, piece], np.random.default_rng(seed))
    changed = (pasted != image).any(axis=2)
    outside = np.ones_like(changed)
    for x0, y0, x1, y1 in placed.astype(int):
        rows, columns = np.nonzero(changed[y0:y1, x0:x1])
        assert (rows.min(), columns.min(), rows.max(), columns.max()) == (0, 0, 13, 17)
        outside[y0:y1, x0:x1] = False
    assert not changed[outside].any()
    assert len(placed) == len(used)
    for box in placed:
        overlap = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        assert not (overlap > 0).all(axis=1).any()


def test_processes_and_one_process_make_the_same_bytes(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shape_rows(store, train=6, val=0, side_px=64).to_pylist()
    planned = plan_variants(rows, ALL, 3, [], "ab" * 32)
    assert {one.kind for one in planned} >= {"crop", "paste"}
    alone = list(make_variants(store, rows, planned))
    monkeypatch.setattr(variants, "WORTH_PROCESSES", 1)
    assert list(make_variants(store, rows, planned)) == alone
    for row in alone:
        image = cv2.imdecode(np.frombuffer(store.get(object_name(row["image_sha256"])), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[:2] == (row["height_px"], row["width_px"])
        assert len(row["boxes"]) == len(row["class_ids"])


def test_the_plan_follows_digest_and_seed(store: FolderStore) -> None:
    rows = shape_rows(store, train=30, val=0, side_px=48).to_pylist()
    plan = plan_variants(rows, AugmentSettings(), 3, [], "ab" * 32)
    assert plan == plan_variants(rows, AugmentSettings(), 3, [], "ab" * 32)
    assert plan != plan_variants(rows, AugmentSettings(), 3, [], "cd" * 32)
    assert plan != plan_variants(rows, AugmentSettings(seed=1), 3, [], "ab" * 32)


def test_key_objects_are_pasted_more_often_and_a_teachers_never(store: FolderStore) -> None:
    rows = shape_rows(store, train=60, val=0, side_px=48).to_pylist()
    for place, row in enumerate(rows):
        row["origin"] = "teacher" if place % 2 else "human"
    pasted = {}
    for key in ([], [0]):
        settings = ALL.changed(key_class_gain=8.0)
        planned = [piece for one in plan_variants(rows, settings, 3, key, "ab" * 32) for piece in one.pieces]
        assert all(rows[place]["origin"] == "human" for place, _ in planned)
        pasted[len(key)] = np.mean([rows[place]["class_ids"][box] == 0 for place, box in planned])
    assert pasted[1] > pasted[0] + 0.2


def test_new_images_enter_train_alone_and_are_shown(tmp_path: Path, store: FolderStore) -> None:
    rows = shape_rows(store, train=5, val=3, side_px=64)
    counts, written, report = prepared(tmp_path, rows, store, **ALL.model_dump())
    made = [row for row in written.to_pylist() if any(flag.startswith("augmented:") for flag in row["flags"])]
    assert counts["train_images_made"] == len(made) >= 10
    assert {row["split"] for row in made} == {"train"}
    assert counts["val_images"] == 3
    assert "Before and after" in report


def test_replay_drops_old_images_only() -> None:
    rows = [{"batch": "old", "added_at": "2026-01-01"}] * 100 + [{"batch": "new", "added_at": "2026-01-02"}] * 20
    assert len(replayed(rows, AugmentSettings(), "ab" * 32)) == 120
    assert replayed(rows, AugmentSettings(replay_share=0.0), "ab" * 32) == list(range(100, 120))
    assert 30 < len(replayed(rows, AugmentSettings(replay_share=0.5), "ab" * 32)) - 20 < 70


def test_what_a_device_sent_back_counts_more() -> None:
    rows = [{"class_ids": [0], "origin": origin, "flags": flags} for origin, flags in (
        ("human", []), ("edge", []), ("human", ["hard"])
    )]  # fmt: skip
    assert repeats(rows, 1, AugmentSettings(hard_sample_gain=3.0), "ab" * 32) == [1, 3, 3]
