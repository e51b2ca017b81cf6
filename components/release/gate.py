"""The gate, asked again when a reviewer decides: what the stored scores say under the policy of today."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.shared.errors import InvalidInput, Refused

COMPARED = "compared_champion"


def check_gate(
    bundle: Path,
    waived: Sequence[str],
    changes: Mapping[str, Any],
    champion: int,
    regate: Callable[[Path, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] | None,
) -> dict[str, Any]:
    """Check that every rule passes or was waived.

    Args:
        bundle: A verified bundle.
        waived: Rules that a reviewer waived.
        changes: Settings of the gate that the policy replaces.
        champion: The champion of today; a comparison with an earlier one counts as a rule that failed.
        regate: Judges the stored scores again; without it the night's own decision counts.

    Returns:
        verdict now, the rules that were waived, and whether the gate was asked again.

    Raises:
        Refused: a rule says no and was not waived.
    """
    night = _decision(bundle)
    now = regate(bundle / "scores", night, changes) if regate else night
    against = [rule for rule in now["rules"] if rule["verdict"] in ("fail", "undecided")]
    against += compared_with_champion(night, champion)
    standing = [rule for rule in against if rule["rule"] not in waived]
    if standing:
        told = " ".join(rule["sentence"] for rule in standing)
        names = ", ".join(rule["rule"] for rule in standing)
        raise Refused(f"the gate says no: {told} (`yanshan waive VERSION GATE` can waive: {names})")
    if now["verdict"] != "approved" and not against:
        raise Refused(f"the gate says {now['verdict']} and names no rule: nothing to waive")
    return {"verdict": now["verdict"], "waived": [rule["rule"] for rule in against], "asked_again": bool(regate)}


def compared_with_champion(decision: Mapping[str, Any], champion: int) -> list[dict[str, Any]]:
    """The rule `compared_champion`, failed, when the night was measured against another champion than today's."""
    compared = int(decision.get("champion_version") or 0)
    if compared == champion:
        return []
    sentence = f"Measured against champion {compared or 'none'}, but the champion is {champion or 'none'} now."
    return [{"rule": COMPARED, "verdict": "fail", "sentence": sentence}]


def _decision(bundle: Path) -> dict[str, Any]:
    try:
        decision: dict[str, Any] = json.loads((bundle / "decision" / "decision.json").read_text())
        return decision
    except (OSError, ValueError) as fault:
        raise InvalidInput(f"{bundle}/decision/decision.json: not a decision ({fault})") from fault
