"""Parts strewn over a belt: where each lies, what of it is seen, and the relief they make together."""

from dataclasses import dataclass

import numpy as np

from pipelines.sample.parts import CLASS_NAMES, CLASS_SHARES, CLASS_SIZES_PX, Shape, carve
from pipelines.sample.shifts import Session
from pipelines.sample.surfaces import Relief, metal_skin

LEAST_VISIBLE = 0.35
LEAST_SIDE = 14 / 192
BACKGROUND_ONLY = 0.06


@dataclass(frozen=True, eq=False)
class Placed:
    """A part where it lies: `left`, `top` of its patch in the oversampled image (may be negative)."""

    class_id: int
    shape: Shape
    left: int
    top: int


def scatter(session: Session, side: int, rng: np.random.Generator) -> list[Placed]:
    """Parts strewn over the belt, in the order they fell; some of them near another one."""
    if rng.random() < BACKGROUND_ONLY:
        return []
    squeeze = float(np.cos(np.deg2rad(session.camera.tilt_deg)))
    parts: list[Placed] = []
    for _ in range(1 + min(int(rng.poisson(2.6)), 7)):
        class_id = int(rng.choice(len(CLASS_NAMES), p=CLASS_SHARES))
        smallest, largest = CLASS_SIZES_PX[class_id]
        length = np.clip(rng.uniform(smallest, largest) * session.camera.scale, 16, 78) * side / 192
        shape = carve(class_id, float(length), float(rng.uniform(0, 2 * np.pi)), squeeze, rng)
        x, y = rng.uniform(0.04, 0.96, 2) * side
        if parts and rng.random() < 0.3:
            near = parts[int(rng.integers(len(parts)))]
            x, y = near.left + near.shape.mask.shape[1] / 2, near.top + near.shape.mask.shape[0] / 2
            x, y = (x, y) + rng.normal(0, 0.55, 2) * length
        left, top = int(x) - shape.mask.shape[1] // 2, int(y) - shape.mask.shape[0] // 2
        if left < side and top < side and left > -shape.mask.shape[1] and top > -shape.mask.shape[0]:
            parts.append(Placed(class_id, shape, left, top))
    return parts


def visible_parts(parts: list[Placed], side: int) -> list[Placed]:
    """The parts of which enough is seen: later ones lie on top of earlier ones, `side` is the image's in pixels.

    A part is left out when under 35 % of it is visible or its visible box is under 14 px (at 192 px): so no part is
    drawn without a label. Leaving one out only uncovers others.
    """
    owner = owners(parts, side)
    kept = []
    for number, part in enumerate(parts):
        seen = owner == number
        enough = seen.sum() >= LEAST_VISIBLE * part.shape.mask.sum()
        if enough and max(np.ptp(extent(seen).reshape(2, 2), axis=0)) >= LEAST_SIDE * side:
            kept.append(part)
    return kept


def owners(parts: list[Placed], side: int) -> np.ndarray:
    """Which part each pixel shows: (side, side) int16, the part's place in the list, -1 where there is belt."""
    owner = np.full((side, side), -1, np.int16)
    for number, part in enumerate(parts):
        image, patch = _overlap(part, side)
        owner[image][part.shape.mask[patch]] = number
    return owner


def extent(mask: np.ndarray) -> np.ndarray:
    """The box around a mask that is not empty: (4,) float32 xyxy, pixel edges."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def pile(parts: list[Placed], belt: np.ndarray, rng: np.random.Generator) -> Relief:
    """Belt and parts as one relief; a part that fell on another rests on it."""
    height = np.zeros(belt.shape[:2], np.float32)
    albedo, shine = belt.copy(), np.full(belt.shape[:2], 0.06, np.float32)
    for part in parts:
        skin, gloss = metal_skin(part.shape.mask, rng)
        image, patch = _overlap(part, belt.shape[0])
        mask = part.shape.mask[patch]
        rests_on = 0.6 * height[image][mask].max(initial=0)
        height[image][mask] = part.shape.height[patch][mask] + rests_on
        albedo[image][mask], shine[image][mask] = skin[patch][mask], gloss[patch][mask]
    return Relief(height, albedo, shine)


def _overlap(part: Placed, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a part's patch meets the image: the slices into the image and into the patch."""
    height, width = part.shape.mask.shape
    y0, y1, x0, x1 = max(part.top, 0), min(part.top + height, side), max(part.left, 0), min(part.left + width, side)
    patch = (slice(y0 - part.top, y1 - part.top), slice(x0 - part.left, x1 - part.left))
    return (slice(y0, y1), slice(x0, x1)), patch
