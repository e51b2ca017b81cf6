"""Five labeling formats of one shift say the same; each is read back here as its own documentation has it."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest

from pipelines.sample.exports import FORMATS
from pipelines.sample.factory import draw_scene, write_shift
from pipelines.sample.parts import CLASS_NAMES

IMAGES = 14
SIZE_PX = 192
Labels = dict[str, list[tuple[str, list[float]]]]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exports")
    return {format: write_shift(root / format, "day", IMAGES, seed=12, format=format) for format in FORMATS}


def read_coco(folder: Path) -> Labels:
    document = json.loads((folder / "annotations" / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    files = {image["id"]: image["file_name"] for image in document["images"]}
    labels: Labels = {name: [] for name in files.values()}
    for row in document["annotations"]:
        x, y, w, h = row["bbox"]
        labels[files[row["image_id"]]].append((names[row["category_id"]], [x, y, x + w, y + h]))
    return labels


def read_yolo(folder: Path) -> Labels:
    names = dict(re.findall(r"^  (\d+): (\w+)$", (folder / "data.yaml").read_text(), re.M))
    labels: Labels = {}
    for path in (folder / "labels").iterdir():
        rows = [line.split() for line in path.read_text().splitlines()]
        labels[path.stem + ".jpg"] = [(names[key], centred(*map(float, numbers))) for key, *numbers in rows]
    return labels


def centred(x: float, y: float, w: float, h: float) -> list[float]:
    return [SIZE_PX * side for side in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]


def read_voc(folder: Path) -> Labels:
    labels: Labels = {}
    for path in (folder / "Annotations").iterdir():
        root = xml.parse(path).getroot()
        labels[root.findtext("filename", "")] = [
            (
                part.findtext("name", ""),
                [
                    float(part.findtext(f"bndbox/{side}", "")) - (side[1:] == "min")
                    for side in ("xmin", "ymin", "xmax", "ymax")
                ],
            )
            for part in root.iter("object")
        ]
    return labels


def read_cvat(folder: Path) -> Labels:
    return {
        image.attrib["name"]: [
            (box.attrib["label"], [float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr")])
            for box in image.iter("box")
        ]
        for image in xml.parse(folder / "annotations.xml").getroot().iter("image")
    }


def read_labelstudio(folder: Path) -> Labels:
    labels: Labels = {}
    for task in json.loads((folder / "export.json").read_text()):
        found = [result["value"] for result in task["annotations"][0]["result"]]
        labels[Path(task["data"]["image"]).name] = [
            (
                value["rectanglelabels"][0],
                [
                    SIZE_PX / 100 * side
                    for side in (value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"])
                ],
            )
            for value in found
        ]
    return labels


READERS = {"coco": read_coco, "yolo": read_yolo, "voc": read_voc, "cvat": read_cvat, "labelstudio": read_labelstudio}


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_reads_back_to_the_scenes_within_half_a_pixel(exports: dict[str, Path], format: str) -> None:
    labels = READERS[format](exports[format])
    scenes = [draw_scene(12, "day", index) for index in range(IMAGES)]
    assert set(labels) == {scene.file_name for scene in scenes}
    assert sum(map(len, labels.values())) > IMAGES
    for scene in scenes:
        names, boxes = [name for name, _ in labels[scene.file_name]], [box for _, box in labels[scene.file_name]]
        assert names == [CLASS_NAMES[class_id] for class_id in scene.class_ids]
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), scene.boxes, atol=0.5001)


def test_all_formats_hold_the_same_pictures(exports: dict[str, Path]) -> None:
    pictures = [{path.name: path.read_bytes() for path in folder.rglob("*.jpg")} for folder in exports.values()]
    assert all(held == pictures[0] for held in pictures)
    assert len(pictures[0]) == IMAGES


def test_coco_categories_have_a_gap_and_images_carry_their_facts(exports: dict[str, Path]) -> None:
    document = json.loads((exports["coco"] / "annotations" / "instances.json").read_text())
    assert [category["id"] for category in document["categories"]] == [1, 2, 3, 7]
    for image in document["images"]:
        assert image.keys() >= {"camera", "session", "shift", "captured_at", "site"}
        assert image["file_name"].startswith(image["session"] + "_")
        assert image["shift"] == "day"


def test_voc_boxes_are_whole_pixels_counted_from_one(exports: dict[str, Path]) -> None:
    corners = [
        int(side.text or "")
        for path in (exports["voc"] / "Annotations").iterdir()
        for box in xml.parse(path).getroot().iter("bndbox")
        for side in box
    ]
    assert min(corners) >= 1 and max(corners) <= SIZE_PX


def test_an_empty_shift_is_a_valid_export_in_every_format(tmp_path: Path) -> None:
    for format in FORMATS:
        assert READERS[format](write_shift(tmp_path / format, "night", 0, seed=1, format=format)) == {}
