"""What every parser yields: one labeled image as the export tells it, nothing checked or repaired yet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from components.intake.findings import Finding


@dataclass(frozen=True)
class Label:
    """One label row.

    `box` is x0 y0 x1 y1 before rotation, in pixels, or in shares of the image when the image is `relative`.
    It is turned clockwise by `rotation_deg` about its centre (CVAT) or its first corner (Label Studio).
    """

    row: str
    class_name: str
    box: tuple[float, float, float, float]
    rotation_deg: float = 0.0
    pivot: Literal["centre", "corner"] = "centre"


@dataclass(frozen=True)
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

    @property
    def rows(self) -> tuple[str, ...]:
        """Label rows told for this image; an image without any is one row, for it states a background."""
        told = dict.fromkeys([label.row for label in self.labels] + [found.row for found in self.findings if found.row])
        return tuple(told) or ("image",)


@dataclass(frozen=True)
class Parsed:
    """An export, opened: the classes it declares (empty: it declares none) and its images, read as they are asked for.

    `by_index` says that the order of `class_names` gives the labels their meaning.
    """

    class_names: tuple[str, ...]
    by_index: bool
    images: Iterator[LabeledImage]
