"""Intake as a whole, on small hand-made exports."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.plan.plan import worth_a_night
from components.plan.settings import PlanSettings
from components.shared.dataset import bring_images, digest_of, newest, read_dataset, read_rows, read_test_rows
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.nights import record_decision, run_key
from components.shared.store import Store, open_store


def draw(seed: int, width: int = 120, height: int = 90) -> np.ndarray:
    """A picture unlike any of another seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_coco(folder: Path, seeds: range, classes: tuple[str, ...] = ("crate", "ball"), **keys: str) -> Path:
    """An export as a labeler would make it: two boxes a picture, PNG and JPEG mixed, category ids with gaps."""
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for seed in seeds:
        name = f"{seed}.{'png' if seed % 2 else 'jpg'}"
        cv2.imwrite(str(folder / "images" / name), draw(seed))
        images.append({"id": seed, "file_name": name, "width": 120, "height": 90, **keys})
        for k, box in enumerate(([10, 10, 30, 20], [60, 40, 25, 25])):
            annotations.append({"id": len(annotations) + 1, "image_id": seed, "category_id": 3 + 4 * k, "bbox": box})
    categories = [{"id": 3 + 4 * k, "name": name} for k, name in enumerate(classes)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def intake(inbox: Path, store: Store, **changes) -> dict:
    work = Path(store.uri.removeprefix("file://")).parent / "work"
    return take_in(str(inbox), store, IntakeSettings(**changes), work / "dataset", work / "report.html")


def test_eight_pictures_of_their_own_fill_every_split(tmp_path: Path, store: Store) -> None:
    taken = intake(write_coco(tmp_path / "inbox", range(8)), store)
    assert (taken["accepted"], taken["repaired"], taken["quarantined"], taken["new_images"]) == (16, 0, 0, 8)
    version = read_dataset(store, str(taken["digest"]))
    assert min(version.counts[split] for split in ("train", "val", "test")) >= 1
    assert version.class_names == ("crate", "ball")
    rows = read_rows(store, version)
    assert rows.num_rows == 8 and rows["image_sha256"].to_pylist() == sorted(rows["image_sha256"].to_pylist())
    assert rows["boxes"][0].as_py() == [[10, 10, 40, 30], [60, 40, 85, 65]]
    assert rows["class_ids"][0].as_py() == [0, 1]
    assert read_test_rows(store, version).num_rows == version.counts["test"]


def test_a_batch_seen_before_changes_nothing(tmp_path: Path, store: Store) -> None:
    inbox = write_coco(tmp_path / "inbox", range(8))
    first, again = intake(inbox, store), intake(inbox, store)
    assert again["digest"] == first["digest"] and again["new_images"] == 0
    (tmp_path / "elsewhere").mkdir()
    inbox.rename(tmp_path / "elsewhere" / "moved")
    assert intake(tmp_path / "elsewhere", store)["digest"] == first["digest"]


def test_old_images_keep_their_split_and_the_test_set_stays_frozen_until_bumped(tmp_path: Path, store: Store) -> None:
    first = read_dataset(store, str(intake(write_coco(tmp_path / "a", range(12)), store)["digest"]))
    before = dict(zip(*read_rows(store, first).select(["image_sha256", "split"]).to_pydict().values(), strict=True))
    second = read_dataset(store, str(intake(write_coco(tmp_path / "b", range(100, 140)), store)["digest"]))
    after = dict(zip(*read_rows(store, second).select(["image_sha256", "split"]).to_pydict().values(), strict=True))
    assert before.items() <= after.items() and len(after) == 52
    assert second.parent == first.digest and second.test_set == first.test_set == "main@v1"
    assert read_test_rows(store, second).equals(read_test_rows(store, first))
    bumped = intake(tmp_path / "b", store, bump_test_set=True)
    assert bumped["test_set"] == "main@v2"
    grown = read_test_rows(store, read_dataset(store, str(bumped["digest"])))
    assert grown.num_rows == list(after.values()).count("test") > read_test_rows(store, first).num_rows
    assert intake(tmp_path / "b", store, bump_test_set=True)["digest"] == bumped["digest"]


def test_a_group_is_never_torn_apart(tmp_path: Path, store: Store) -> None:
    for number in range(6):
        keys = {"camera": f"c{number % 2}", "session": f"s{number}", "shift": "day"}
        write_coco(tmp_path / "inbox" / f"batch{number}", range(10 * number, 10 * number + 5), **keys)
    rows = read_rows(store, read_dataset(store, str(intake(tmp_path / "inbox", store)["digest"]))).to_pylist()
    splits = {group: {row["split"] for row in rows if row["group"] == group} for group in {r["group"] for r in rows}}
    assert len(splits) == 6 and all(len(names) == 1 for names in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}
    assert dict(rows[0]["tags"])["shift"] == "day"


def test_a_yolo_folder_says_the_same_as_its_coco_twin(tmp_path: Path, store: Store) -> None:
    coco = intake(write_coco(tmp_path / "coco", range(8)), store)
    labels = tmp_path / "yolo" / "labels" / "train"
    labels.mkdir(parents=True)
    (tmp_path / "coco" / "images").rename(tmp_path / "yolo" / "images_")
    (tmp_path / "yolo" / "images").mkdir()
    (tmp_path / "yolo" / "images_").rename(tmp_path / "yolo" / "images" / "train")
    (tmp_path / "yolo" / "data.yaml").write_text("names: {0: crate, 1: ball}\n")
    boxes = ((0, 25, 20, 30, 20), (1, 72.5, 52.5, 25, 25))
    lines = [f"{c} {x / 120:.8f} {y / 90:.8f} {w / 120:.8f} {h / 90:.8f}" for c, x, y, w, h in boxes]
    for seed in range(8):
        (labels / f"{seed}.txt").write_text("\n".join(lines))
    other = open_store((tmp_path / "other").as_uri())
    yolo = intake(tmp_path / "yolo", other)
    rows = [read_rows(s, read_dataset(s, str(t["digest"]))) for s, t in ((store, coco), (other, yolo))]
    assert rows[0]["image_sha256"].equals(rows[1]["image_sha256"])
    for ours, theirs in zip(rows[0]["boxes"].to_pylist(), rows[1]["boxes"].to_pylist(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert rows[0]["split"].equals(rows[1]["split"])


def test_images_are_brought_as_they_were_and_a_damaged_object_is_refused(tmp_path: Path, store: Store) -> None:
    version = read_dataset(store, str(intake(write_coco(tmp_path / "inbox", range(4)), store)["digest"]))
    rows = read_rows(store, version)
    paths = bring_images(store, rows, tmp_path / "local")
    assert [path.stem for path in paths] == rows["image_sha256"].to_pylist()
    assert all(digest_file(path) == path.stem for path in paths)
    assert {path.suffix for path in paths} == {".png", ".jpg"}
    damaged = tmp_path / "store" / "objects" / paths[0].stem[:2] / paths[0].stem
    damaged.write_bytes(b"rot")
    assert bring_images(store, rows, tmp_path / "local") == paths
    with pytest.raises(InvalidInput, match="do not match"):
        bring_images(store, rows, tmp_path / "fresh")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda inbox: inbox.rename(inbox.parent / "gone"), "no such folder"),
        (lambda inbox: (inbox / "labels.json").unlink(), "no export found"),
        (lambda inbox: (inbox / "labels.json").write_text('{"images": [], "annotations": [], "categories": []}'),
         "without images"),
        (lambda inbox: (inbox / "labels.json").write_text('{"images": [1, "annotations"'), "no valid JSON"),
    ],
)  # fmt: skip
def test_bad_inboxes_are_refused(tmp_path: Path, store: Store, spoil, says: str) -> None:
    inbox = write_coco(tmp_path / "inbox", range(3))
    spoil(inbox)
    with pytest.raises(InvalidInput, match=says):
        intake(inbox, store)
    assert newest(store, "main") is None


def test_other_classes_than_the_registered_ones_are_refused(tmp_path: Path, store: Store) -> None:
    intake(write_coco(tmp_path / "a", range(4)), store)
    other = write_coco(tmp_path / "b", range(10, 14), classes=("crate", "Ball"))
    with pytest.raises(InvalidInput, match=r"CLS_LIST.*'Ball'.*expected \['crate', 'ball'\]"):
        intake(other, store)
    assert intake(other, store, class_aliases={"Ball": "ball"})["repaired"] == 4


def test_a_night_is_worth_it_only_with_something_new(tmp_path: Path, store: Store) -> None:
    dataset = tmp_path / "work" / "dataset"
    intake(write_coco(tmp_path / "a", range(8)), store)
    made_with = [{"epochs": 3}]

    def plan(made_with: list[dict]) -> str:
        return worth_a_night(dataset, store, "parts", "test", made_with, PlanSettings())

    assert plan(made_with) == "train"
    key = run_key(digest_of(dataset), made_with)
    record_decision(
        store,
        key,
        {"verdict": "refused", "run_key": key, "model_name": "parts", "dataset": digest_of(dataset), "decided_at": "1"},
    )
    assert plan([{"epochs": 3.0}]) == "skip"
    assert plan([{"epochs": 4}]) == "train"
    intake(write_coco(tmp_path / "b", range(50, 70)), store)
    assert plan(made_with) == "train"
