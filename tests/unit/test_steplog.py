"""The story of a night, told from the local runner's output."""

from pathlib import Path

import pytest

from components.shared.errors import InvalidInput, YanshanError
from pipelines.steplog import StepLog

NAMES = {"train-detector": "Multi-GPU training", "notify-people": "Notify"}
HAPPY = """\
07:02:45.1 - INFO - Executing task \x1b[96m'train-detector'\x1b[0m
07:02:45.2 - INFO - Streamed logs:
    07:02:46 INFO components.shared.step step=train settings={"epochs": 3}
    07:02:47 INFO components.train.fit epoch=1 map_50=0.25
07:02:50.1 - INFO - Task \x1b[96m'train-detector'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
"""
FAILED = """\
07:02:45.1 - INFO - Executing task \x1b[96m'train-detector'\x1b[0m
    Traceback (most recent call last):
    components.shared.errors.InvalidInput: class 'bolt': got 0 images, expected some
07:02:50.1 - ERROR - Task \x1b[96m'train-detector'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
07:02:51.1 - INFO - Executing task \x1b[96m'notify-people'\x1b[0m
07:02:52.1 - INFO - Task \x1b[96m'notify-people'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
"""


def told(tmp_path: Path, text: str, pieces: int = 7) -> StepLog:
    with StepLog(tmp_path / "run.log", NAMES, quiet=False) as log:
        for start in range(0, len(text), pieces):
            log.write(text[start : start + pieces])
    return log


def test_a_step_is_named_followed_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = told(tmp_path, HAPPY)
    story = capsys.readouterr().err
    assert "> Multi-GPU training (train-detector)" in story
    assert "epoch=1 map_50=0.25" in story
    assert "settings=" not in story
    assert not log.failed and "train-detector" in log.seconds


def test_everything_is_kept_in_the_file(tmp_path: Path) -> None:
    told(tmp_path, HAPPY)
    assert (tmp_path / "run.log").read_text() == HAPPY


def test_the_first_failed_step_gives_its_own_error(tmp_path: Path) -> None:
    error = told(tmp_path, FAILED).error()
    assert isinstance(error, InvalidInput)
    assert "train-detector" in str(error) and "got 0 images" in str(error)
    assert "run.log" in str(error) and "carry on" in str(error)


def test_an_error_of_another_kind_is_told_too(tmp_path: Path) -> None:
    error = told(tmp_path, FAILED.replace("components.shared.errors.InvalidInput", "ValueError")).error()
    assert type(error) is YanshanError and "ValueError" in str(error)
