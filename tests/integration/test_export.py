"""ONNX export: same boxes, same bytes, honest metadata."""

import ast
import json
from pathlib import Path

import onnx
import pytest
import torch

from components.export.export import export_checkpoint
from components.export.settings import ExportSettings
from components.shared.detection import load_detector
from components.shared.errors import InvalidInput
from components.shared.store import FolderStore
from components.train.checkpoint import write_checkpoint
from components.train.network import build_network, read_architecture
from tests.training_sets import CLASS_NAMES, shape_rows, write_training_set


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def training_set(tmp_path: Path, store: FolderStore) -> Path:
    return write_training_set(tmp_path / "training_set", store, shape_rows(store, train=1, val=4, side_px=96))


def checkpoint_of(folder: Path, architecture: str) -> Path:
    """A checkpoint with random weights, its statistics settled, whose scores are high enough to give boxes."""
    torch.manual_seed(3)
    layers = read_architecture(architecture)
    network = build_network(layers, CLASS_NAMES)
    for name, parameter in network.named_parameters():
        if ".cv3." in name and name.endswith("2.bias"):
            torch.nn.init.constant_(parameter, -1.0)
        if ".cv3." in name and name.endswith("2.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(4, 3, 96, 96))
    facts = {"architecture": architecture, "layers": layers, "class_names": list(CLASS_NAMES)}
    write_checkpoint(folder, network.state_dict(), facts | {"image_size_px": 96, "stride": 32})
    return folder


@pytest.mark.parametrize("architecture", ["pico", pytest.param("yolov8n", marks=pytest.mark.slow), "yolo26n"])
def test_the_file_finds_the_boxes_that_the_checkpoint_finds(
    tmp_path: Path, store: FolderStore, training_set: Path, architecture: str
) -> None:
    checkpoint = checkpoint_of(tmp_path / "checkpoint", architecture)
    parity = export_checkpoint(checkpoint, training_set, store, ExportSettings(), tmp_path / "onnx")
    assert parity["images"] == 4
    assert parity["boxes"] > 20
    assert parity["largest_shift_px"] <= 0.5
    assert parity["largest_score_change"] <= 0.001
    assert json.loads((tmp_path / "onnx" / "parity.json").read_bytes()) == parity
    detector = load_detector(tmp_path / "onnx" / "model.onnx")
    assert (detector.class_names, detector.image_size_px, detector.batch_size) == (CLASS_NAMES, (96, 96), 1)


def test_one_checkpoint_gives_one_file_and_no_date_or_path_is_in_it(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    checkpoint = checkpoint_of(tmp_path / "checkpoint", "pico")
    first = export_checkpoint(checkpoint, training_set, store, ExportSettings(), tmp_path / "onnx")
    elsewhere = FolderStore(tmp_path / "other")
    again = write_training_set(tmp_path / "again", elsewhere, shape_rows(elsewhere, train=1, val=4, side_px=96))
    second = export_checkpoint(checkpoint, again, elsewhere, ExportSettings(), tmp_path / "onnx2")
    assert first["digest"] == second["digest"]
    model = onnx.load(tmp_path / "onnx" / "model.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert ast.literal_eval(told["names"]) == dict(enumerate(CLASS_NAMES))
    assert (told["imgsz"], told["stride"], told["task"], told["end2end"]) == ("[96, 96]", "32", "detect", "False")
    assert "date" not in told
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 19
    assert str(tmp_path).encode() not in (tmp_path / "onnx" / "model.onnx").read_bytes()


def test_a_file_for_any_number_of_images_takes_three(tmp_path: Path, store: FolderStore, training_set: Path) -> None:
    checkpoint = checkpoint_of(tmp_path / "checkpoint", "pico")
    export_checkpoint(checkpoint, training_set, store, ExportSettings(batch="any", simplify=True), tmp_path / "onnx")
    detector = load_detector(tmp_path / "onnx" / "model.onnx")
    assert detector.batch_size == 0
    assert detector.infer(torch.zeros(3, 3, 96, 96).numpy()).shape[:2] == (3, 4 + len(CLASS_NAMES))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, store: FolderStore, training_set: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "checkpoint").mkdir()
    torch.save({"state_dict": Trap()}, tmp_path / "checkpoint" / "model.pt")
    with pytest.raises(InvalidInput, match="plain weights"):
        export_checkpoint(tmp_path / "checkpoint", training_set, store, ExportSettings(), tmp_path / "onnx")
    assert not (tmp_path / "sprung").exists()
