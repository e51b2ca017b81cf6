"""Several ranks: they learn what one process learns, and they fail as one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault
from components.shared.store import FolderStore
from components.train.machine import Machine
from components.train.network import build_network, read_architecture
from components.train.pictures import batches
from components.train.ranks import count_ranks, halved
from components.train.settings import TrainSettings
from components.train.step import Fit, add_gradients, compute_loss, set_rates, start_fit, update
from tests.integration.rank_program import PLAN, SETTINGS, STEPS, prepare, weights
from tests.integration.test_train import SMALL, fit, state_names
from tests.training_sets import shape_rows, write_training_set

ROOT = Path(__file__).parents[2]
ALONE = Machine(torch.device("cpu"), torch.float32, 0)


def in_turn(fit: Fit, halves: list[dict]) -> None:
    """One step of one process: both halves see the same running statistics, and the first half's are kept."""
    before = {name: value.clone() for name, value in fit.network.named_buffers()}
    for half in reversed(halves):
        for name, value in fit.network.named_buffers():
            value.copy_(before[name])
        add_gradients(fit, compute_loss(fit, half, SETTINGS, ALONE)[0] * 2, ALONE)
    for parameter in fit.network.parameters():
        if parameter.grad is not None:
            parameter.grad /= 2
    update(fit, ALONE)


def test_two_ranks_end_every_step_with_the_weights_of_one_process(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = str(ROOT / "tests/integration/rank_program.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, program, str(tmp_path)], check=True, env=environment, timeout=300)
    together = torch.load(tmp_path / "ranks.pt", weights_only=True)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each rank has: how a sum is split over threads changes its last digits
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    fit, epoch = prepare(tmp_path, ALONE)
    begun = weights(fit)
    shares = [list(batches(epoch, 4, 0, rank, 2)) for rank in range(2)]
    for step in range(STEPS):
        set_rates(fit.optimizer, step, STEPS, PLAN, SETTINGS)
        in_turn(fit, [share[step] for share in shares])
        moved = (weights(fit) - begun).abs().max()
        apart = (together[step] - weights(fit)).abs().max()
        assert apart < 1e-5 < moved, f"step {step}: {apart:.2e} apart after moving {moved:.2e}"


@pytest.mark.slow
def test_a_fit_on_two_ranks_leaves_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    store = FolderStore(tmp_path / "store")
    training_set = write_training_set(tmp_path / "set", store, shape_rows(store, train=16, val=4, side_px=96))
    summary = fit(training_set, store, SMALL.changed(epochs=1, ranks=2, device="cpu"), tmp_path / "out")
    assert summary["epochs"] == 1
    assert torch.load(tmp_path / "out" / "checkpoint" / "model.pt", weights_only=True)["ranks"] == 2


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_with_the_retry_code_and_it_carries_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    store = FolderStore(tmp_path / "store")
    training_set = write_training_set(tmp_path / "set", store, shape_rows(store, train=16, val=4, side_px=96))
    settings = SMALL.changed(epochs=30, ranks=2, device="cpu")
    watcher = threading.Thread(target=kill_a_rank_after_the_first_epoch, args=(store,))
    watcher.start()
    began = time.monotonic()
    with pytest.raises(ServiceFault, match="run it again") as told:
        fit(training_set, store, settings, tmp_path / "out")
    watcher.join()
    assert told.value.exit_code == 4
    assert time.monotonic() - began < 120
    state = torch.load(store.root / state_names(store)[0], weights_only=True)
    assert 1 <= state["epochs_done"] < 30


LITTLE_MEMORY = """
import torch
stack = torch.stack
def few(tensors, *more, **named):
    if len(tensors) > 4 and tensors[0].shape[-2:] == (96, 96):
        raise torch.OutOfMemoryError("out of memory: tried to hold more than four images")
    return stack(tensors, *more, **named)
torch.stack = few
"""
"""For `sitecustomize`: a rank that cannot hold a batch of more than four images."""


@pytest.mark.slow
def test_ranks_halve_together_a_batch_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LITTLE_MEMORY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    store = FolderStore(tmp_path / "store")
    training_set = write_training_set(tmp_path / "set", store, shape_rows(store, train=16, val=4, side_px=96))
    settings = SMALL.changed(epochs=1, ranks=2, batch_size=16, device="cpu")
    fit(training_set, store, settings, tmp_path / "out")
    assert "out_of_memory batch_size=16 halved_to=8" in caplog.text
    facts = json.loads((tmp_path / "out" / "checkpoint" / "model.json").read_bytes())
    assert (facts["batch_size"], facts["ranks"], facts["settings"]["batch_size"]) == (8, 2, 16)


def test_a_batch_is_halved_as_long_as_every_rank_keeps_an_image() -> None:
    assert [halved(size, 2) for size in (16, 10, 6, 4)] == [8, 4, 2, 2]
    with pytest.raises(MissingCapability, match="not even one image a rank"):
        halved(2, 2)


def test_batch_norm_over_ranks_needs_gpus(tmp_path: Path) -> None:
    settings = SMALL.changed(sync_batch_norm=True)
    network = build_network(read_architecture("pico"), ["a"])
    with pytest.raises(MissingCapability, match="expected GPUs"):
        start_fit(network, PLAN, 4, settings, Machine(torch.device("cpu"), torch.float32, 0, 0, 2))


def kill_a_rank_after_the_first_epoch(store: FolderStore) -> None:
    while not state_names(store):
        time.sleep(0.05)
    children = psutil.Process().children(recursive=True)
    ranks = [child for child in children if "components.train.ranks" in child.cmdline() and child.children() == []]
    os.kill(ranks[-1].pid, signal.SIGKILL)


def test_ranks_must_cut_a_batch_evenly_and_find_a_gpu_each() -> None:
    with pytest.raises(InvalidInput, match="multiple of 3 ranks"):
        count_ranks(TrainSettings(ranks=3, batch_size=16, device="cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(MissingCapability, match="with 0 GPUs"):
            count_ranks(TrainSettings(ranks=2, device="cuda"))
