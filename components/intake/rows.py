"""Admitted candidates as rows of the next segment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.intake.batch import Candidate
from components.intake.labels import text
from components.shared.dataset import ROW_SCHEMA


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate with the flags, group, split, source and batch that it enters with."""

    candidate: Candidate
    flags: list[str]
    group: str
    split: str
    source: str
    batch: str


def rows_table(rows: Sequence[Row], origin: str, added_at: str) -> pa.Table:
    """The rows as a table of ROW_SCHEMA, in order; boxes go from array to array without passing Python lists."""
    candidates = [row.candidate for row in rows]
    columns: dict[str, pa.Array | list] = {
        name: [getattr(one, name) for one in candidates]
        for name in ("image_sha256", "format", "width_px", "height_px", "phash", "class_ids")
    }
    columns |= {
        "boxes": _boxes([one.boxes for one in candidates]),
        "flags": [row.flags for row in rows],
        "group": [text(row.group) for row in rows],
        "split": [row.split for row in rows],
        "origin": [origin] * len(rows),
        "source": [text(row.source) for row in rows],
        "batch": [text(row.batch) for row in rows],
        "tags": [list(one.tags.items()) for one in candidates],
        "added_at": [added_at] * len(rows),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in ROW_SCHEMA], schema=ROW_SCHEMA)


def _boxes(boxes: list[np.ndarray]) -> pa.Array:
    corners = np.concatenate([np.empty((0, 4), np.float32), *boxes]).ravel()
    ends = np.cumsum([0, *(len(one) for one in boxes)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.FixedSizeListArray.from_arrays(pa.array(corners), 4))
