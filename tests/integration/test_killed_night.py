"""A night that is killed in the middle of training carries on where it was."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.hand_export import write_export

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 10


def command(folder: Path) -> list[str]:
    arguments = [sys.executable, "-m", "pipelines", "run", "smoke", "--inbox", str(folder / "inbox")]
    arguments += ["--workspace", str(folder / "workspace"), "--set", f"train.epochs={EPOCHS}"]
    return [*arguments, "--set", 'build_engine.targets=["onnx"]', "--set", 'build_engine.required=["onnx"]']


def processes_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue  # it ended while we looked
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose night died by SIGKILL after the second of ten epochs."""
    folder = tmp_path_factory.mktemp("killed")
    write_export(folder / "inbox" / "batch", images=12)
    running = subprocess.Popen(command(folder), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert running.stderr
    for line in running.stderr:
        if f"epoch=2/{EPOCHS}" in line:
            os.kill(running.pid, signal.SIGKILL)
            break
    running.wait()
    deadline = time.monotonic() + 30
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    return folder


def test_no_step_outlives_a_killed_night(killed: Path) -> None:
    assert processes_in(killed) == []


def test_the_same_command_carries_on(killed: Path) -> None:
    [state] = killed.glob("workspace/store/runs/*/train/state.pt")
    kept = torch.load(state, weights_only=True)["epochs_done"]  # the log lags behind: it may be past epoch 2
    done = subprocess.run([*command(killed), "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    epochs = [int(number) for number in re.findall(rf"epoch=(\d+)/{EPOCHS} ", done.stderr)]
    assert kept >= 1 and epochs == list(range(kept + 1, EPOCHS + 1))
    assert "step=augment remembered" in done.stderr
    assert json.loads(done.stdout)["ended"] == "released"
