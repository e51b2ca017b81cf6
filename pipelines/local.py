"""Run the compiled DAG on this machine: `kfp.local`, one process a step, no server."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import InvalidInput
from pipelines.dag import compile_pipeline, display_names, read_ir
from pipelines.outcome import Outcome, read_outcome
from pipelines.recipes import Recipe
from pipelines.steplog import StepLog

MIN_FREE_GIB = 1.0


@dataclass(frozen=True)
class Workspace:
    """A folder that holds all a single person needs: store, registry, runs and reports."""

    root: Path

    @property
    def store_uri(self) -> str:
        return (self.root / "store").as_uri()

    @property
    def tracking_uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def runs(self) -> Path:
        return self.root / "runs"


def open_workspace(folder: Path) -> Workspace:
    """The workspace in `folder`, made if it is missing.

    Raises:
        InvalidInput: the folder cannot be made or written, or its disk is full.
    """
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as fault:
        raise InvalidInput(f"workspace {folder}: {fault.strerror}; expected a folder that can be written") from fault
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < MIN_FREE_GIB:
        raise InvalidInput(f"workspace {folder}: {free_gib:.2f} GiB free, expected at least {MIN_FREE_GIB:.0f} GiB")
    return Workspace(folder)


def run_night(
    recipe: Recipe, inbox_uri: str, workspace: Workspace, store_uri: str = "", reason: str = "", quiet: bool = False
) -> Outcome:
    """Run the DAG from its compiled file and say how the night ended.

    Args:
        recipe: Settings of the night.
        inbox_uri: Folder of labeling exports, as a URI.
        workspace: Where runs, logs and, by default, store and registry live.
        store_uri: Another store than the workspace's.
        reason: Why the night was started; recorded.
        quiet: No lines about the steps on standard error.

    Raises:
        YanshanError: the error that the failed step raised, with the step, its log and how to carry on.
    """
    with _only_run(workspace):
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = workspace.runs / f"{stamp}-{os.getpid()}"
        compile_pipeline(recipe, folder / "pipeline.yaml")
        names = display_names(read_ir(folder / "pipeline.yaml"))
        arguments = {
            "inbox_uri": inbox_uri,
            "store_uri": store_uri or workspace.store_uri,
            "reason": reason or "started by hand",
        }
        with StepLog(folder / "run.log", names, quiet) as log, _step_environment(workspace):
            _run_compiled(folder, arguments, log)
        if log.failed:
            raise log.error()
        return _with_pages(folder, read_outcome(folder, recipe.model_name, log.seconds))


def _with_pages(folder: Path, outcome: Outcome) -> Outcome:
    """Give every report a name that a browser opens: Kubeflow's own have no ending."""
    for name, place in outcome.artifacts.items():
        if name.endswith("_report"):
            shutil.copyfile(place, folder / f"{name}.html")
    return outcome


def _run_compiled(folder: Path, arguments: dict[str, Any], log: StepLog) -> None:
    os.environ.setdefault("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT", "true")
    from kfp import components, local

    with warnings.catch_warnings(), contextlib.redirect_stdout(log):
        warnings.simplefilter("ignore")
        # Not kfp's cache: its key does not see our code. The steps remember their own work in the store.
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(folder),
            raise_on_error=False,
            enable_caching=False,
        )
        components.load_component_from_file(str(folder / "pipeline.yaml"))(**arguments)


@contextlib.contextmanager
def _step_environment(workspace: Workspace) -> Iterator[None]:
    """What the step processes find in their environment; restored afterwards."""
    source = str(Path(__file__).resolve().parents[1])
    wanted = {
        "MLFLOW_TRACKING_URI": workspace.tracking_uri,
        "YANSHAN_RUN_PID": str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _only_run(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace: two nights at once would write over each other.

    Raises:
        InvalidInput: another run holds it.
    """
    with (workspace.root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise InvalidInput(f"workspace {workspace.root}: another run is under way there") from held
        yield


def note(text: str = "") -> None:
    """A line for the person who watches; results go to standard output instead."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    beside = path.with_name(f".writing-{path.name}")
    beside.write_text(json.dumps(value, indent=2) + "\n")
    beside.replace(path)
