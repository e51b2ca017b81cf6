"""How a reviewer's evidence reads on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def list_text(model_name: str, versions: Sequence[Mapping[str, Any]]) -> str:
    """One line a version."""
    rows = [["version", "state", "gate", "mAP50-95", "INT8", "data set"]]
    for one in versions:
        scores = [_number(one["map_50_95"]), _number(one["map_50_95_int8"])]
        rows.append([str(one["version"]), one["state"], one["verdict"], *scores, one["dataset"][:12]])
    waiting = [one["version"] for one in versions if one["state"] == "challenger"]
    unsure = [one["version"] for one in versions if one["state"] == "candidate" and one["open_rules"]]
    ending = [f"yanshan review {waiting[0]} shows what waits" if waiting else "nothing waits for a reviewer"]
    if unsure and not waiting:
        ending = [f"the gate could not decide about version {unsure[0]}: yanshan review {unsure[0]} shows what is open"]
    return "\n".join([model_name, *_columns(rows), *ending])


def version_text(model_name: str, one: Mapping[str, Any], report: str) -> str:
    """One version in full."""
    lines = [f"{model_name} version {one['version']}: {one['state']}, gate {one['verdict']}, by {one['author']}"]
    lines += [f"  {reason}" for reason in one["decision"].get("reasons", [])]
    lines += ["", *_columns(score_rows(one))]
    if rules := one["decision"].get("rules", []):
        lines += ["", *_columns([["gate", "verdict", "number", "threshold"], *map(_rule_row, rules)])]
    lines += ["", *_columns(data_rows(one["data"]))]
    lines += [f"decided: {text}" for text in map(decision_text, one["decisions"])]
    lines += ["", f"report   {report}", f"bundle   {one['bundle']}"]
    for rule in one["open_rules"]:
        lines.append(f"open     yanshan waive {one['version']} {rule} --reviewer NAME --reason TEXT")
    if one["state"] in ("challenger", "candidate"):
        expected = f"--expect-champion {one['champion']}"
        lines.append(f"promote  yanshan promote {one['version']} --reviewer NAME --reason TEXT {expected}")
    return "\n".join(lines)


def score_rows(one: Mapping[str, Any]) -> list[list[str]]:
    """Champion against challenger: one row a measure, one column a version and precision."""
    sides = [(f"v{one['version']} {kind}", one["scores"][kind], one["recall"], kind) for kind in one["scores"]]
    champion = f"v{one['compared_with']}"
    sides += [
        (f"{champion} {kind}", one["champion_scores"][kind], one["champion_recall"], kind)
        for kind in one["champion_scores"]
    ]
    rows = [["", *[name for name, *_ in sides]]]
    for label, key in (("mAP50-95", "map_50_95"), ("mAP50", "map_50"), ("AR100", "ar_100")):
        rows.append([label, *[_number(scores[key]) for _, scores, _, _ in sides]])
    for name in one["recall"]:
        rows.append([f"recall {name}", *[_number(recall[name][kind]) for _, _, recall, kind in sides]])
    rows.append(["size MB", *[_number((scores["size_bytes"] or 0) / 1e6, 2) for _, scores, _, _ in sides]])
    rows.append(["latency ms", *[_number(scores["latency_ms"], 2) for _, scores, _, _ in sides]])
    return rows


def data_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Counts of the data set, now and under the champion."""
    rows = [["data", data["dataset"][:12], data["champion_dataset"][:12] or "no champion"]]
    for key, value in data["counts"].items():
        if isinstance(value, int | float | str):
            rows.append([key, str(value), str(data["champion_counts"].get(key, "-"))])
    return rows


def history_text(model_name: str, records: Sequence[Mapping[str, Any]]) -> str:
    """One line a record."""
    if not records:
        return f"{model_name}: no decision was ever recorded"
    return "\n".join(f"{record['seq']:>5}  {decision_text(record)}" for record in records)


def decision_text(record: Mapping[str, Any]) -> str:
    """One decision as a sentence."""
    moved = f", champion {record['champion_before'] or 'none'} -> {record['champion'] or 'none'}"
    change = moved if record["champion"] != record["champion_before"] else ""
    return f"{record['at'][:19]}Z  {record['kind']} {record['version']}{change}, {record['actor']}: {record['reason']}"


def _rule_row(rule: Mapping[str, Any]) -> list[str]:
    return [str(rule["rule"]), rule["verdict"], _number(rule.get("number"), 4), _number(rule.get("threshold"), 4)]


def _number(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
