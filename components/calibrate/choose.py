"""Calibration images chosen on purpose: a seeded draw that goes round classes, shifts, cameras and box sizes."""

from collections import defaultdict

import numpy as np
import pyarrow as pa

from components.shared.errors import InvalidInput

SMALL_SHARE, LARGE_SHARE = 0.01, 0.1
"""Share of the image that a box covers: below it is small, above it is large."""


def choose_images(rows: pa.Table, count: int, held_out: int, seed: int) -> tuple[pa.Table, pa.Table]:
    """Rows to calibrate on and rows to compare on, without an image in common.

    Args:
        rows: Rows of the split `train` only.
        count: Images wanted for calibration; all but a fifth where the table is small.
        held_out: Images wanted for the comparison.
        seed: Decides the draw.

    Raises:
        InvalidInput: fewer than two rows, or a row of another split.
    """
    if foreign := sorted(set(rows["split"].to_pylist()) - {"train"}):
        raise InvalidInput(f"calibration images: got rows of {foreign}, expected train rows only")
    if rows.num_rows < 2:
        raise InvalidInput(f"calibration images: got {rows.num_rows} train images, expected at least 2")
    order = _round_robin(rows, seed)
    count = max(1, min(count, rows.num_rows - min(held_out, max(1, rows.num_rows // 5))))
    return rows.take(order[:count]), rows.take(order[count : count + held_out])


def _round_robin(rows: pa.Table, seed: int) -> list[int]:
    """Every row once, one of each stratum in turn."""
    random = np.random.default_rng(seed)
    strata: dict[tuple, list[int]] = defaultdict(list)
    described = rows.select(["class_ids", "boxes", "width_px", "height_px", "tags"]).to_pylist()
    for position in random.permutation(rows.num_rows):
        strata[_stratum(described[position])].append(int(position))
    keys = sorted(strata)
    queues = [strata[keys[place]] for place in random.permutation(len(keys))]
    order: list[int] = []
    while queues:
        order.extend(queue.pop() for queue in queues)
        queues = [queue for queue in queues if queue]
    return order


def _stratum(row: dict) -> tuple:
    tags = dict(row["tags"] or ())
    return (
        tuple(sorted(set(row["class_ids"] or ()))),
        _size_band(row),
        tags.get("shift", ""),
        tags.get("camera", ""),
    )


def _size_band(row: dict) -> str:
    boxes = np.asarray(row["boxes"] or [], float).reshape(-1, 4)
    if not len(boxes):
        return "none"
    shares = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / (row["width_px"] * row["height_px"])
    median = float(np.median(shares))
    return "small" if median < SMALL_SHARE else "large" if median > LARGE_SHARE else "middle"
