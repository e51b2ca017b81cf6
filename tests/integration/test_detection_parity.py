"""The detection path against Ultralytics' own predict and validator, on the files that Ultralytics exports."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.shared.detection import Detections, load_detector

os.environ.setdefault("YOLO_OFFLINE", "true")
SIZE_PX = 128
SHAPES = [(128, 128), (100, 333), (480, 640), (77, 50), (161, 159), (1, 300)]
FAMILIES = {"yolov8n": {}, "yolo11n": {}, "yolo26n": {}, "yolo26n, no suppression needed": {"nms": False}}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    pictures = []
    for height, width in SHAPES:
        picture = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(5):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
            cv2.circle(picture, (x, y), int(rng.integers(5, 40)), rng.integers(0, 255, 3).tolist(), -1)
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pictures) -> Path:
    """A network that never learned, but whose layers are scaled so that it sees many and different things.

    Saturated, tied and turned-around boxes included: the parity is exact, so nothing may be left to luck.
    """
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    name = request.param.split(",")[0]
    model = YOLO(f"{name}.yaml")
    network = model.model
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    pixels = np.stack([cv2.resize(picture, (SIZE_PX, SIZE_PX)) for picture in pictures])
    with torch.no_grad():
        network.train()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    network.eval()
    head = network.model[-1]
    for branch in [head.cv3, getattr(head, "one2one_cv3", [])]:
        for layers in branch or []:
            layers[-1].weight.data.mul_(6)
            layers[-1].bias.data.fill_(-4)
    folder = tmp_path_factory.mktemp(name)
    path = folder / f"{name}.pt"
    model.save(path)
    return Path(YOLO(path).export(format="onnx", imgsz=SIZE_PX, verbose=False, **FAMILIES[request.param]))


def boxes_of(result) -> Detections:
    boxes = result.boxes
    return Detections(boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(np.int64))


def assert_same(ours: Detections, theirs: Detections) -> None:
    assert len(ours.scores) == len(theirs.scores)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
    np.testing.assert_allclose(ours.xyxy_px, theirs.xyxy_px, atol=0.5)
    np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)


def test_boxes_are_those_of_ultralytics_predict(exported: Path, pictures: list[np.ndarray]) -> None:
    from ultralytics import YOLO

    detector, peer = load_detector(exported), YOLO(exported, task="detect")
    assert len(detector.class_names) == 80 and detector.image_size_px == (SIZE_PX, SIZE_PX)
    total = 0
    for min_score in (0.02, 0.25):
        ours = detector.detect(pictures, min_score, every_class=False)
        for picture, mine in zip(pictures, ours, strict=True):
            (result,) = peer.predict(picture, conf=min_score, iou=0.7, max_det=300, imgsz=SIZE_PX, verbose=False)
            assert_same(mine, boxes_of(result))
            total += len(mine.scores)
    assert total > 300, "a comparison of nothing"


def test_boxes_for_map_are_those_of_ultralytics_validator(exported: Path, pictures: list[np.ndarray]) -> None:
    import torch
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    detector = load_detector(exported)
    raw = np.concatenate([detector._raw([picture]) for picture in pictures])
    theirs = non_max_suppression(torch.from_numpy(raw), 0.05, 0.7, multi_label=True, max_det=300)
    for picture, mine, rows in zip(pictures, detector.detect(pictures, 0.05), theirs, strict=True):
        boxes = scale_boxes((SIZE_PX, SIZE_PX), rows[:, :4].clone(), picture.shape)
        assert_same(mine, Detections(boxes.numpy(), rows[:, 4].numpy(), rows[:, 5].numpy().astype(np.int64)))


def test_openvino_sees_what_onnx_runtime_sees(exported: Path, pictures: list[np.ndarray], tmp_path: Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(exported), tmp_path / "model.xml", compress_to_fp16=False)
    reference, engine = load_detector(exported), load_detector(tmp_path / "model.xml")
    assert engine.class_names == reference.class_names and engine.image_size_px == reference.image_size_px
    for ours, theirs in zip(engine.detect(pictures, 0.3), reference.detect(pictures, 0.3), strict=True):
        assert abs(len(ours.scores) - len(theirs.scores)) <= 3
        np.testing.assert_allclose(ours.scores[:5], theirs.scores[:5], atol=0.01)
