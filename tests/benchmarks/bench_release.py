"""A release of a 50 MB bundle against a bare MLflow log and register of the same files; `history` of 10,000 records.

Run: python -m tests.benchmarks.bench_release
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from components.release.bundle import lay_out
from components.release.registry import open_registry
from components.release.release import release_night
from components.release.settings import ReleaseSettings
from components.shared.ledger import append_record
from components.shared.signatures import new_key_file, sign
from components.shared.store import open_store
from tests.sample_night import write_night

ROUNDS = 5
WEIGHTS = {"checkpoint/model.pt": 25_000_000, "engines/openvino-int8/model.bin": 12_000_000}
MODELS = {"onnx_model/model.onnx": 10_000_000, "int8_model/model.int8.qdq.onnx": 3_000_000}
RECORDS = 10_000


def main() -> None:
    """Print times and ratios; both sides take turns, on one database each."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        say(f"release of a {sum((WEIGHTS | MODELS).values()) / 1e6:.0f} MB bundle, median of {ROUNDS}")
        compare("as a step, a process each", root / "apart", lambda work, *given: apart(work.__name__, *given))
        compare("inside a warm process", root / "warm", lambda work, *given: work(*given))
        write_ledger(root / "workspace")
        seconds = timed(lambda: history(root / "workspace"))
        say(f"history of {RECORDS} signed records: {seconds:.2f} s (aim: under 2)")


def compare(label: str, root: Path, run: Callable[..., None]) -> None:
    """Both ways in turn; the first round makes the databases and does not count."""
    ours, bare = [], []
    for number in range(ROUNDS + 1):
        night = root / f"night-{number}"
        heavy_night(night, number)
        ours.append(timed(lambda night=night, number=number: run(released, root / "ours", night, number)))
        bare.append(timed(lambda night=night, number=number: run(logged, root / "bare", night, number)))
    mine, theirs = statistics.median(ours[1:]), statistics.median(bare[1:])
    ratio = f"ratio {mine / theirs:.2f} (aim: at most 1.5)"
    say(f"  {label}: yanshan {mine:.3f} s   bare mlflow {theirs:.3f} s   {ratio}")


def apart(name: str, workspace: Path, night: Path, number: int) -> None:
    """`released` or `logged` in a process of its own."""
    program = f"from tests.benchmarks import bench_release as b; from pathlib import Path; b.{name}"
    program += f"(Path({str(workspace)!r}), Path({str(night)!r}), {number})"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def heavy_night(folder: Path, number: int) -> None:
    """A night's artifacts with weights of a real size; bytes that do not compress."""
    paths = write_night(folder, run_key=f"{number}" * 64)
    for name, size in {**WEIGHTS, **MODELS}.items():
        (folder / name).write_bytes(os.urandom(size))
    listed = {name: path.relative_to(folder).as_posix() for name, path in paths.items()}
    (folder / "paths.json").write_text(json.dumps(listed))


def paths_of(folder: Path) -> dict[str, Path]:
    return {name: folder / path for name, path in json.loads((folder / "paths.json").read_text()).items()}


def released(workspace: Path, night: Path, number: int) -> None:
    workspace.mkdir(parents=True, exist_ok=True)
    store = open_store((workspace / "store").as_uri())
    release_night(paths_of(night), store, "parts", ReleaseSettings(author="nightly"), workspace / "record")


def logged(workspace: Path, night: Path, number: int) -> None:
    """What a script without us does: a run, the files as a LoggedModel, a registered version, an alias."""
    workspace.mkdir(parents=True, exist_ok=True)
    bundle = workspace / f"bundle-{number}"
    lay_out(paths_of(night), bundle)
    with open_registry(f"sqlite:///{workspace / 'mlflow.db'}") as client:
        known = client.get_experiment_by_name("parts")
        place = (workspace / "artifacts").as_uri()
        experiment = known.experiment_id if known else client.create_experiment("parts", artifact_location=place)
        run = client.create_run(experiment).info.run_id
        model = client.create_logged_model(experiment, "detector", run)
        client.log_model_artifacts(model.model_id, str(bundle))
        client.finalize_logged_model(model.model_id, "READY")
        if not number:
            client.create_registered_model("parts")
        made = client.create_model_version("parts", f"models:/{model.model_id}", run, model_id=model.model_id)
        client.set_registered_model_alias("parts", "challenger", made.version)
        client.set_terminated(run)


def write_ledger(workspace: Path) -> None:
    """A ledger of signed promotions, back and forth."""
    store = open_store((workspace / "store").as_uri())
    key, seen = new_key_file(workspace / "keys/anna.pem"), None
    for number in range(RECORDS):
        version = number % 2 + 1
        entry = {"kind": "promote", "version": version, "champion": version, "actor": "anna", "reason": "better"}
        seen = append_record(store, "parts", entry, seen, lambda payload: [sign(key, "anna", payload)])


def history(workspace: Path) -> None:
    """The command as a person runs it, its start included."""
    command = [sys.executable, "-m", "pipelines", "history", "--workspace", str(workspace), "--model", "parts"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == RECORDS


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
