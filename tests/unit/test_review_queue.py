"""Labels that a real detector doubts come first, and what people send back replaces rows by digest."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.intake.findings import read_findings
from components.intake.history import find_version
from components.intake.intake import take_in
from components.intake.review_queue import write_queue
from components.intake.settings import IntakeSettings
from components.intake.suspects import doubts
from components.shared.dataset import DatasetVersion, read_rows, read_segments
from components.shared.detection import Detections
from components.shared.errors import InvalidInput
from components.shared.store import Store
from tests.disc_detector import CLASS_NAMES, RADIUS_PX, SIDE_PX, write_detector

CENTRES = ((36,), (68,))
"""Of discs in the middle of the detector's cells, whose boxes it so gets exactly."""
PLANTED = {3: "key class not labeled", 5: "other class", 8: "loose box", 11: "not seen"}


@pytest.fixture
def version(store: Store, tmp_path: Path) -> DatasetVersion:
    """Sixteen pictures of discs, four of them labeled wrongly, each in its own way."""
    folder = tmp_path / "inbox"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for seed in range(16):
        pixels, boxes, class_ids = draw(seed)
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), pixels)
        images.append({"id": seed, "file_name": f"{seed}.png", "width": pixels.shape[1], "height": pixels.shape[0]})
        labels = [[class_id, x0, y0, x1 - x0, y1 - y0]
                  for (x0, y0, x1, y1), class_id in zip(boxes, class_ids, strict=True)]  # fmt: skip
        spoil(PLANTED.get(seed, ""), labels)
        annotations += [{"id": 100 * seed + at, "image_id": seed, "category_id": one[0] + 1, "bbox": one[1:]}
                        for at, one in enumerate(labels)]  # fmt: skip
    categories = [{"id": at, "name": name} for at, name in enumerate(CLASS_NAMES, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(document))
    take_in(str(folder), store, IntakeSettings(), tmp_path / "dataset", tmp_path / "report.html")
    return find_version(store, "main", "newest")


def draw(seed: int) -> tuple[np.ndarray, list[list[float]], list[int]]:
    """A picture of two discs with their boxes and class ids."""
    random = np.random.default_rng(seed)
    image = random.normal(110, 6, (SIDE_PX, SIDE_PX, 3)).clip(0, 255).astype(np.uint8)
    boxes, class_ids = [], []
    for choice in CENTRES:
        x, y = (int(side) for side in random.choice(choice, 2))
        colour = int(random.integers(len(CLASS_NAMES)))
        paint = [40, 40, 40]
        paint[2 - colour] = 230
        cv2.circle(image, (x, y), RADIUS_PX, paint, -1)
        boxes.append([x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX, y + RADIUS_PX])
        class_ids.append(colour)
    return image, boxes, class_ids


def spoil(kind: str, labels: list[list[float]]) -> None:
    if kind == "key class not labeled":
        labels.pop(0)
    elif kind == "other class":
        labels[0][0] = (labels[0][0] + 1) % len(CLASS_NAMES)
    elif kind == "loose box":
        labels[0][3], labels[0][4] = labels[0][3] * 1.25, labels[0][4] * 1.25
    elif kind == "not seen":
        labels.append([0, 0, 0, 14, 14])


SEEN = Detections(
    np.array([[10, 10, 30, 30], [50, 50, 70, 70]], np.float32), np.array([0.9, 0.8], np.float32), np.array([0, 1])
)


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        ([(0, [10, 10, 30, 30]), (1, [50, 50, 70, 70])], []),
        ([(0, [10, 10, 30, 30])], ["key class not labeled"]),
        ([(1, [50, 50, 70, 70])], ["not labeled"]),
        ([(0, [10, 10, 30, 30]), (0, [50, 50, 70, 70])], ["other class"]),
        ([(0, [10, 10, 30, 36]), (1, [50, 50, 70, 70])], []),
        ([(0, [10, 10, 36, 32]), (1, [50, 50, 70, 70])], ["loose box"]),
        ([(0, [10, 10, 30, 30]), (1, [50, 50, 70, 70]), (1, [0, 60, 20, 80])], ["key class not seen"]),
        ([(0, [10, 10, 30, 30]), (1, [50, 50, 70, 70]), (0, [0, 60, 20, 80])], ["not seen"]),
        ([(0, [0, 60, 20, 80])], ["key class not labeled", "not labeled", "not seen"]),
        ([], ["key class not labeled", "not labeled"]),
    ],
)
def test_every_disagreement_has_its_name_and_weight(labels: list, kinds: list[str]) -> None:
    row = {"boxes": [box for _, box in labels], "class_ids": [class_id for class_id, _ in labels]}
    found = doubts(row, SEEN, ("part", "crack"), ["crack"])
    assert [doubt.kind for doubt in found] == kinds
    assert [doubt.weight for doubt in found] == sorted((doubt.weight for doubt in found), reverse=True)


def test_planted_label_errors_are_in_the_queue(version: DatasetVersion, store: Store, tmp_path: Path) -> None:
    model = write_detector(tmp_path / "champion.onnx")
    count = write_queue(store, version, model, CLASS_NAMES, 16, tmp_path / "queue")
    told = json.loads((tmp_path / "queue" / "reasons.json").read_text())["images"]
    assert len(told) == count
    assert [one["weight"] for one in told] == sorted((one["weight"] for one in told), reverse=True)
    source = {row["image_sha256"]: row["source"] for row in read_rows(store, version).to_pylist()}
    queued = {int(source[one["image"].split(".")[0]].split(".")[0]) for one in told}
    assert queued >= PLANTED.keys()
    tasks = json.loads((tmp_path / "queue" / "label_studio.json").read_text())
    assert [one["model_version"] for one in tasks[0]["predictions"]] == ["current labels", "champion"]
    assert {path.name for path in (tmp_path / "queue" / "images").iterdir()} == {one["image"] for one in told}


def test_what_comes_back_replaces_rows_and_keeps_the_history(
    version: DatasetVersion, store: Store, tmp_path: Path
) -> None:
    write_queue(store, version, write_detector(tmp_path / "champion.onnx"), CLASS_NAMES, 16, tmp_path / "queue")
    source = {row["image_sha256"]: row["source"] for row in read_rows(store, version).to_pylist()}
    tasks = json.loads((tmp_path / "queue" / "label_studio.json").read_text())
    for task in tasks:  # the reviewer draws what is there
        image = task["data"]["image"].rpartition("/")[2].partition(".")[0]
        _, boxes, class_ids = draw(int(source[image].partition(".")[0]))
        found = [_rectangle(box, CLASS_NAMES[class_id]) for box, class_id in zip(boxes, class_ids, strict=True)]
        task["annotations"] = [{"id": 1, "result": found}]
    (tmp_path / "queue" / "label_studio.json").write_text(json.dumps(tasks))
    for name in ("cvat.xml", "reasons.json"):
        (tmp_path / "queue" / name).unlink()
    taken = take_in(str(tmp_path / "queue"), store, IntakeSettings(), tmp_path / "dataset", tmp_path / "report.html")
    findings = read_findings((tmp_path / "dataset" / "findings.parquet").read_bytes())
    replaced = [finding for finding in findings if finding.code == "LBL_REPLACED"]
    assert len(replaced) == len(PLANTED) and taken["new_images"] == 0
    assert all(finding.code == "DUP_EXACT" for finding in findings if finding not in replaced)
    newer = find_version(store, "main", "newest")
    assert newer.parent == version.digest and newer.counts["images"] == 16
    assert newer.counts["boxes"] == 32
    assert read_segments(store, newer.segments).num_rows == 16 + len(PLANTED)
    before, after = (dict(zip(*table.select(["image_sha256", "split"]).to_pydict().values(), strict=True))
                     for table in (read_rows(store, version), read_rows(store, newer)))  # fmt: skip
    assert before == after


def _rectangle(box: list[float], class_name: str) -> dict:
    x0, y0, x1, y1 = (100 * side / SIDE_PX for side in box)
    value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0, "rectanglelabels": [class_name]}
    return {"id": f"{box}", "type": "rectanglelabels", "value": value}


def test_the_cvat_half_of_the_queue_is_an_export_of_the_current_labels(
    version: DatasetVersion, store: Store, tmp_path: Path
) -> None:
    write_queue(store, version, write_detector(tmp_path / "m.onnx"), (), 4, tmp_path / "queue")
    for name in ("label_studio.json", "reasons.json"):
        (tmp_path / "queue" / name).unlink()
    taken = take_in(str(tmp_path / "queue"), store, IntakeSettings(), tmp_path / "dataset", tmp_path / "report.html")
    assert (taken["digest"], taken["repaired"], taken["quarantined"]) == (version.digest, 0, 0)


def test_a_model_of_other_classes_is_refused(store: Store, tmp_path: Path, version: DatasetVersion) -> None:
    model = write_detector(tmp_path / "m.onnx")
    other = DatasetVersion(**{**vars(version), "class_names": ("a", "b", "c")})
    with pytest.raises(InvalidInput, match="expected those of the data set"):
        write_queue(store, other, model, (), 4, tmp_path / "queue")
    assert not (tmp_path / "queue").exists()
