"""Label Studio JSON: a list of tasks with percent boxes, several annotators, cancelled and predicted answers.

Source: https://labelstud.io/guide/export and https://labelstud.io/tags/rectanglelabels
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import ijson

from components.intake.agreement import agreed
from components.intake.findings import QUARANTINED, REPAIRED, Code, Finding
from components.intake.labels import (
    Box,
    Label,
    LabeledImage,
    Parsed,
    hull_of,
    number,
    side_px,
    tag_values,
    text,
    unlisted,
)
from components.intake.lookup import ImageLookup
from components.intake.sources import Export
from components.shared.errors import InvalidInput

HEAD_BYTES = 65536
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
BOXES, POLYGONS, CHOICES = "rectanglelabels", "polygonlabels", "choices"
NOT_LABELS = {CHOICES, "textarea", "rating", "number", "taxonomy", "datetime"}


def is_label_studio(export: Export) -> bool:
    """Whether the export has a JSON list of tasks at its root."""
    return bool(_files(export))


def parse_label_studio(export: Export) -> Parsed:
    """Open a Label Studio export, whose file declares no classes."""
    return Parsed((), False, _images(export), partial(_names_seen, export))


def _files(export: Export) -> list[str]:
    named = [name for name in export.names() if name.endswith(".json") and "/" not in name]
    return [name for name in named if _looks(export.head(name, HEAD_BYTES))]


def _looks(head: bytes) -> bool:
    told = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return told[:1] == b"[" and any(key in head for key in (b'"data"', b'"annotations"', b'"annotation_id"'))


def _tasks(export: Export) -> Iterator[dict[str, Any]]:
    for name in _files(export):
        try:
            with export.open(name) as stream:
                for place, task in enumerate(ijson.items(stream, "item", use_float=True)):
                    yield task if isinstance(task, dict) else {"id": f"at {place}"}
        except (ijson.JSONError, UnicodeDecodeError) as fault:
            raise InvalidInput(
                f"{export.where}/{name}: no valid JSON ({fault}), expected Label Studio tasks"
            ) from fault


def _names_seen(export: Export) -> set[str]:
    results = (result for task in _tasks(export) for answer in _answers(task) for result in _results(answer))
    labels = (_class_names(result) for result in results)
    return {names[0] for names in labels if len(names) == 1}


def _images(export: Export) -> Iterator[LabeledImage]:
    lookup = ImageLookup(export)
    used = set()
    for task in _tasks(export):
        told = _image(task, lookup)
        used.add(told.file)
        yield told
    yield from unlisted(lookup.names(), used)


def _image(task: dict[str, Any], lookup: ImageLookup) -> LabeledImage:
    told = task.get("data")
    data = told if isinstance(told, dict) else task
    url = next((value for value in (data.get("image"), data.get("img"), data.get("url")) if isinstance(value, str)), "")
    source = text(url or f"task {task.get('id')}")
    file = _find(url, lookup)
    answers = [one for one in _answers(task) if isinstance(one.get("result"), list) and not one.get("was_cancelled")]
    if not answers:
        why = "only predictions" if task.get("predictions") else "no answer with a result that was not cancelled"
        return LabeledImage(source, file, findings=(Finding(source, "", Code.LBL_MISSING, QUARANTINED, why),))
    readings = [_reading(source, answer) for answer in answers]
    labels, findings = readings[0][0], readings[0][1]
    if len(answers) > 1:
        labels, findings = agreed(source, answers, readings)
    width, height = _declared_size(answers)
    tags = tag_values({key: value for key, value in data.items() if value != url}) if data is not task else {}
    tags |= {key: value for answer in answers for key, value in _choices(answer).items()}
    return LabeledImage(source, file, tuple(labels), True, width, height, tags=tags, findings=tuple(findings))


def _find(url: str, lookup: ImageLookup) -> str:
    """The export's image that a task's URL means; nothing is ever fetched from where it points."""
    parts = urlsplit(url) if "://" in url or url.startswith("/") else None
    told = url if parts is None else unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    found = lookup.find(told.lstrip("/"))
    bare = told.rpartition("/")[2]
    return found or (lookup.find(UPLOAD_PREFIX.sub("", bare)) if UPLOAD_PREFIX.match(bare) else "")


def _answers(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The task's annotations; the short form (JSON_MIN) holds the boxes of its one answer itself."""
    if "annotations" in task or "data" in task:
        told = task.get("annotations")
        return [answer for answer in told if isinstance(answer, dict)] if isinstance(told, list) else []
    boxes = [value for key, value in task.items() if isinstance(value, list) and key != "predictions"]
    flat = [one for value in boxes for one in value if isinstance(one, dict)]
    results = [
        {"type": BOXES, "id": at, "value": one} | {key: one.get(key) for key in ("original_width", "original_height")}
        for at, one in enumerate(flat)
    ]
    return [{"result": results, "updated_at": task.get("updated_at")}] if "annotation_id" in task or results else []


def _results(answer: dict[str, Any]) -> list[dict[str, Any]]:
    told = answer.get("result")
    return [result for result in told if isinstance(result, dict)] if isinstance(told, list) else []


def _reading(source: str, answer: dict[str, Any]) -> tuple[list[Label], list[Finding]]:
    """Labels of one annotator."""
    labels, findings = [], []
    for place, result in enumerate(_results(answer)):
        if result.get("type") in NOT_LABELS:
            continue
        row = f"result {text(result.get('id', place))}"
        label = _label(row, result)
        if isinstance(label, Label):
            labels.append(label)
            if result.get("type") == POLYGONS:
                findings.append(Finding(source, row, Code.BOX_SHAPE, REPAIRED, "a polygon: its hull"))
        else:
            findings.append(Finding(source, row, label[0], QUARANTINED, label[1]))
    return labels, findings


def _label(row: str, result: dict[str, Any]) -> Label | tuple[Code, str]:
    value, kind = result.get("value"), result.get("type")
    if not isinstance(value, dict) or kind not in (BOXES, POLYGONS):
        return Code.BOX_SHAPE, f"a {text(kind)}, expected {BOXES}"
    names = _class_names(result)
    if len(names) != 1:
        return Code.CLS_UNKNOWN, f"{len(names)} labels {names}, expected one"
    box = _percent_hull(value) if kind == POLYGONS else _percent_box(value)
    if box is None:
        return Code.BOX_SHAPE, "a polygon without points"
    return Label(row, names[0], box, number(value.get("rotation") or 0), "corner")


def _class_names(result: dict[str, Any]) -> list[str]:
    value = result.get("value")
    told = value.get(BOXES) or value.get(POLYGONS) if isinstance(value, dict) else None
    return [text(name) for name in told] if isinstance(told, list) else []


def _percent_box(value: dict[str, Any]) -> Box:
    x, y, width, height = (number(value.get(key)) / 100 for key in ("x", "y", "width", "height"))
    return (x, y, x + width, y + height)


def _percent_hull(value: dict[str, Any]) -> Box | None:
    points = value.get("points")
    pairs = (
        [point for point in points if isinstance(point, list) and len(point) == 2] if isinstance(points, list) else []
    )
    return hull_of([(number(x) / 100, number(y) / 100) for x, y in pairs]) if pairs else None


def _declared_size(answers: list[dict[str, Any]]) -> tuple[int, int]:
    for result in (result for answer in answers for result in _results(answer)):
        if result.get("original_width"):
            return side_px(result["original_width"]), side_px(result.get("original_height"))
    return 0, 0


def _choices(answer: dict[str, Any]) -> dict[str, str]:
    """Choices about the whole image are tags: weather=rain."""
    told = {}
    for result in _results(answer):
        value = result.get("value")
        if result.get("type") == CHOICES and isinstance(value, dict) and isinstance(value.get("choices"), list):
            told[text(result.get("from_name", "choice"))] = text(",".join(map(str, value["choices"])))
    return {key: value for key, value in told.items() if value}
