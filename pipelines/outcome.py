"""How a local night ended, read from what lies on disk: the runner's own status also praises steps it skipped."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import YanshanError


@dataclass(frozen=True)
class Outcome:
    """How a night ended.

    Attributes:
        ended: released, refused, undecided or skipped.
        version: Registered version, 0 when there is none; that of an undecided night waits for a waiver.
        artifacts: Folder or file of every output, by name.
        seconds: Duration of every step that ran, by task name.
    """

    ended: str
    model_name: str
    version: int
    reasons: list[str]
    folder: str
    artifacts: dict[str, str]
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_outcome(folder: Path, model_name: str, seconds: dict[str, float]) -> Outcome:
    """Read the outcome of the run in `folder` from its steps' output files.

    Raises:
        YanshanError: the run left no answer: some step was skipped that should have run.
    """
    outputs = {
        file.parent.name: json.loads(file.read_text() or "{}")
        for file in folder.glob("nightly-retrain-*/*/executor_output.json")
    }
    artifacts = {
        name: item["artifacts"][0]["uri"]
        for output in outputs.values()
        for name, item in output.get("artifacts", {}).items()
    }

    def ended(how: str, version: int = 0, reasons: list[str] | None = None) -> Outcome:
        return Outcome(how, model_name, version, reasons or [], str(folder), artifacts, seconds)

    if _answer(outputs, "plan-night") == "skip":
        return ended("skipped")
    if "release-model" in outputs:
        record = json.loads((Path(artifacts["release_record"]) / "release.json").read_text())
        if record["verdict"] == "undecided":
            return ended("undecided", record["version"], _decision(artifacts)["reasons"])
        return ended("released", record["version"])
    if "decision" not in artifacts:
        raise YanshanError(f"{folder}: the run ended well but left no decision; see {folder / 'run.log'}")
    decision = _decision(artifacts)
    if decision["verdict"] != "refused":
        raise YanshanError(f"{folder}: {decision['verdict']}, but nothing was released; see {folder / 'run.log'}")
    return ended(decision["verdict"], reasons=decision["reasons"])


def _decision(artifacts: dict[str, str]) -> dict[str, Any]:
    return json.loads((Path(artifacts["decision"]) / "decision.json").read_text())


def _answer(outputs: dict[str, Any], task: str) -> str:
    values = outputs.get(task, {}).get("parameterValues", {})
    return str(next(iter(values.values()), ""))
