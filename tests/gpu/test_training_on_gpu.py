"""Training and export on a CUDA GPU; says why it was skipped where there is none."""

from pathlib import Path

import pytest
import torch

from components.shared.store import FolderStore
from components.train.fit import fit_detector
from components.train.settings import TrainSettings
from tests.training_sets import shape_rows, write_training_set

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU: torch.cuda.is_available() is False"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_detector_trains_on_the_gpu_in_every_precision(precision: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    training_set = write_training_set(tmp_path / "set", store, shape_rows(store, train=32, val=8, side_px=96))
    settings = TrainSettings(
        architecture="yolov8n", epochs=2, image_size_px=96, batch_size=8, device="cuda", precision=precision, workers=2
    )
    fit_detector(training_set, store, "shapes", settings, tmp_path / "checkpoint", tmp_path / "report.html")
    state = torch.load(tmp_path / "checkpoint" / "model.pt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(tensor.float()).all() for tensor in state.values())
