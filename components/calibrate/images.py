"""Image files as the network takes them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from components.shared.errors import InvalidInput


def network_inputs(images: Iterable[Path], size_px: tuple[int, int]) -> Iterator[np.ndarray]:
    """Each image as (1, 3, H, W) float32 in [0, 1], letterboxed as in serving.

    Raises:
        InvalidInput: an image cannot be read.
    """
    from components.shared.detection import preprocess

    for path in images:
        yield preprocess([read_image(path)], size_px)


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, blue first.

    Raises:
        InvalidInput: the file is no image.
    """
    import cv2

    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InvalidInput(f"image {path}: cannot be read, expected JPEG, PNG, BMP or WebP")
    return image
