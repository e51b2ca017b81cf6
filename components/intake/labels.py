"""What every parser yields: one labeled image as the export tells it, nothing checked or repaired yet."""

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from components.intake.findings import QUARANTINED, Code, Finding

Box = tuple[float, float, float, float]
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Label:
    """One label row.

    `box` is x0 y0 x1 y1 before rotation, in pixels, or in shares of the image when the image is `relative`.
    It is turned clockwise by `rotation_deg` about its centre (CVAT) or its first corner (Label Studio).
    """

    row: str
    class_name: str
    box: Box
    rotation_deg: float = 0.0
    pivot: Literal["centre", "corner"] = "centre"


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """One image of an export: `file` is its member name there (empty: not found), sizes are 0 where not told."""

    source: str
    file: str
    labels: tuple[Label, ...] = ()
    relative: bool = False
    width_px: int = 0
    height_px: int = 0
    rescale: bool = False
    """Swapped declared sizes mean stretched boxes (Label Studio's pixel exports), not boxes of the unturned photo."""
    tags: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    """What the parser already quarantined (or repaired) of this image."""
    listed: bool = True
    """False for a file beside an index that does not name it: told about, but no row of the export."""

    @property
    def rows(self) -> tuple[str, ...]:
        """Label rows told for this image; an image without any is one row, for it states a background."""
        if not self.listed:
            return ()
        told = dict.fromkeys([label.row for label in self.labels] + [found.row for found in self.findings if found.row])
        return tuple(told) or ("image",)


@dataclass(frozen=True)
class Parsed:
    """An export, opened: the classes it declares (empty: it declares none) and its images, read as they are asked for.

    `by_index` says that the order of `class_names` gives the labels their meaning. `names_seen` reads the whole export
    for the class names that its labels use: asked only where nothing is declared or registered yet.
    """

    class_names: tuple[str, ...]
    by_index: bool
    images: Iterator[LabeledImage]
    names_seen: Callable[[], set[str]] = set


def refused(source: str, code: Code, message: str) -> LabeledImage:
    """An image that the parser itself must quarantine."""
    return LabeledImage(source, "", findings=(Finding(source, "", code, QUARANTINED, message),))


def unlisted(names: Iterable[str], used: Container[str]) -> Iterator[LabeledImage]:
    """Images that lie in the export but that its index does not name: not negatives, and not rows either."""
    for name in names:
        if name not in used:
            finding = Finding(
                name, "", Code.LBL_MISSING, QUARANTINED, "the export's label file does not name this image"
            )
            yield LabeledImage(name, "", findings=(finding,), listed=False)


def number(value: Any) -> float:
    """`value` as a float; NaN when it is no number (a box of it is quarantined as such)."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def side_px(value: Any) -> int:
    """A declared width or height; 0, not told, when it is no positive whole number."""
    side = number(value)
    return int(side) if 0 < side < 1e6 and side.is_integer() else 0


def text(value: Any) -> str:
    """`value` as text that any file and table can hold: valid Unicode, of bounded length."""
    told = value if isinstance(value, str) else str(value)
    return told.encode("utf-8", "replace").decode("utf-8")[:MAX_TEXT]


def tag_values(pairs: Mapping[Any, Any]) -> dict[str, str]:
    """The plain values of `pairs` as tags; nested ones, empty ones and null carry none."""
    plain = {key: value for key, value in pairs.items() if isinstance(value, str | int | float) and value != ""}
    return {text(key): text(value) for key, value in plain.items()}


def hull_of(points: list[tuple[float, float]]) -> Box:
    """Smallest box around `points`, of which there is at least one."""
    xs, ys = zip(*points, strict=True)
    finite = all(math.isfinite(value) for value in (*xs, *ys))
    return (min(xs), min(ys), max(xs), max(ys)) if finite else (math.nan,) * 4
