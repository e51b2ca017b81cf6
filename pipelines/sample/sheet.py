"""A contact sheet: scenes side by side with their boxes drawn, to look at."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.sample.factory import Scene
from pipelines.sample.parts import CLASS_NAMES

CLASS_COLOURS = ((60, 60, 240), (70, 220, 70), (240, 140, 50), (40, 220, 240))


def contact_sheet(scenes: Sequence[Scene], columns: int, zoom: int = 1) -> np.ndarray:
    """Tile `scenes` row by row, each box with its class name's colour and initial: (H, W, 3) uint8 BGR."""
    tiles = [_framed(scene, zoom) for scene in scenes]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def _framed(scene: Scene, zoom: int) -> np.ndarray:
    tile = cv2.resize(scene.image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    for box, class_id in zip(scene.boxes * zoom, scene.class_ids, strict=True):
        x0, y0, x1, y1 = (round(float(side)) for side in box)
        colour = CLASS_COLOURS[class_id]
        cv2.rectangle(tile, (x0, y0), (x1 - 1, y1 - 1), colour, 1)
        cv2.putText(tile, CLASS_NAMES[class_id], (x0, max(8, y0 - 2)), cv2.FONT_HERSHEY_SIMPLEX, 0.3, colour, 1)
    return tile
