"""What evaluate handed over: scores.json and the resamples behind it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.judge.settings import JudgeSettings
from components.shared.errors import InvalidInput


@dataclass(frozen=True)
class Evidence:
    """Scores, resamples, and the artifact that is judged."""

    scores: dict[str, Any]
    resamples: dict[str, np.ndarray]
    judged: str
    key_classes: tuple[str, ...]

    @property
    def challenger(self) -> dict[str, Any]:
        """The judged artifact's entry of scores.json."""
        return self.scores["challenger"][self.judged]

    @property
    def champion(self) -> dict[str, Any]:
        return self.scores["champion"][self.judged]

    @property
    def first_version(self) -> bool:
        return bool(self.scores["first_version"])

    def resampled(self, model: str, number: str, class_name: str = "") -> np.ndarray:
        """(B,) of one model's number, such as ("champion.int8", "recall", "bolt")."""
        values = self.resamples[f"{model}.{number}"]
        return values[:, self.scores["class_names"].index(class_name)] if class_name else values

    def gain(self, number: str, class_name: str = "") -> np.ndarray:
        """(B,) challenger minus champion, redraw by redraw."""
        left, right = (f"{role}.{self.judged}" for role in ("challenger", "champion"))
        return self.resampled(left, number, class_name) - self.resampled(right, number, class_name)


def read_evidence(scores_folder: Path, settings: JudgeSettings) -> Evidence:
    """The evidence in `scores_folder`.

    Raises:
        InvalidInput: no scores there, a key class that nobody knows, or one without a labelled box.
    """
    file = scores_folder / "scores.json" if scores_folder.is_dir() else scores_folder
    try:
        scores = json.loads(file.read_bytes())
        with np.load(file.with_name("resamples.npz")) as arrays:
            resamples = {name: arrays[name] for name in arrays.files}
        challenger = scores["challenger"][settings.judged]
    except (OSError, ValueError, KeyError) as fault:
        raise InvalidInput(f"{file}: no scores written by evaluate ({type(fault).__name__}: {fault})") from fault
    return Evidence(scores, resamples, settings.judged, _key_classes(challenger, settings, file))


def _key_classes(challenger: dict[str, Any], settings: JudgeSettings, file: Path) -> tuple[str, ...]:
    boxes = {name: entry["boxes"] for name, entry in challenger["per_class"].items()}
    if unknown := [name for name in settings.key_classes if name not in boxes]:
        raise InvalidInput(f"judge.key_classes: {unknown} are not among the measured classes {list(boxes)}")
    if empty := [name for name in settings.key_classes if not boxes[name]]:
        raise InvalidInput(
            f"{file}: the test set has no box of key class {empty[0]!r}: label some in a group of the test "
            "set and start a new test set version, or take the class out of judge.key_classes"
        )
    return settings.key_classes or tuple(name for name, number in boxes.items() if number)
