"""YOLO text files: one a picture, one line a box, classes named by index in data.yaml (or classes.txt).

Source: https://docs.ultralytics.com/datasets/detect/
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

import yaml

from components.intake.findings import QUARANTINED, Code, Finding
from components.intake.labels import Label, LabeledImage, Parsed
from components.intake.lookup import ImageLookup
from components.intake.sources import Export
from components.shared.errors import InvalidInput

NOT_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt", "obj.names", "readme.txt"}


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
    named = [name for name in export.names() if "/" not in name]
    yamls = [name for name in named if name.endswith((".yaml", ".yml"))]
    lists = [name for name in ("classes.txt", "obj.names") if name in named]
    return (sorted(yamls, key=lambda name: (not name.startswith("data."), name)) + lists + [""])[0]


def _class_names(export: Export, file: str) -> tuple[str, ...]:
    text = export.read(file).decode("utf-8", errors="replace")
    if not file.endswith((".yaml", ".yml")):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        names = (yaml.safe_load(text) or {}).get("names")
    except (yaml.YAMLError, AttributeError) as fault:
        raise InvalidInput(f"{export.where}/{file}: no valid YAML, expected `names`") from fault
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise InvalidInput(f"{export.where}/{file}: names is {names!r}, expected a list or an index: name map from 0")
    return tuple(str(name) for name in names)


def _is_label_file(name: str) -> bool:
    return name.endswith(".txt") and PurePosixPath(name).name.lower() not in NOT_LABELS


def _images(export: Export, class_names: tuple[str, ...]) -> Iterator[LabeledImage]:
    lookup = ImageLookup(export)
    label_files = {str(PurePosixPath(name).with_suffix("")): name for name in export.names() if _is_label_file(name)}
    for image in lookup.names():
        label_file = label_files.pop(_label_stem(image), "")
        if not label_file:
            message = "no label file; a background needs an empty one"
            yield LabeledImage(image, image, findings=(Finding(image, "", Code.LBL_MISSING, QUARANTINED, message),))
            continue
        yield _image(image, label_file, export.read(label_file), class_names)
    for label_file in label_files.values():
        rows = [line for line in export.read(label_file).splitlines() if line.strip()]
        message = f"{len(rows)} rows, but no image of that name"
        findings = tuple(
            Finding(label_file, f"line {at}", Code.IMG_MISSING, QUARANTINED, message) for at in range(1, len(rows) + 1)
        )
        yield LabeledImage(label_file, "", findings=findings)


def _label_stem(image: str) -> str:
    """images/train/a.jpg is labeled by labels/train/a.txt (the last `images` counts), else by the .txt beside it."""
    parts = list(PurePosixPath(image).with_suffix("").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return "/".join(parts)


def _image(image: str, label_file: str, data: bytes, class_names: tuple[str, ...]) -> LabeledImage:
    labels, findings = [], []
    for number, line in enumerate(data.decode("utf-8", errors="replace").lstrip("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        label = _label(f"line {number}", line.split(), class_names)
        if isinstance(label, Label):
            labels.append(label)
        else:
            findings.append(Finding(image, f"line {number}", label[0], QUARANTINED, label[1]))
    return LabeledImage(image, image, tuple(labels), relative=True, findings=tuple(findings))


def _label(row: str, fields: list[str], class_names: tuple[str, ...]) -> Label | tuple[Code, str]:
    if len(fields) != 5:
        return Code.BOX_SHAPE, f"{len(fields)} fields, expected 5: class x_centre y_centre width height"
    try:
        index, x, y, width, height = (float(value) for value in fields)
    except ValueError:
        return Code.BOX_SHAPE, f"{' '.join(fields)!r}, expected 5 numbers"
    if not index.is_integer() or not 0 <= index < len(class_names):
        return Code.CLS_UNKNOWN, f"class index {fields[0]}, expected 0 to {len(class_names) - 1}"
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return Label(row, class_names[int(index)], box)
