"""The decision in Markdown, for the KFP UI and for the reviewer."""

from typing import Any

MARKS = {"pass": "pass", "fail": "**FAIL**", "undecided": "**undecided**", "noted": "noted"}
SAYS = {
    "approved": "Approved: may be offered for review.",
    "refused": "Refused: this model is not offered for review.",
    "undecided": "Undecided: the test set cannot tell; a reviewer may waive what is open, with a reason.",
}


def verdict_markdown(decision: dict[str, Any]) -> str:
    """Verdict, reasons, and every rule in a table."""
    lines = [f"# {SAYS[decision['verdict']]}", ""]
    lines += [f"- {reason}" for reason in decision["reasons"]]
    against = f"champion version {decision['champion_version']}" if decision["champion_version"] else "no champion yet"
    lines += ["", f"Model `{decision['model_name']}` against {against} on `{decision['test_set']}`.", ""]
    lines += ["| rule | verdict | finding |", "|---|---|---|"]
    lines += [
        f"| `{rule['rule'].replace('|', '/')}` | {MARKS[rule['verdict']]} | {rule['sentence'].replace('|', '/')} |"
        for rule in decision["rules"]
    ]
    return "\n".join(lines) + "\n"
