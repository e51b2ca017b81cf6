"""What people read about a version: the description on its MLflow page and the model card in its bundle."""

from collections.abc import Mapping
from typing import Any

from components.release.settings import ReleaseSettings
from components.release.tracking import Night


def description(night: Night, version: int, bundle_uri: str, artifacts: str) -> str:
    """Markdown for the version's page in MLflow: verdict, champion against challenger, gates, links.

    Args:
        artifacts: Address of the run's artifacts in MLflow's pages.
    """
    names = ("evaluation", "training", "calibration", "augment", "intake")
    links = " | ".join(f"[{name}]({artifacts}/reports/{name}.html)" for name in names)
    reasons = [f"- {reason}" for reason in night.decision.get("reasons", [])]
    return "\n".join(
        [
            f"## {night.model_name} version {version}: {night.decision['verdict']}",
            "",
            *score_table(night.scores),
            "",
            *([*reasons, ""] if reasons else []),
            *gate_table(night.decision),
            "",
            f"Reports: {links}",
            "",
            f"- data set `{night.dataset['digest']}`",
            f"- night `{night.run_key}`, started by {night.author}",
            f"- bundle `{bundle_uri}`",
            "",
            "Aliases follow the ledger of reviewers' decisions: `yanshan review`, `promote`, `history`.",
        ]
    )


def score_table(scores: Mapping[str, Any]) -> list[str]:
    """Champion against challenger, float and INT8, as a Markdown table."""
    columns = [(f"challenger {kind}", models) for kind, models in scores["challenger"].items()]
    champion = scores.get("champion") or {}
    columns += [(f"champion v{scores['champion_version']} {kind}", models) for kind, models in champion.items()]
    rows = [("mAP50-95", "map_50_95"), ("mAP50", "map_50"), ("AR100", "ar_100")]
    lines = [_row("", [name for name, _ in columns]), _row("---", ["---:"] * len(columns))]
    lines += [_row(label, [_score(models.get(key)) for _, models in columns]) for label, key in rows]
    for name in scores["class_names"]:
        recalls = [models.get("per_class", {}).get(name, {}).get("recall") for _, models in columns]
        lines.append(_row(f"recall {_plain(name)}", [_score(value) for value in recalls]))
    lines.append(_row("size MB", [_score((models.get("size_bytes") or 0) / 1e6, 2) for _, models in columns]))
    return lines


def gate_table(decision: Mapping[str, Any]) -> list[str]:
    """One row a rule of the gate: verdict, number, interval, threshold."""
    rules = decision.get("rules", [])
    if not rules:
        return []
    lines = [_row("gate", ["verdict", "number", "interval", "threshold"]), _row("---", ["---", "---:", "---", "---:"])]
    for rule in rules:
        interval = rule.get("interval") or []
        cells = [rule["verdict"], _score(rule.get("number"), 4), " to ".join(_score(end, 4) for end in interval)]
        lines.append(_row(_plain(str(rule["rule"])), [*cells, _score(rule.get("threshold"), 4)]))
    return lines


def model_card(night: Night, settings: ReleaseSettings) -> str:
    """The card that travels with the model: use, data, scores, limits, licence; one night, one text."""
    counts = night.dataset.get("counts", {})
    return "\n".join(
        [
            f"# {night.model_name}, night {night.run_key[:12]}",
            "",
            "## Intended use",
            settings.intended_use,
            "",
            "Classes: " + ", ".join(_plain(name) for name in night.dataset["class_names"]) + ".",
            "",
            "## Data",
            f"Data set version `{night.dataset['digest']}`.",
            *[f"- {_plain(str(key))}: {_plain(str(value))}" for key, value in sorted(counts.items())],
            f"- test set: {night.scores.get('test_set', '')} (frozen; no image of it is ever trained on)",
            f"- leaks found between training and test: {night.scores.get('leaks', 'not counted')}",
            "",
            "## Scores on the frozen test set",
            *score_table(night.scores),
            "",
            *intervals(night.scores.get("differences") or {}),
            "## Gates",
            f"Verdict: {night.decision['verdict']}",
            "",
            *gate_table(night.decision),
            "",
            "## Limits",
            "Measured on one frozen test set from the same cameras as the training data; slices with few images say "
            "little. Classes other than those above are not seen. INT8 scores hold for the file in this bundle only.",
            "",
            "## Licence",
            settings.licence,
            "",
        ]
    )


def intervals(differences: Mapping[str, Any]) -> list[str]:
    """Challenger minus champion with its interval, one line a measure that states one."""
    lines = []
    for name, one in sorted(differences.items()):
        ends = one.get("interval") if isinstance(one, Mapping) else None
        if isinstance(ends, list | tuple) and len(ends) == 2:
            middle = one.get("difference", one.get("mean"))
            lines.append(f"- {_plain(name)}: {_score(middle, 4)} ({_score(ends[0], 4)} to {_score(ends[1], 4)})")
    return ["Challenger minus champion, paired bootstrap:", *lines, ""] if lines else []


def _row(label: str, cells: list[str]) -> str:
    gap = "" if label == "---" else "&emsp;"  # MLflow's pages put no space between columns
    return "| " + " | ".join(f"{cell}{gap}" for cell in [label, *cells]) + " |"


def _score(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def _plain(text: str) -> str:
    """Text that cannot be read as Markdown or HTML."""
    return "".join(f"&#{ord(letter)};" if letter in "|<>[]`*_\\&\n" else letter for letter in text)
