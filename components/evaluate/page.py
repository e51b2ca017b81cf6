"""The evaluation report: what a reviewer reads before promoting."""

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from components.evaluate.errors import KINDS, confusion, reliability
from components.evaluate.gallery import Shown, false_alarms, lost, misses, pictures
from components.evaluate.measured import Measured
from components.evaluate.plots import class_bars, precision_recall, reliability_diagram
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth
from components.shared.report import page

TEMPLATE = Path(__file__).with_name("page.html.j2")
MOST_CONFUSED = 15
FEWEST_GROUPS = 4
"""A slice of fewer groups has no interval worth the name."""
ROWS = (
    ("mAP 50:95", "map_50_95"), ("mAP 50", "map_50"), ("mAP 75", "map_75"), ("mAP small", "map_small"),
    ("mAP medium", "map_medium"), ("mAP large", "map_large"), ("AR 100", "ar_100"),
)  # fmt: skip


def evaluation_page(
    scores: dict[str, Any], models: dict[str, Measured], test: Truth, settings: EvaluateSettings
) -> str:
    """The whole page; the gate puts its verdict in place of `<!-- verdict -->`."""
    model, champion = models["challenger.int8"], models.get("champion.int8")
    sides = {"challenger": model} | ({"champion": champion} if champion else {})
    parts = {
        "headline": headline_sentence(scores),
        "tiles": _tiles(scores),
        "sides": list(sides),
        "overview": list(_overview(scores)),
        "classes": list(_classes(scores)),
        "bars": [Markup(class_bars(scores, *one)) for one in (("recall", "Recall"), ("ap_50_95", "AP 50:95"))],
        "curves": [Markup(plot) for plot in precision_recall(model, champion, test)],
        "slices": list(_slices(scores)),
        "artifacts": list(_artifacts(scores)),
        "error_columns": list(sides),
        "errors": [(kind, [scores[role]["int8"]["errors"][kind] for role in sides]) for kind in KINDS],
        "confusion_names": [*test.class_names[:MOST_CONFUSED], "nothing"],
        "confusion": list(_confusion(model, test)),
        "honesty": Markup(reliability_diagram({name: reliability(one.matches) for name, one in sides.items()})),
        "galleries": _galleries(model, champion, test, settings.num_pictures),
    }
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return page("Evaluation", template.render(s=scores, settings=settings, **parts))


def headline_sentence(scores: dict[str, Any]) -> str:
    """What was found, in one sentence."""
    if not scores["champion"]:
        return f"A first version: INT8 mAP {scores['challenger']['int8']['map_50_95']:.3f}, nothing to compare it with"
    gain = scores["differences"]["int8"]["map_50_95"]
    against = f"version {scores['champion_version']}"
    said = f"No sure difference from {against}"
    if gain["low"] > 0 or gain["high"] < 0:
        said = f"Surely {'better' if gain['low'] > 0 else 'worse'} than {against}"
    return f"{said}: INT8 mAP {_signed(gain['value'])} points ({_signed(gain['low'])} to {_signed(gain['high'])})"


def _tiles(scores: dict[str, Any]) -> list[dict[str, str]]:
    int8 = scores["challenger"]["int8"]
    low, high = scores["intervals"]["challenger.int8"]["map_50_95"]
    tiles = [{"value": f"{int8['map_50_95']:.3f}", "label": f"INT8 mAP 50:95 ({low:.3f} to {high:.3f})", "tone": ""}]
    if scores["champion"]:
        gain = scores["differences"]["int8"]["map_50_95"]
        tiles.append({"value": _signed(gain["value"]), "label": "points against the champion", "tone": _tone(gain)})
    loss = scores["parity"]["int8"]["map_50_95"]
    tiles.append({"value": _signed(loss["value"]), "label": "points INT8 against float", "tone": _tone(loss)})
    tiles.append(
        {"value": _size(int8), "label": f"INT8 file, float {_size(scores['challenger']['float'])}", "tone": ""}
    )
    tiles.append({"value": _latency(int8), "label": "median latency, INT8", "tone": ""})
    return tiles


def _overview(scores: dict[str, Any]) -> Any:
    sides = [scores[role] for role in ("challenger", "champion") if scores[role]]
    gains = scores["differences"].get("int8", {})
    for label, name in ROWS:
        if all(one["int8"][name] < 0 for one in sides):
            continue
        row: dict[str, Any] = {"label": label, "change": "", "between": "", "tone": ""}
        row |= {kind: [_number(one[kind][name]) for one in sides] for kind in ("int8", "float")}
        if name in gains:
            row |= _changed(gains[name])
        elif len(sides) > 1:
            row |= {"change": _signed(sides[0]["int8"][name] - sides[1]["int8"][name])}
        yield row
    for label, say in (("file size", _size), ("median latency", _latency)):
        cells = {kind: [say(one[kind]) for one in sides] for kind in ("int8", "float")}
        yield {"label": label, "change": "", "between": "", "tone": "", **cells}


def _classes(scores: dict[str, Any]) -> Any:
    gains = scores["differences"].get("int8")
    for name, entry in scores["challenger"]["int8"]["per_class"].items():
        cells = [_number(entry[key]) for key in ("ap_50_95", "ap_50", "recall", "precision", "f1", "threshold")]
        yield {"name": name, "boxes": entry["boxes"], "cells": cells} | (
            _changed(gains["recall"][name]) if gains else {}
        )


def _slices(scores: dict[str, Any]) -> Any:
    gains = scores["differences"].get("int8")
    for tag, values in scores["challenger"]["int8"]["slices"].items():
        for value, entry in values.items():
            cells = [_number(entry[key]) for key in ("map_50", "map_50_95", "recall")]
            row = {
                "tag": tag,
                "value": value,
                "images": entry["images"],
                "groups": entry["groups"],
                "boxes": entry["boxes"],
                "cells": cells,
            }
            if gains:
                cells.append(_number(scores["champion"]["int8"]["slices"][tag][value]["map_50_95"]))
                row |= _changed(gains["slices"][tag][value])
                if entry["groups"] < FEWEST_GROUPS:
                    row |= {"between": "too few groups", "tone": ""}
            yield row


def _artifacts(scores: dict[str, Any]) -> Any:
    entries = {"float ONNX": (scores["challenger"]["float"], None)}
    entries["INT8 Q/DQ ONNX"] = (scores["challenger"]["int8"], scores["parity"]["int8"])
    entries |= {target: (entry, scores["parity"][target]) for target, entry in scores["engines"].items()}
    for name, (entry, loss) in entries.items():
        row = {"name": name, "map": _number(entry["map_50_95"]), "size": _size(entry), "latency": _latency(entry)}
        if loss is None:
            yield row | {"change": "", "between": "", "tone": "", "worst": ""}
            continue
        worst = min(loss["recall"], key=lambda one: loss["recall"][one]["value"])
        yield row | _changed(loss["map_50_95"]) | {"worst": f"{worst} {_signed(loss['recall'][worst]['value'])}"}


def _confusion(model: Measured, test: Truth) -> Any:
    """Rows of cells, each as strong as its share of the row; rare classes beyond the first few are left out."""
    table = confusion(test, model.predictions, model.thresholds)
    shown = [*range(min(len(test.class_names), MOST_CONFUSED)), len(test.class_names)]
    for row in shown:
        name = test.class_names[row] if row < len(test.class_names) else "nothing"
        share = table[row] / max(table[row].sum(), 1)
        yield (
            name,
            [
                {
                    "number": int(table[row, column]) if row != column or row < len(test.class_names) else "",
                    "colour": "15,118,110" if row == column else "220,38,38",
                    "strength": f"{0.65 * share[column]:.2f}",
                }
                for column in shown
            ],
        )


def _galleries(model: Measured, champion: Measured | None, test: Truth, limit: int) -> list[dict[str, Any]]:
    def drawn(title: str, about: str, shown: list[Shown]) -> dict[str, Any]:
        return {"title": title, "about": about, "pictures": [Markup(one) for one in pictures(shown, test)]}

    galleries = []
    if champion:
        about = "The champion finds these, the challenger does not."
        galleries.append(drawn("Lost since the champion", about, lost(model, champion, test, limit)))
    galleries.append(
        drawn("Worst misses", "The largest boxes for their class that were not found.", misses(model, test, limit))
    )
    about = "The surest detections that found nothing."
    return [*galleries, drawn("Worst false alarms", about, false_alarms(model, test, limit))]


def _changed(gain: dict[str, float]) -> dict[str, str]:
    return {
        "change": _signed(gain["value"]),
        "between": f"{_signed(gain['low'])} to {_signed(gain['high'])}",
        "tone": _tone(gain),
    }


def _tone(gain: dict[str, float]) -> str:
    return "good" if gain["low"] > 0 else "bad" if gain["high"] < 0 else ""


def _signed(value: float) -> str:
    """A difference in points, with a sign that cannot be overlooked."""
    if not np.isfinite(value):
        return ""
    text = f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")
    return "0.0" if text[1:] == "0.0" else text


def _number(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else "\N{EN DASH}"


def _size(entry: dict[str, Any]) -> str:
    size = entry["size_bytes"]
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _latency(entry: dict[str, Any]) -> str:
    return f"{entry['latency_ms']:.2f} ms" if entry["latency_ms"] else "\N{EN DASH}"
