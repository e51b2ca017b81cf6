"""Crops and pasted objects, with boxes that stay exact."""

from collections.abc import Sequence

import cv2
import numpy as np

Draw = np.random.Generator
TRIES = 20


def crop(image: np.ndarray, boxes: np.ndarray, draw: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window of the image that cuts no object in half.

    Args:
        image: (H, W, 3) uint8.
        boxes: (N, 4) float32 x0 y0 x1 y1 px.
        draw: Generator of this image.

    Returns:
        The window, its boxes in its own frame, and their indices in `boxes`; the whole image where no window is found.
    """
    height, width = image.shape[:2]
    for _ in range(TRIES):
        wide, high = (max(8, round(side * draw.uniform(0.45, 0.85))) for side in (width, height))
        x, y = int(draw.integers(0, width - wide + 1)), int(draw.integers(0, height - high + 1))
        inside = np.clip(boxes, [x, y, x, y], [x + wide, y + high] * 2)
        seen = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).clip(min=1e-6)
        if (seen > 0.99).any() and not ((seen > 0.01) & (seen <= 0.99)).any():
            kept = np.flatnonzero(seen > 0.99)
            return image[y : y + high, x : x + wide].copy(), inside[kept] - [x, y, x, y], kept
    return image, boxes, np.arange(len(boxes))


def paste(
    image: np.ndarray, boxes: np.ndarray, pieces: Sequence[np.ndarray], draw: Draw
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Set pieces (objects cut out by their boxes) onto places that hold none.

    Args:
        image: (H, W, 3) uint8; left as it is.
        boxes: (N, 4) float32 x0 y0 x1 y1 px of what is already there.
        pieces: (h, w, 3) uint8 each.
        draw: Generator of this image.

    Returns:
        The new image, (M, 4) boxes of the pieces that found a place, and the pieces' indices.
    """
    scene = image.copy()
    placed: list[np.ndarray] = []
    used: list[int] = []
    for index, piece in enumerate(pieces):
        if draw.random() < 0.5:
            piece = piece[:, ::-1]
        place = _free_place(scene.shape, piece.shape, np.concatenate([boxes, *placed]), draw)
        if place is None:
            continue
        x, y = place
        _blend(scene[y : y + piece.shape[0], x : x + piece.shape[1]], piece)
        placed.append(np.array([[x, y, x + piece.shape[1], y + piece.shape[0]]], np.float32))
        used.append(index)
    return scene, np.concatenate([np.zeros((0, 4), np.float32), *placed]), used


def _free_place(
    scene: tuple[int, ...], piece: tuple[int, ...], taken: np.ndarray, draw: Draw
) -> tuple[int, int] | None:
    if piece[0] >= scene[0] or piece[1] >= scene[1]:
        return None
    for _ in range(TRIES):
        x, y = int(draw.integers(0, scene[1] - piece[1])), int(draw.integers(0, scene[0] - piece[0]))
        apart = (taken[:, 0] >= x + piece[1]) | (taken[:, 2] <= x) | (taken[:, 1] >= y + piece[0]) | (taken[:, 3] <= y)
        if apart.all():
            return x, y
    return None


def _blend(under: np.ndarray, piece: np.ndarray) -> None:
    """Write `piece` over `under` in its light, its rim faded into what was there."""
    gain = float(np.clip((under.mean() + 8) / (piece.mean() + 8), 0.6, 1.6))
    rim = max(1, round(min(piece.shape[:2]) * 0.08))
    solid = np.zeros(piece.shape[:2], np.float32)
    solid[rim:-rim, rim:-rim] = 1
    share = cv2.blur(solid, (2 * rim + 1, 2 * rim + 1))[..., None]
    under[:] = (np.minimum(piece * gain, 255) * share + under * (1 - share)).astype(np.uint8)
