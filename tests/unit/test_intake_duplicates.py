"""Near duplicates: leaks are caught, a fixed camera neither leaks nor starves, splits are for ever."""

import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from components.intake.duplicates import MAX_DISTANCE, HashIndex
from components.intake.findings import Finding, read_findings
from components.intake.images import perceptual_hash
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import newest, read_rows
from components.shared.store import Store, open_store
from tests.unit.test_intake_take_in import draw, write_coco

Picture = tuple[np.ndarray, list[list[int]]]


def intake(inbox: Path, store: Store, work: Path, **changes) -> list[Finding]:
    take_in(str(inbox), store, IntakeSettings(**changes), work / "dataset", work / "report.html")
    return read_findings((work / "dataset" / "findings.parquet").read_bytes())


def splits_of(store: Store) -> dict[str, str]:
    version = newest(store, "main")
    assert version is not None
    return {row["source"]: row["split"] for row in read_rows(store, version).to_pylist()}


def write(folder: Path, pictures: dict[str, Picture], quality: int = 92, **keys: str) -> Path:
    """A COCO export of JPEGs with the given boxes of one class."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for name, (pixels, boxes) in pictures.items():
        cv2.imwrite(str(folder / "images" / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        images.append({"id": name, "file_name": name, **size, **keys})
        annotations += [{"id": len(annotations) + at, "image_id": name, "category_id": 1, "bbox": box}
                        for at, box in enumerate(boxes)]  # fmt: skip
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "labels.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize(("scale", "quality"), [(1.0, 60), (0.5, 70), (1.6, 85)])
def test_a_copy_of_a_test_image_is_quarantined_as_a_leak(
    scale: float, quality: int, labeled: bool, store: Store, tmp_path: Path
) -> None:
    pictures = {f"{seed}.jpg": (draw(seed, 240, 180), [[20, 30, 60, 50]] * labeled) for seed in range(12)}
    intake(write(tmp_path / "a", pictures), store, tmp_path / "work")
    before = splits_of(store)
    copies = {}
    for name, split in before.items():
        pixels = cv2.resize(pictures[name][0], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        boxes = [[round(side * scale) for side in box] for box in pictures[name][1]]
        copies[f"{split}-{name}"] = (pixels, boxes)
    findings = {one.image: one for one in intake(write(tmp_path / "b", copies, quality), store, tmp_path / "work")}
    for name, split in before.items():
        code, action = findings[f"{split}-{name}"].code, findings[f"{split}-{name}"].action
        assert (code, action) == (("LEAK", "quarantined") if split == "test" else ("DUP_NEAR", "accepted"))
    after = splits_of(store)
    assert before.items() <= after.items()
    assert all(split == name.split("-")[0] for name, split in after.items() if "-" in name)


def camera_events(seed: int, count: int, side: int, labeled: bool = True) -> dict[str, Picture]:
    """Frames of one fixed camera: always the same background, a small thing somewhere else in each, sensor noise."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(np.random.default_rng(77).integers(40, 210, (9, 12, 3), np.uint8), (480, 360))
    frames = {}
    for at in range(count):
        frame = background.astype(np.float32) + rng.normal(0, 3, background.shape)
        x, y = int(rng.integers(20, 480 - side - 20)), int(rng.integers(20, 360 - side - 20))
        frame[y : y + side, x : x + side] = rng.choice([20.0, 235.0], 3)
        frames[f"{seed}_{at}.jpg"] = (frame.clip(0, 255).astype(np.uint8), [[x, y, side, side]] * labeled)
    return frames


def test_one_fixed_camera_neither_starves_training_nor_leaks(store: Store, tmp_path: Path) -> None:
    hashes = [perceptual_hash(Image.fromarray(pixels)) for pixels, _ in camera_events(1, 40, 14).values()]
    near = [(a ^ b).bit_count() <= 3 for at, a in enumerate(hashes) for b in hashes[:at]]
    assert np.mean(near) > 0.9, "the premise: by hash alone nearly all events are duplicates"
    for night in range(1, 9):
        keys = {"camera": "gate", "session": f"night-{night}"}
        write(tmp_path / "inbox" / f"n{night}", camera_events(night, 20, 14), **keys)
    findings = intake(tmp_path / "inbox", store, tmp_path / "work")
    findings += intake(write(tmp_path / "more", camera_events(99, 40, 14), camera="gate", session="night-99"),
                       store, tmp_path / "work")  # fmt: skip
    assert sum(finding.code == "LEAK" for finding in findings) == 0
    version = newest(store, "main")
    assert version is not None
    rows = read_rows(store, version).to_pylist()
    assert len(rows) == 200 and version.counts["train"] >= 80 and min(version.counts["test"], version.counts["val"]) > 0
    session = {dict(row["tags"])["session"]: row["split"] for row in rows}
    assert all(row["split"] == session[dict(row["tags"])["session"]] for row in rows)


def test_copies_among_new_sessions_share_a_split(store: Store, tmp_path: Path) -> None:
    for session in range(24):
        pictures = {f"{session}.jpg": (draw(session // 2, 240, 180), [])}
        quality = 95 - 20 * (session % 2)
        write(tmp_path / "inbox" / f"{session:02d}", pictures, quality, camera="a", session=str(session))
    intake(tmp_path / "inbox", store, tmp_path / "work")
    splits = splits_of(store)
    assert len(splits) == 24
    assert all(splits[f"{2 * pair}.jpg"] == splits[f"{2 * pair + 1}.jpg"] for pair in range(12))
    assert set(splits.values()) == {"train", "val", "test"}


def test_twenty_batches_in_any_order_give_the_same_splits(tmp_path: Path) -> None:
    batches = [write_coco(tmp_path / f"b{at}", range(20 * at, 20 * at + 20)) for at in range(20)]
    seen = []
    for order in range(3):
        shuffled = random.Random(order).sample(batches, 20)
        store = open_store((tmp_path / f"store{order}").as_uri())
        before: dict[str, str] = {}
        for batch in shuffled:
            intake(batch, store, tmp_path / "work")
            after = splits_of(store)
            assert before.items() <= after.items(), "a split is for ever"
            before = after
        seen.append(before)
    assert seen[0] == seen[1] == seen[2] and len(seen[0]) == 400


def test_the_perceptual_hash_is_that_of_imagehash() -> None:
    imagehash = pytest.importorskip("imagehash")
    for seed in range(20):
        image = Image.fromarray(draw(seed, 300, 200))
        theirs = int(str(imagehash.phash(image)), 16)
        assert (perceptual_hash(image) ^ theirs).bit_count() <= 4  # their thumbnail is made without a reducing gap


def test_the_index_finds_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 2**63, 3000, np.uint64))
    flips = np.zeros(500, np.uint64)
    for bit in rng.integers(0, 64, (12, 500)):
        flips ^= np.uint64(1) << bit.astype(np.uint64)
    queries = hashes[rng.integers(0, len(hashes), 500)] ^ np.where(
        np.arange(500) % 3, flips, flips & np.uint64(0x1F0300)
    )
    brute = np.bitwise_count(queries[:, None] ^ hashes[None, :]) <= MAX_DISTANCE
    ours = np.zeros_like(brute)
    ours[HashIndex(hashes).near(queries)] = True
    assert (ours == brute).all() and brute.any()
