"""YOLO text files: one a picture, one line a box, classes named by index in data.yaml (or classes.txt).

Source: https://docs.ultralytics.com/datasets/detect/
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from components.intake.findings import QUARANTINED, Code, Finding
from components.intake.labels import Label, LabeledImage, Parsed, number, refused, text
from components.intake.lookup import ImageLookup
from components.intake.sources import Export
from components.shared.errors import InvalidInput

NOT_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt", "obj.names", "readme.txt", "notes.txt"}
MAX_YAML_BYTES = 2**20


def is_yolo(export: Export) -> bool:
    """Whether the export names its classes as YOLO exports do and has label files."""
    return bool(_class_file(export)) and any(_is_label_file(name) for name in export.names())


def parse_yolo(export: Export) -> Parsed:
    """Open a YOLO export.

    Raises:
        InvalidInput: the file that names the classes cannot be understood.
    """
    class_names = _class_names(export, _class_file(export))
    return Parsed(class_names, True, _images(export, class_names))


def _class_file(export: Export) -> str:
    """data.yaml, another YAML file that lists names, or a list of names, at the export's root."""
    named = [name for name in export.names() if "/" not in name]
    yamls = [
        name for name in named if name.endswith((".yaml", ".yml")) and b"names" in export.head(name, MAX_YAML_BYTES)
    ]
    lists = [name for name in ("classes.txt", "obj.names") if name in named]
    return ([*sorted(yamls, key=lambda name: (not name.startswith("data."), name)), *lists, ""])[0]


def _class_names(export: Export, file: str) -> tuple[str, ...]:
    where = f"{export.where}/{file}"
    if not file or export.size(file) > MAX_YAML_BYTES:
        raise InvalidInput(f"{where}: no data.yaml of less than {MAX_YAML_BYTES} bytes, expected one with `names`")
    content = export.read(file).decode("utf-8-sig", errors="replace")
    if not file.endswith((".yaml", ".yml")):
        return tuple(text(line.strip()) for line in content.splitlines() if line.strip())
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise InvalidInput(f"{where}: no valid YAML, expected `names`") from fault
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise InvalidInput(
            f"{where}: `names` is a {type(names).__name__}, expected a list or an index: name map from 0"
        )
    if document.get("nc") not in (None, len(names)):
        raise InvalidInput(f"{where}: nc is {text(document.get('nc'))}, but there are {len(names)} names")
    return tuple(text(name) for name in names)


def _is_label_file(name: str) -> bool:
    return name.endswith(".txt") and PurePosixPath(name).name.lower() not in NOT_LABELS


def _images(export: Export, class_names: tuple[str, ...]) -> Iterator[LabeledImage]:
    lookup = ImageLookup(export)
    label_files = {str(PurePosixPath(name).with_suffix("")): name for name in export.names() if _is_label_file(name)}
    used = set()
    for image in lookup.names():
        label_file = label_files.get(_label_stem(image), "")
        used.add(label_file)
        if not label_file:
            yield refused(image, Code.LBL_MISSING, "no label file; a background needs an empty one")
        elif len(lookup.with_stem(str(PurePosixPath(image).with_suffix("")))) > 1:
            yield refused(image, Code.IMG_AMBIGUOUS, f"several images of this name share {label_file}")
        else:
            yield _image(image, export.read(label_file), class_names)
    for label_file in sorted(set(label_files.values()) - used):
        yield _orphan(label_file, export.read(label_file))


def _label_stem(image: str) -> str:
    """images/train/a.jpg is labeled by labels/train/a.txt (the last `images` counts), else by the .txt beside it."""
    parts = list(PurePosixPath(image).with_suffix("").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return "/".join(parts)


def _orphan(label_file: str, data: bytes) -> LabeledImage:
    rows = [f"line {at}" for at, line in enumerate(data.splitlines(), start=1) if line.strip()] or [""]
    message = "labels of an image that is not in the export"
    findings = tuple(Finding(label_file, row, Code.IMG_MISSING, QUARANTINED, message) for row in rows)
    return LabeledImage(label_file, "", findings=findings)


def _image(image: str, data: bytes, class_names: tuple[str, ...]) -> LabeledImage:
    labels, findings = [], []
    for at, line in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        label = _label(f"line {at}", line.split(), class_names)
        if isinstance(label, Label):
            labels.append(label)
        else:
            findings.append(Finding(image, f"line {at}", label[0], QUARANTINED, label[1]))
    return LabeledImage(image, image, tuple(labels), relative=True, findings=tuple(findings))


def _label(row: str, fields: list[str], class_names: tuple[str, ...]) -> Label | tuple[Code, str]:
    if len(fields) != 5:
        return Code.BOX_SHAPE, f"{len(fields)} fields, expected 5: class x_centre y_centre width height"
    index, x, y, width, height = map(_field, fields)
    if index is None or not index.is_integer() or not 0 <= index < len(class_names):
        return Code.CLS_UNKNOWN, f"class index {text(fields[0])}, expected 0 to {len(class_names) - 1}"
    if x is None or y is None or width is None or height is None:
        return Code.BOX_SHAPE, f"{text(' '.join(fields))}, expected 5 numbers"
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return Label(row, class_names[int(index)], box)


def _field(told: Any) -> float | None:
    try:
        float(told)
    except ValueError:
        return None
    return number(told)
