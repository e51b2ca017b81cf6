"""The gate's answer in one word."""

import json
from pathlib import Path

from components.shared.errors import InvalidInput

VERDICTS = ("approved", "refused", "undecided")


def answer(decision_folder: Path) -> str:
    """Say "yes" when a reviewer shall see the version: approved, or undecided and so for a reviewer to waive or not.

    Raises:
        InvalidInput: there is no decision, or none of the three verdicts.
    """
    path = decision_folder / "decision.json"
    try:
        verdict = json.loads(path.read_bytes())["verdict"]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InvalidInput(f"{path}: no decision in it ({type(fault).__name__}), expected what judge wrote") from fault
    if verdict not in VERDICTS:
        raise InvalidInput(f"{path}: got verdict {verdict!r}, expected one of {', '.join(VERDICTS)}")
    return "no" if verdict == "refused" else "yes"
