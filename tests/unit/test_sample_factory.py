"""The sample factory: same seed same bytes, boxes from what is seen, nights that are darker."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.shared.digests import digest_path
from components.shared.errors import InvalidInput
from pipelines.sample import piles
from pipelines.sample.factory import draw_scene, write_shift
from pipelines.sample.parts import CLASS_NAMES, Shape, carve
from pipelines.sample.piles import Placed, extent, owners, pile, visible_parts
from pipelines.sample.sheet import contact_sheet
from pipelines.sample.shifts import CAMERAS, FILE_NAME_PATTERN, session_of


def block(side: int) -> Shape:
    return Shape(np.ones((side, side), np.float32), np.ones((side, side), bool))


def test_a_scene_is_drawn_the_same_twice_and_another_one_differs() -> None:
    first, again, other = draw_scene(3, "night", 17), draw_scene(3, "night", 17), draw_scene(4, "night", 17)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes, again.boxes)
    assert first.file_name == again.file_name
    assert first.file_name != other.file_name
    assert not np.array_equal(first.image, other.image)


def test_a_shift_is_the_same_bytes_with_one_worker_and_with_two(tmp_path: Path) -> None:
    one = write_shift(tmp_path / "one", "day", 64, seed=5, workers=1)
    two = write_shift(tmp_path / "two", "day", 64, seed=5, workers=2)
    assert digest_path(one) == digest_path(two)
    assert len(list((two / "images").iterdir())) == 64


def test_the_first_frames_of_a_longer_shift_are_the_shorter_shift(tmp_path: Path) -> None:
    short = write_shift(tmp_path / "short", "night", 4, seed=5)
    long = write_shift(tmp_path / "long", "night", 7, seed=5)
    for image in (short / "images").iterdir():
        assert image.read_bytes() == (long / "images" / image.name).read_bytes()


def test_a_whole_export_is_left_alone_and_another_request_replaces_it(tmp_path: Path) -> None:
    folder = write_shift(tmp_path / "shift", "day", 3, seed=1)
    before = (folder / "annotations" / "instances.json").stat().st_mtime_ns
    write_shift(folder, "day", 3, seed=1)
    assert (folder / "annotations" / "instances.json").stat().st_mtime_ns == before
    write_shift(folder, "day", 2, seed=1, format="yolo")
    assert sorted(path.name for path in folder.iterdir()) == [".sample.json", "data.yaml", "images", "labels"]
    assert len(list((folder / "images").iterdir())) == 2


def test_somebody_elses_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InvalidInput, match="somebody else"):
        write_shift(tmp_path / "mine", "day", 2, seed=1)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="file/shift"):
        write_shift(tmp_path / "file" / "shift", "day", 2, seed=1)


def test_a_killed_call_leaves_no_export_and_the_next_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "shift"
    code = "import sys; from pathlib import Path; from pipelines.sample.factory import write_shift\n"
    code += "write_shift(Path(sys.argv[1]), 'day', 2000, seed=2, workers=1)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    give_up = time.monotonic() + 60
    while len(list(tmp_path.glob(".shift.partial/images/*.jpg"))) < 3 and time.monotonic() < give_up:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists()
    write_shift(folder, "day", 2, seed=2)
    assert len(list((folder / "images").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["shift"]


@pytest.mark.parametrize("wrong", [{"shift": "noon"}, {"seed": -1}, {"images": -2}, {"size_px": 8}, {"format": "csv"}])
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        write_shift(tmp_path / "shift", **{"shift": "day", "images": 2, "seed": 1, **wrong})
    assert not list(tmp_path.iterdir())


def test_a_box_is_the_extent_of_what_rises_above_the_belt() -> None:
    belt = np.full((200, 200, 3), 0.3, np.float32)
    for class_id, name in enumerate(CLASS_NAMES):
        rng = np.random.default_rng(class_id)
        part = Placed(class_id, carve(class_id, 90, 0.7, 0.9, rng), left=-20, top=60)
        rows, columns = np.nonzero(pile([part], belt, rng).height)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert extent(owners([part], 200) == 0).tolist() == expected, name


def test_a_part_that_is_covered_is_neither_drawn_nor_labelled() -> None:
    below, on_top = Placed(2, block(40), 30, 30), Placed(1, block(40), 45, 35)
    assert visible_parts([below, on_top], 200) == [below, on_top]
    hiding = Placed(1, block(40), 34, 32)
    assert visible_parts([below, hiding], 200) == [hiding]
    aside = Placed(1, block(40), -28, 30)
    assert visible_parts([aside], 200) == []


def test_a_box_shrinks_to_the_visible_part_of_a_covered_one() -> None:
    below, on_top = Placed(2, block(40), 30, 30), Placed(1, block(40), 50, 20)
    assert extent(owners([below, on_top], 200) == 0).tolist() == [30, 30, 70, 70]
    wide = Placed(1, Shape(np.ones((60, 30), np.float32), np.ones((60, 30), bool)), 50, 20)
    assert extent(owners([below, wide], 200) == 0).tolist() == [30, 30, 50, 70]


def test_boxes_lie_in_the_image_and_are_14_to_80_px_long() -> None:
    scenes = [draw_scene(11, "day", index) for index in range(60)]
    boxes = np.concatenate([scene.boxes for scene in scenes])
    assert boxes.dtype == np.float32
    assert boxes.min() >= 0 and boxes.max() <= 192
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longest.min() >= 14 and longest.max() <= 80


def test_every_class_appears_and_gears_are_rare() -> None:
    counts = np.zeros(len(CLASS_NAMES))
    for index in range(0, 6000, 15):
        session, rng = session_of(1, "day", index), np.random.default_rng([1, 0, index, 0])
        for part in piles.scatter(session, 384, rng):
            counts[part.class_id] += 1
    shares = counts / counts.sum()
    assert shares.min() == shares[CLASS_NAMES.index("gear")]
    assert 0.08 < shares.min() < 0.16


def test_some_scenes_are_background_only() -> None:
    empty = [len(draw_scene(2, "day", index).boxes) == 0 for index in range(80)]
    assert 1 <= sum(empty) <= 16


def test_night_is_darker_and_noisier_than_day_yet_not_black() -> None:
    day = [draw_scene(6, "day", index).image for index in range(0, 300, 15)]
    night = [draw_scene(6, "night", index).image for index in range(0, 300, 15)]
    assert np.mean(night) < 0.45 * np.mean(day)
    assert min(image.mean() for image in night) > 4
    grain = [np.mean([np.abs(cv2.Laplacian(i, cv2.CV_32F)).mean() / i.mean() for i in shift]) for shift in (day, night)]
    assert grain[1] > grain[0]


def test_a_session_is_10_to_20_consecutive_frames_of_one_camera() -> None:
    sessions = [session_of(9, "night", index) for index in range(600)]
    by_name: dict[str, list[int]] = {}
    for index, session in enumerate(sessions):
        assert session.frame == len(by_name.setdefault(session.name, []))
        by_name[session.name].append(index)
    for name, indices in by_name.items():
        assert 10 <= len(indices) <= 20
        assert indices == list(range(indices[0], indices[-1] + 1))
        assert len({sessions[index].camera.name for index in indices}) == 1, name
    assert len({session.camera.name for session in sessions[:200]}) == len(CAMERAS)


def test_sessions_of_two_shifts_and_two_seeds_never_share_a_name() -> None:
    names = [{session_of(seed, shift, i).name for i in range(300)} for seed in (1, 2) for shift in ("day", "night")]
    assert len(set.union(*names)) == sum(map(len, names))


def test_the_file_name_carries_the_facts_of_the_scene() -> None:
    scene = draw_scene(1, "night", 123)
    facts = re.match(FILE_NAME_PATTERN, scene.file_name)
    assert facts is not None
    assert facts.groupdict() == {"session": scene.session, "shift": "night", "camera": scene.camera}
    assert scene.file_name.endswith("_000123.jpg")
    assert datetime.fromisoformat(scene.captured_at).hour in {*range(22, 24), *range(0, 6)}


def test_a_nut_has_six_straight_edges() -> None:
    shape = carve(1, 160, 0.2, 1.0, np.random.default_rng(0))
    outline = max(cv2.findContours(shape.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    assert len(cv2.approxPolyDP(outline, 4, True)) == 6


def test_a_larger_scene_shows_the_same_parts_larger() -> None:
    small, large = draw_scene(1, "day", 8, 192), draw_scene(1, "day", 8, 384)
    assert large.image.shape == (384, 384, 3)
    assert small.class_ids.tolist() == large.class_ids.tolist()
    np.testing.assert_allclose(small.boxes * 2, large.boxes, atol=4)


def test_a_contact_sheet_tiles_scenes_and_fills_the_last_row() -> None:
    sheet = contact_sheet([draw_scene(1, "day", index) for index in range(3)], columns=2)
    assert sheet.shape == (384, 384, 3)
    assert sheet[192:, 192:].max() == 0 < sheet[192:, :192].max()
