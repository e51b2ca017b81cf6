"""Training on drawn shapes: checkpoint, resume, warm start, refusals."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from components.shared.errors import InvalidInput, ServiceFault
from components.shared.store import FolderStore
from components.train import loop, probe, tracking
from components.train.fit import fit_detector
from components.train.settings import TrainSettings
from tests.training_sets import manifest, shape_rows, write_training_set

SMALL = TrainSettings(
    architecture="pico",
    epochs=3,
    image_size_px=96,
    batch_size=8,
    effective_batch_size=8,
    optimizer="AdamW",
    learning_rate=0.002,
    warmup_epochs=0.5,
    mosaic_off_epochs=1,
    validate_every_epochs=0,
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def training_set(tmp_path: Path, store: FolderStore) -> Path:
    return write_training_set(tmp_path / "training_set", store, shape_rows(store, train=16, val=4, side_px=96))


def fit(training_set: Path, store: FolderStore, settings: TrainSettings, out: Path) -> dict:
    return fit_detector(training_set, store, "shapes", settings, out / "checkpoint", out / "report.html")


def state_names(store: FolderStore) -> list[str]:
    return [name for name in store.list("runs") if name.endswith("state.pt")]


def test_a_fit_leaves_a_safe_checkpoint_a_report_and_is_not_paid_for_twice(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    summary = fit(training_set, store, SMALL, tmp_path / "out")
    content = torch.load(tmp_path / "out" / "checkpoint" / "model.pt", weights_only=True)
    assert content["class_names"] == ["disc", "plate", "ring"]
    assert all(value.dtype != torch.float16 for value in content["state_dict"].values())
    history = json.loads((tmp_path / "out" / "checkpoint" / "model.json").read_bytes())["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert {"map_50", "box_loss"} <= history[-1].keys()
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert [store.get(name) for name in state_names(store)] == [b""]

    began = time.monotonic()
    again = fit(training_set, store, SMALL, tmp_path / "again")
    assert again == summary | {"remembered": True}
    assert time.monotonic() - began < 5


def test_a_fit_killed_with_kill_9_ends_bit_equal_to_the_undisturbed_one(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    whole = FolderStore(tmp_path / "whole")
    write_training_set(tmp_path / "training_set", whole, shape_rows(whole, train=16, val=4, side_px=96))
    undisturbed = fit(training_set, whole, SMALL, tmp_path / "undisturbed")

    program = (
        "import sys; from pathlib import Path; from tests.integration.test_train import *; "
        "fit(Path(sys.argv[1]), FolderStore(Path(sys.argv[2])), SMALL, Path(sys.argv[3]))"
    )
    arguments = [str(training_set), str(store.root), str(tmp_path / "killed")]
    victim = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=Path(__file__).parents[2])
    while not state_names(store):
        assert victim.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed" / "checkpoint" / "model.pt").exists()

    resumed = fit(training_set, store, SMALL, tmp_path / "resumed")
    facts = json.loads((tmp_path / "resumed" / "checkpoint" / "model.json").read_bytes())
    assert len(facts["history"]) == 3
    first, second = (
        torch.load(tmp_path / name / "checkpoint" / "model.pt", weights_only=True)["state_dict"]
        for name in ("undisturbed", "resumed")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed["digest"] == undisturbed["digest"]


@pytest.mark.slow
def test_a_fit_killed_five_times_ends_bit_equal_to_the_undisturbed_one(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    settings = SMALL.changed(epochs=12)
    whole = FolderStore(tmp_path / "whole")
    write_training_set(tmp_path / "training_set", whole, shape_rows(whole, train=16, val=4, side_px=96))
    undisturbed = fit(training_set, whole, settings, tmp_path / "undisturbed")

    program = (
        "import sys; from pathlib import Path; from tests.integration.test_train import *; "
        "fit(Path(sys.argv[1]), FolderStore(Path(sys.argv[2])), SMALL.changed(epochs=12), Path(sys.argv[3]))"
    )
    arguments = [str(training_set), str(store.root), str(tmp_path / "killed")]
    reached, chance = [], random.Random(0)
    for _ in range(5):
        victim = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=Path(__file__).parents[2])
        before = epochs_kept(store)
        while epochs_kept(store) == before:
            assert victim.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        time.sleep(chance.random() * 0.3)
        victim.kill()
        victim.wait()
        reached.append(epochs_kept(store))
    assert reached == sorted(set(reached)) and reached[-1] < 12
    resumed = fit(training_set, store, settings, tmp_path / "resumed")
    assert resumed["digest"] == undisturbed["digest"]


def epochs_kept(store: FolderStore) -> int:
    names = state_names(store)
    return torch.load(store.root / names[0], weights_only=True)["epochs_done"] if names else 0


def test_sigterm_ends_a_fit_with_the_retry_code_and_the_next_one_carries_on(
    store: FolderStore, training_set: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = loop.set_rates

    def told_in_the_second_epoch(optimizer, done: int, steps: int, *rest: object) -> float:
        if done == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(optimizer, done, steps, *rest)

    monkeypatch.setattr(loop, "set_rates", told_in_the_second_epoch)
    with pytest.raises(ServiceFault, match="after epoch 1; run again") as told:
        fit(training_set, store, SMALL, tmp_path / "out")
    assert told.value.exit_code == 4
    assert [len(store.get(name)) > 0 for name in state_names(store)] == [True]


def test_a_batch_that_does_not_fit_is_halved_and_recorded(
    store: FolderStore, training_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full(module: torch.nn.Module, inputs: tuple) -> None:
        if module.training and len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("out of memory: tried to hold more than four images")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: full(module, inputs) if isinstance(module, DetectionModel) else None
    )
    try:
        fit(training_set, store, SMALL.changed(epochs=1), tmp_path / "out")
    finally:
        hook.remove()
    assert json.loads((tmp_path / "out" / "checkpoint" / "model.json").read_bytes())["batch_size"] == 4
    assert "out_of_memory batch_size=8 halved_to=4" in caplog.text


def test_how_many_images_fit_is_tried_once_a_night(
    tmp_path: Path,
    store: FolderStore,
    training_set: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real, tried = probe.compute_loss, []

    def little_memory(fit, batch, *rest):
        tried.append(len(batch["img"]))
        if tried[-1] > 4:
            raise torch.OutOfMemoryError("out of memory: tried to hold more than four images")
        return real(fit, batch, *rest)

    monkeypatch.setattr(probe, "compute_loss", little_memory)
    caplog.set_level("INFO")
    settings = SMALL.changed(epochs=1, batch_size=0, effective_batch_size=16)
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(loop, "set_rates", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        fit(training_set, store, settings, tmp_path / "out")
    assert tried == [16, 8, 4] and "batch_size=4 found by trying" in caplog.text
    fit(training_set, store, settings, tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "checkpoint" / "model.json").read_bytes())
    assert facts["batch_size"] == 4
    assert tried == [16, 8, 4], "a night that carries on keeps what was found"


def test_a_class_without_an_image_is_said_and_one_class_alone_trains(
    tmp_path: Path, store: FolderStore, caplog: pytest.LogCaptureFixture
) -> None:
    rows = shape_rows(store, train=8, val=2, side_px=96).to_pylist()
    for row in rows:
        row["class_ids"] = [0] * len(row["boxes"])
    training_set = write_training_set(tmp_path / "set", store, manifest(rows), ("disc", "plate"))
    fit(training_set, store, SMALL.changed(epochs=1, key_classes=("disc",)), tmp_path / "two")
    assert "classes without a training box: plate" in caplog.text
    alone = write_training_set(tmp_path / "alone", store, manifest(rows), ("disc",))
    assert fit(alone, store, SMALL.changed(epochs=1), tmp_path / "one")["epochs"] == 1


def test_a_teacher_is_heard_beside_the_labels(tmp_path: Path, store: FolderStore, training_set: Path) -> None:
    fit(training_set, store, SMALL.changed(epochs=1), tmp_path / "teacher")
    taught = SMALL.changed(epochs=1, seed=1, teacher=str(tmp_path / "teacher" / "checkpoint" / "model.pt"))
    fit(training_set, store, taught, tmp_path / "student")
    history = json.loads((tmp_path / "student" / "checkpoint" / "model.json").read_bytes())["history"]
    assert history[0]["distill_loss"] > 0


def test_a_loss_that_becomes_nan_stops_and_names_the_batch(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    broken = SMALL.changed(learning_rate=1e30, precision="fp32")
    with pytest.raises(InvalidInput, match=r"loss became .* in epoch \d, step \d of 2"):
        fit(training_set, store, broken, tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoint" / "model.pt").exists()


def test_a_pickle_that_would_run_code_is_refused_as_weights(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    evil = tmp_path / "evil.pt"
    torch.save({"model": Trap()}, evil)
    with pytest.raises(InvalidInput, match="refused"):
        fit(training_set, store, SMALL.changed(weights=str(evil)), tmp_path / "out")
    assert not (tmp_path / "sprung").exists()
    evil.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InvalidInput, match="refused"):
        fit(training_set, store, SMALL.changed(weights=str(evil)), tmp_path / "out")
    assert not (tmp_path / "sprung").exists()


def test_a_corrupt_object_is_named(tmp_path: Path, store: FolderStore, training_set: Path) -> None:
    victim = next(name for name in store.list("objects"))
    (store.root / victim).write_bytes(b"not an image")
    with pytest.raises(InvalidInput, match=victim.split("/")[-1]):
        fit(training_set, store, SMALL, tmp_path / "out")


def test_training_without_a_labelled_image_is_refused(tmp_path: Path, store: FolderStore) -> None:
    rows = shape_rows(store, train=2, val=1, side_px=96)
    bare = pa.Table.from_pylist([row | {"boxes": [], "class_ids": []} for row in rows.to_pylist()], schema=rows.schema)
    with pytest.raises(InvalidInput, match="no box"):
        fit(write_training_set(tmp_path / "bare", store, bare), store, SMALL, tmp_path / "out")


def test_an_unknown_architecture_is_refused_before_anything_is_trained(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    with pytest.raises(InvalidInput, match="yolov99"):
        fit(training_set, store, SMALL.changed(architecture="yolov99n"), tmp_path / "out")
    assert not state_names(store)


@pytest.mark.slow
def test_the_run_that_the_orchestrator_opened_gets_the_curves(
    tmp_path: Path, store: FolderStore, training_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run = MlflowClient().create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    fit(training_set, store, SMALL, tmp_path / "out")
    seen = MlflowClient().get_metric_history(run.info.run_id, "train/box_loss")
    assert [metric.step for metric in seen] == [1, 2, 3]


def test_a_tracking_server_that_fails_does_not_end_a_night(
    tmp_path: Path,
    store: FolderStore,
    training_set: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setattr(tracking, "_broken", False)
    assert fit(training_set, store, SMALL.changed(epochs=2), tmp_path / "out")["epochs"] == 2
    assert caplog.text.count("live curves end here") == 1
