"""The gate asked again for a reviewer: the judge's own rules on the scores that lie in the bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def ask_gate_again(scores: Path, decision: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The decision that the stored scores lead to today.

    Args:
        scores: The bundle's scores folder.
        decision: The night's decision; its settings hold where the policy changes nothing.
        changes: Settings of the gate that the policy replaces.

    Raises:
        InvalidInput: the settings or the scores do not fit the judge.
    """
    from components.judge.evidence import read_evidence
    from components.judge.judge import decide
    from components.judge.settings import JudgeSettings
    from components.shared.settings import read_settings

    settings = read_settings(JudgeSettings, {**decision.get("settings", {}), **changes})
    return decide(read_evidence(scores, settings), settings, max(1, int(decision.get("comparison", 1))))
