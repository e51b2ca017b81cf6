"""The four parts as height fields: what a bolt, a nut, a washer and a gear look like from above."""

from dataclasses import dataclass

import numpy as np

CLASS_NAMES = ("bolt", "nut", "washer", "gear")
CLASS_SHARES = (0.34, 0.28, 0.26, 0.12)  # gears are rare on purpose: oversampling has something to do
CLASS_SIZES_PX = ((30, 76), (22, 62), (18, 66), (30, 74))  # longest side at 192 px
Grid = np.ndarray


@dataclass(frozen=True, eq=False)
class Shape:
    """One part alone: `height` (H, W) float32 in pixels above what it lies on, 0 outside; `mask` (H, W) bool."""

    height: Grid
    mask: Grid


def carve(class_id: int, length_px: float, angle: float, squeeze: float, rng: np.random.Generator) -> Shape:
    """Carve one part into a square patch that just holds it.

    Args:
        class_id: Index into `CLASS_NAMES`.
        length_px: Longest side before the camera's tilt.
        angle: Turn on the belt in radians.
        squeeze: Foreshortening of the y axis by the camera's tilt, in (0, 1].
        rng: Draws the part's own proportions.
    """
    radius = length_px / 2
    half = int(np.ceil(radius)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    y /= squeeze
    u = (x * np.cos(angle) + y * np.sin(angle)) / radius
    v = (y * np.cos(angle) - x * np.sin(angle)) / radius
    height, mask = (_bolt, _nut, _washer, _gear)[class_id](u.astype(np.float32), v.astype(np.float32), rng)
    return Shape(np.where(mask, np.maximum(height, 0.02) * radius, 0).astype(np.float32), mask)


def _bolt(u: Grid, v: Grid, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Lying on its side: a hexagonal or domed head at u = -1, then a shank that is threaded to its tip."""
    head_length, head_half = rng.uniform(0.24, 0.36), rng.uniform(0.34, 0.46)
    shank_half = head_half * rng.uniform(0.48, 0.6)
    thread_start = rng.uniform(-0.5, 0.2) if rng.random() < 0.35 else -0.9
    thread = np.where(u > thread_start, _thread(u + 0.12 * v, rng.uniform(0.11, 0.16)), 0)
    taper = np.clip((1.0 - u) / 0.1, 0.55, 1)
    half = shank_half * taper * (1 - 0.2 * thread)
    shank = np.sqrt(np.clip(half**2 - v**2, 0, None)) * 1.1
    in_shank = (np.abs(v) < half) & (u > -1 + head_length * 0.5) & (u < 0.99)
    head, in_head = (_hex_head if rng.random() < 0.65 else _dome_head)(u, v, head_length, head_half)
    return np.maximum(np.where(in_shank, shank, 0), np.where(in_head, head, 0)), in_shank | in_head


def _thread(along: Grid, pitch: float) -> Grid:
    """Triangle wave in [0, 1]: 0 on the crest, 1 in the root."""
    return 2 * np.abs(along / pitch - np.floor(along / pitch + 0.5))


def _hex_head(u: Grid, v: Grid, length: float, half: float) -> tuple[Grid, Grid]:
    """A hexagonal head from the side: one facet on top, two that fall away, a chamfer at the outer end."""
    fall = np.clip(np.abs(v) / half - 0.5, 0, None) * 1.2
    chamfer = np.clip(-0.93 - u, 0, None) * 2.5
    inside = (u > -0.99 + np.clip(np.abs(v) / half - 0.55, 0, None) * 0.12) & (u < -1 + length) & (np.abs(v) < half)
    return half * (1.05 - fall) - chamfer, inside


def _dome_head(u: Grid, v: Grid, length: float, half: float) -> tuple[Grid, Grid]:
    """A rounded (pan) head from the side: an ellipse cut off where the shank begins."""
    reach = ((u + 1 - length) / length) ** 2 + (v / half) ** 2
    inside = (reach < 1) & (u < -1 + length)
    return half * 1.1 * np.sqrt(np.clip(1 - reach, 0, None)), inside


def _nut(u: Grid, v: Grid, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """A hexagon minus a threaded hole; every side has its own sloping facet, so that six edges are seen."""
    across = np.sqrt(3) / 2
    edge = across - np.max(
        [np.abs(u * np.cos(t) + v * np.sin(t)) for t in np.pi / 6 + np.arange(3) * np.pi / 3], axis=0
    )
    r = np.hypot(u, v)
    hole = rng.uniform(0.4, 0.48)
    thick, facet = rng.uniform(0.4, 0.55), rng.uniform(0.14, 0.2)
    height = thick - np.clip(facet - edge, 0, None) * 1.5
    countersink = np.clip(hole + 0.12 - r, 0, None) * 1.6
    return height - countersink - 0.03 * _thread(r, 0.06) * (r < hole + 0.12), (edge > 0) & (r > hole)


def _washer(u: Grid, v: Grid, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """A thin flat ring with turned edges and faint turning marks; some are dished or split."""
    r = np.hypot(u, v)
    hole = rng.uniform(0.42, 0.62)
    thick, edge = rng.uniform(0.08, 0.13), np.minimum(r - hole, 1 - r)
    height = thick - np.clip(0.05 - edge, 0, None) * 1.2 + 0.004 * _thread(r, 0.09)
    if rng.random() < 0.3:
        height = height + 0.18 * (1 - r)
    mask = edge > 0
    if rng.random() < 0.2:
        mask &= ~((u > 0) & (np.abs(v - 0.25 * (u - 0.8)) < 0.05))
    return height, mask


def _gear(u: Grid, v: Grid, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Trapezoid teeth on a rim, a lower web (solid or with holes), a hub and its bore."""
    r, theta = np.hypot(u, v), np.arctan2(v, u)
    teeth, root, bore = int(rng.integers(10, 19)), rng.uniform(0.78, 0.84), rng.uniform(0.16, 0.26)
    rim, hub, thick = root - rng.uniform(0.12, 0.2), bore + rng.uniform(0.12, 0.18), rng.uniform(0.22, 0.32)
    tooth = np.clip(0.5 + 1.3 * np.cos(teeth * theta), 0, 1)
    edge = root + (1 - root) * tooth - r
    web = thick - 0.14 * np.clip((rim - r) / 0.05, 0, 1) * np.clip((r - hub) / 0.05, 0, 1)
    height = web + 0.07 * np.clip((hub - r) / 0.04, 0, 1) - np.clip(0.06 - edge, 0, None) * 1.5
    height = height - np.clip(0.05 - (r - bore), 0, None) * 1.5
    mask = (edge > 0) & (r > bore)
    if rng.random() < 0.4:
        mask &= ~_lightening_holes(u, v, (rim + hub) / 2, (rim - hub) * 0.36, int(rng.integers(4, 7)))
    return height, mask


def _lightening_holes(u: Grid, v: Grid, ring: float, radius: float, count: int) -> Grid:
    centres = np.arange(count) * 2 * np.pi / count
    distances = [np.hypot(u - ring * np.cos(t), v - ring * np.sin(t)) for t in centres]
    return np.min(distances, axis=0) < radius
