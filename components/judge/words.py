"""The decision in Markdown for the KFP UI, and on top of the evaluation report for the reviewer."""

import html
from typing import Any

from components.shared.report import page

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


TONES = {"approved": "good", "refused": "bad", "undecided": "warn"}
RULE_TONES = {"pass": "good", "fail": "bad", "undecided": "warn", "noted": "soft"}
MARKER = "<!-- verdict -->"


def verdict_page(decision: dict[str, Any], evaluation_html: str) -> str:
    """The evaluation report with the verdict in place of its marker; a page of its own where there is no report."""
    section = verdict_section(decision)
    if MARKER in evaluation_html:
        return evaluation_html.replace(MARKER, section, 1)
    return page("Release gate", f"<h1>Release gate</h1>{section}")


def verdict_section(decision: dict[str, Any]) -> str:
    """Verdict in a sentence, why, how the gate decided, and every rule with its interval drawn, failed ones first."""
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in decision["reasons"])
    order = ("fail", "undecided", "pass", "noted")
    rows = "".join(_row(rule) for verdict in order for rule in decision["rules"] if rule["verdict"] == verdict)
    return (
        f"<div class='verdict {TONES[decision['verdict']]}'><b>{SAYS[decision['verdict']]}</b><ul>{reasons}</ul></div>"
        f"<p>{html.escape(how_decided(decision))}</p>"
        f"<details><summary><b>Every rule</b></summary><div class='scroll'><table>{rows}</table></div>"
        "<p class='soft'>Line: interval; dot: what was measured; tick: the limit.</p></details>"
    )


def how_decided(decision: dict[str, Any]) -> str:
    """One paragraph on the logic of the verdict."""
    counted = {verdict: sum(rule["verdict"] == verdict for rule in decision["rules"]) for verdict in RULE_TONES}
    said = f"{len(decision['rules'])} rules: {counted['pass']} hold, {counted['fail']} failed, "
    said += f"{counted['undecided']} cannot tell, {counted['noted']} are told only. "
    if decision["first_version"]:
        return said + "There is no champion yet, so only floors, budgets and the quantization were judged."
    alpha = decision["settings"]["alpha"]
    said += f"A rule against the champion holds when the redraws prove it at {100 * (1 - alpha):.0f} %, and fails when "
    said += "they prove the opposite (over all key classes at once, after Holm); what neither can be shown asks a "
    said += f"reviewer. This was comparison {decision['comparison']} on this test set: being called better by luck may "
    said += f"happen to {100 * alpha:.0f} % of all nights on it together, so each comparison gets a smaller share."
    return said


def _row(rule: dict[str, Any]) -> str:
    tone, mark = RULE_TONES[rule["verdict"]], rule["verdict"]
    name = f"<code class='soft'>{html.escape(rule['rule'])}</code>"
    finding = f"<td>{html.escape(rule['sentence'])} {name}</td>"
    return f"<tr><td class='{tone}'><b>{mark}</b></td><td>{_drawn(rule)}</td>{finding}</tr>"


def _drawn(rule: dict[str, Any]) -> str:
    """The interval as a line, the number as a dot, the limit as a tick; nothing where there is no interval."""
    low, high = rule["interval"]
    if low == high:
        return ""
    ends = [low, high, rule["number"], rule["threshold"]]
    start, span = min(ends), max(max(ends) - min(ends), 1e-9)

    def at(value: float) -> float:
        return round(6 + 108 * (value - start) / span, 1)

    colour = {"good": "var(--good)", "bad": "var(--bad)", "warn": "var(--warn)", "soft": "var(--soft)"}[
        RULE_TONES[rule["verdict"]]
    ]
    return (
        f"<svg width='120' height='16' viewBox='0 0 120 16' role='img' aria-label='interval {low:.4f} to {high:.4f}'>"
        f"<line x1='{at(low)}' x2='{at(high)}' y1='8' y2='8' stroke='{colour}' stroke-width='2'/>"
        f"<circle cx='{at(rule['number'])}' cy='8' r='3.5' fill='{colour}'/>"
        f"<line x1='{at(rule['threshold'])}' x2='{at(rule['threshold'])}' y1='1' y2='15' stroke='var(--ink)'/></svg>"
    )
