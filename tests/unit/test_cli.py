"""The command line as a stranger meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.__main__ import COMMANDS, SUMMARIES

ROOT = Path(__file__).resolve().parents[2]


def yanshan(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


def test_help_lists_every_command() -> None:
    done = yanshan("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert set(COMMANDS) == set(SUMMARIES)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = yanshan(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: yanshan " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "smoke", "--inbox", "nowhere"], ["--inbox nowhere", "no such folder"]),
        (["run", "smok", "--inbox", "."], ["'smok'", "production, demo, smoke"]),
        (["run", "smoke", "--inbox", ".", "--set", "train.epochs"], ["STEP.FIELD=VALUE"]),
        (["run", "smoke", "--inbox", ".", "--set", "train.epochs=lots"], ["train.epochs", "'lots'"]),
        (["run", "smoke", "--inbox", ".", "--set", "train.epohcs=3"], ["train.epohcs"]),
        (["run", "smoke", "--inbox", ".", "--workspace", "/proc/nowhere"], ["/proc/nowhere"]),
        (["run", "smoke"], ["--inbox"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_bad_input_ends_with_code_2_and_names_it(arguments: list[str], words: list[str]) -> None:
    done = yanshan(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words)


def test_an_error_is_json_where_json_was_asked_for() -> None:
    done = yanshan("run", "smoke", "--inbox", "nowhere", "--json")
    assert json.loads(done.stdout)["exit_code"] == 2


def test_compile_writes_the_file_it_names(tmp_path: Path) -> None:
    done = yanshan("compile", "production", "-o", str(tmp_path / "deep" / "p.yaml"), cwd=tmp_path)
    assert done.returncode == 0
    assert Path(done.stdout.strip()).stat().st_size > 10_000


def test_show_prints_settings_that_set_understands() -> None:
    done = yanshan("show", "demo", "--settings")
    assert json.loads(done.stdout)["model_name"]
