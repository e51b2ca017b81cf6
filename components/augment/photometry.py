"""What light, lens and codec do to an image; boxes stay where they are."""

from collections.abc import Callable

import cv2
import numpy as np

Draw = np.random.Generator


def night(image: np.ndarray, draw: Draw) -> np.ndarray:
    """A dark exposure with a colour cast and the sensor noise that comes with it."""
    light = image.astype(np.float32) * draw.uniform(0.2, 0.5) * draw.uniform(0.8, 1.2, 3).astype(np.float32)
    return _bytes(light + draw.uniform(4, 10) * draw.standard_normal(image.shape, np.float32))


def motion_blur(image: np.ndarray, draw: Draw) -> np.ndarray:
    """A straight movement of up to 4 % of the image while the shutter was open."""
    length = max(3, round(max(image.shape[:2]) * draw.uniform(0.01, 0.04)) | 1)
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), draw.uniform(0, 180), 1)
    kernel = cv2.warpAffine(line, turn, (length, length))
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def noise(image: np.ndarray, draw: Draw) -> np.ndarray:
    """Sensor noise as at a high gain."""
    return _bytes(image + draw.uniform(6, 20) * draw.standard_normal(image.shape, np.float32))


def compression(image: np.ndarray, draw: Draw) -> np.ndarray:
    """Blocks and ringing of a camera that saves bandwidth."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(draw.integers(15, 45))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def fog(image: np.ndarray, draw: Draw) -> np.ndarray:
    """Haze, thicker to one side."""
    height, width = image.shape[:2]
    near, far = draw.uniform(0.15, 0.65, 2)
    ramp = np.linspace(near, far, width if draw.random() < 0.5 else height, dtype=np.float32)
    veil = ramp[None, :, None] if len(ramp) == width else ramp[:, None, None]
    return _bytes(image * (1 - veil) + draw.uniform(170, 230) * veil)


PHOTOMETRY: dict[str, Callable[[np.ndarray, Draw], np.ndarray]] = {
    "night": night,
    "motion-blur": motion_blur,
    "noise": noise,
    "compression": compression,
    "fog": fog,
}


def _bytes(light: np.ndarray) -> np.ndarray:
    return light.clip(0, 255).astype(np.uint8)
