"""The rules of the gate: each looks at the evidence and answers with a number, its bounds and one sentence."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from components.judge.bounds import alpha_of_night, chance_not_worse, holm, lower_bound, upper_bound
from components.judge.evidence import Evidence
from components.judge.resolution import boxes_needed
from components.judge.settings import JudgeSettings


@dataclass(frozen=True)
class Ruling:
    """What one rule found."""

    rule: str
    verdict: str
    """pass, fail, undecided, or noted (told, not judged)."""
    number: float
    interval: tuple[float, float]
    threshold: float
    sentence: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"interval": list(self.interval)}


def all_rulings(evidence: Evidence, settings: JudgeSettings, night: int) -> list[Ruling]:
    """Every rule's answer; a first version meets the floors, the budgets and its own float twin only.

    Args:
        night: This is comparison number so much on this test set, from 1.
    """
    rulings = [leaks(evidence), *parity(evidence, settings), map_floor(evidence, settings)]
    rulings += [*recall_floors(evidence, settings), *budgets(evidence, settings)]
    if evidence.first_version:
        return rulings
    rulings += [*enough_boxes(evidence, settings), *key_recall(evidence, settings), map_not_worse(evidence, settings)]
    return [*rulings, map_better(evidence, settings, night), *slices(evidence, settings)]


def leaks(evidence: Evidence) -> Ruling:
    """Training saw none of the test set."""
    number = int(evidence.scores["leaks"])
    said = f"{number} training images share a group with the test set" if number else "training saw no test group"
    return Ruling("leaks", "fail" if number else "pass", number, (number, number), 0, f"{said}.")


def map_floor(evidence: Evidence, settings: JudgeSettings) -> Ruling:
    """The judged artifact's mAP reaches its floor."""
    number, floor = evidence.challenger["map_50_95"], settings.min_map_50_95
    interval = _interval(evidence.resampled(f"challenger.{evidence.judged}", "map_50_95"))
    said = f"{evidence.judged} mAP is {number:.3f}, the floor is {floor:.3f}."
    return Ruling("map_floor", _verdict(number >= floor), number, interval, floor, said)


def recall_floors(evidence: Evidence, settings: JudgeSettings) -> list[Ruling]:
    """Each key class's recall reaches its floor."""
    rulings = []
    for name in evidence.key_classes:
        number, floor = evidence.challenger["per_class"][name]["recall"], settings.min_key_recall
        interval = _interval(evidence.resampled(f"challenger.{evidence.judged}", "recall", name))
        said = f"{evidence.judged} recall of {name} is {number:.3f}, the floor is {floor:.3f}."
        rulings.append(Ruling(f"recall_floor:{name}", _verdict(number >= floor), number, interval, floor, said))
    return rulings


def enough_boxes(evidence: Evidence, settings: JudgeSettings) -> list[Ruling]:
    """The test set holds enough boxes of every key class to say anything."""
    rulings = []
    for name in evidence.key_classes:
        number, least = evidence.challenger["per_class"][name]["boxes"], settings.min_key_boxes
        said = f"the test set holds {number} boxes of {name}"
        said += f": need {least - number} more boxes of class {name}." if number < least else "."
        verdict = "pass" if number >= least else _unresolved(settings)
        rulings.append(Ruling(f"enough_boxes:{name}", verdict, number, (number, number), least, said))
    return rulings


def key_recall(evidence: Evidence, settings: JudgeSettings) -> list[Ruling]:
    """No key class's recall fell by more than the margin.

    Passing needs a proof for every class, which no correction may ease; refusing is tried on every class at once, so
    that proof is Holm's.
    """
    gains = {name: evidence.gain("recall", name) for name in evidence.key_classes}
    worse = holm({name: chance_not_worse(gain) for name, gain in gains.items()}, settings.alpha)
    return [
        _not_worse(
            f"key_recall:{name}",
            f"recall of {name}",
            _recall_gain(evidence, name),
            gain,
            settings.recall_margin,
            settings,
            name in worse,
            _missing_boxes(evidence, name, gain, settings),
        )
        for name, gain in gains.items()
    ]


def map_not_worse(evidence: Evidence, settings: JudgeSettings) -> Ruling:
    """The mAP did not fall by more than the margin."""
    gain = evidence.gain("map_50_95")
    value = evidence.challenger["map_50_95"] - evidence.champion["map_50_95"]
    worse = upper_bound(gain, settings.alpha) < 0
    return _not_worse("map_not_worse", "mAP", value, gain, settings.map_margin, settings, worse, "")


def map_better(evidence: Evidence, settings: JudgeSettings, night: int) -> Ruling:
    """The mAP gain is more than luck, counted over all the nights on this test set."""
    gain = evidence.gain("map_50_95")
    value = evidence.challenger["map_50_95"] - evidence.champion["map_50_95"]
    share = alpha_of_night(settings.alpha, night)
    bound = lower_bound(gain, share)
    proven = bool(bound > 0)
    said = f"mAP changed by {_points(value)}; at this night's share of luck ({share:.4f}, comparison {night} on this "
    said += f"test set) the gain is surely at least {_points(bound)}: {'better' if proven else 'not proven better'}."
    verdict = "pass" if proven else "fail" if settings.require == "better" else "noted"
    return Ruling("map_better", verdict, value, (bound, upper_bound(gain, share)), 0.0, said)


def slices(evidence: Evidence, settings: JudgeSettings) -> list[Ruling]:
    """No slice of the test set surely lost more than the margin; a lost one asks for a waiver."""
    rulings = []
    for tag, values in evidence.challenger["slices"].items():
        for value, entry in values.items():
            gain = evidence.gain(f"slice.{tag}.{value}")
            number = entry["map_50_95"] - evidence.champion["slices"][tag][value]["map_50_95"]
            lost = number < -settings.slice_margin and upper_bound(gain, settings.alpha) < 0
            judged = entry["boxes"] >= settings.min_slice_boxes and entry.get("groups", 0) >= settings.min_slice_groups
            verdict = "noted" if not judged else "undecided" if lost else "pass"
            said = f"mAP on {tag} {value} changed by {_points(number)} ({entry['boxes']} boxes)"
            said += ", surely a loss: needs a reviewer's waiver." if judged and lost else "."
            interval = _interval(gain)
            rulings.append(Ruling(f"slice:{tag}={value}", verdict, number, interval, -settings.slice_margin, said))
    return rulings


def parity(evidence: Evidence, settings: JudgeSettings) -> list[Ruling]:
    """INT8 and each measured engine keep what their float twin can."""
    rulings = []
    for kind, entry in evidence.scores["parity"].items():
        model = f"challenger.{kind}" if kind == "int8" else f"engine.{kind}"
        rulings.append(_kept(evidence, settings, model, kind, "mAP", entry["map_50_95"]["value"], ""))
        for name in evidence.key_classes:
            rulings.append(
                _kept(evidence, settings, model, kind, f"recall of {name}", entry["recall"][name]["value"], name)
            )
    return rulings


def budgets(evidence: Evidence, settings: JudgeSettings) -> list[Ruling]:
    """Size and latency of the judged artifact are within their budgets; what was not measured is told."""
    size, latency = evidence.challenger["size_bytes"], evidence.challenger["latency_ms"]
    rulings = []
    if settings.max_size_bytes:
        rulings.append(_budget("size", size / 1e6, settings.max_size_bytes / 1e6, "MB"))
    if settings.max_latency_ms:
        rulings.append(_budget("latency", latency, settings.max_latency_ms, "ms"))
    if settings.max_latency_ratio and not evidence.first_version:
        before = evidence.champion["latency_ms"]
        same = evidence.champion.get("latency_how") == evidence.challenger.get("latency_how")
        ruling = _budget(
            "latency_ratio", latency / before if before else 0.0, settings.max_latency_ratio, "x the champion's"
        )
        rulings.append(ruling if same else Ruling(**(vars(ruling) | {"verdict": "noted"})))
    return rulings


def _kept(
    evidence: Evidence, settings: JudgeSettings, model: str, kind: str, what: str, value: float, class_name: str
) -> Ruling:
    number, margin = ("recall", settings.int8_recall_margin) if class_name else ("map_50_95", settings.int8_map_margin)
    loss = evidence.resampled(model, number, class_name) - evidence.resampled("challenger.float", number, class_name)
    kept = lower_bound(loss, settings.alpha) >= -margin
    failed = not kept and value < -margin and upper_bound(loss, settings.alpha) < 0
    unsure = not kept and not failed and not evidence.first_version
    verdict = "fail" if failed else _unresolved(settings) if unsure else "pass"
    said = f"{kind} against float: {what} changed by {_points(value)}, allowed is {_points(-margin)}"
    said += ": quantization broke it." if failed else ", too few boxes to be sure." if unsure else "."
    rule = f"parity:{kind}" + (f":{class_name}" if class_name else "")
    return Ruling(rule, verdict, value, _interval(loss), -margin, said)


def _not_worse(
    rule: str,
    what: str,
    value: float,
    gain: np.ndarray,
    margin: float,
    settings: JudgeSettings,
    proven_worse: bool,
    missing: str,
) -> Ruling:
    bound = lower_bound(gain, settings.alpha)
    surely = f"it surely lost no more than {_points(bound)}" if bound < 0 else "surely no loss"
    said = f"{what} changed by {_points(value)}; {surely}, allowed is {_points(-margin)}"
    if bound >= -margin:
        verdict, end = "pass", "."
    elif proven_worse and value < 0:
        verdict, end = "fail", ": worse beyond luck."
    else:
        verdict, end = _unresolved(settings), f": the test set cannot tell.{missing}"
    return Ruling(rule, verdict, value, (bound, upper_bound(gain, settings.alpha)), -margin, said + end)


def _budget(rule: str, number: float, limit: float, unit: str) -> Ruling:
    if not number:
        return Ruling(rule, "noted", 0.0, (0.0, 0.0), limit, f"{rule}: not measured; the budget is {limit:.3g} {unit}.")
    said = f"{rule}: {number:.3g} {unit}, the budget is {limit:.3g} {unit}."
    return Ruling(rule, _verdict(number <= limit), number, (number, number), limit, said)


def _recall_gain(evidence: Evidence, name: str) -> float:
    return evidence.challenger["per_class"][name]["recall"] - evidence.champion["per_class"][name]["recall"]


def _missing_boxes(evidence: Evidence, name: str, gain: np.ndarray, settings: JudgeSettings) -> str:
    boxes = evidence.challenger["per_class"][name]["boxes"]
    needed = boxes_needed(float(np.nanstd(gain)), boxes, settings.recall_margin, settings.alpha)
    return f" Need about {needed - boxes} more boxes of class {name}." if needed > boxes else ""


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    return lower_bound(resampled, 0.025), upper_bound(resampled, 0.025)


def _verdict(holds: bool) -> str:
    return "pass" if holds else "fail"


def _unresolved(settings: JudgeSettings) -> str:
    return "undecided" if settings.when_unresolved == "undecided" else "pass"


def _points(value: float) -> str:
    text = f"{value * 100:+.1f} points"
    return "0.0 points" if text[1:] == "0.0 points" else text
