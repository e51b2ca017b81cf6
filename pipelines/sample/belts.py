"""What the parts lie on: brushed steel, rubber, and photographic textures that scikit-image ships."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from components.shared.errors import MissingCapability

BeltKind = Literal["brushed", "rubber", "brick", "gravel", "grass"]


def belt_texture(kind: BeltKind, size_px: int, colour: tuple[float, float, float], seed: int) -> np.ndarray:
    """A belt once round: (size_px, W, 3) float32 BGR reflectance; its second half mirrors the first, so no seam.

    Raises:
        MissingCapability: a photographic belt is asked for and scikit-image is not installed.
    """
    rng = np.random.default_rng(seed)
    paint = {"brushed": _brushed, "rubber": _rubber}.get(kind)
    relief = paint(size_px, rng) if paint else _photograph(kind, size_px, rng)
    relief += 0.04 * smooth_noise(rng, relief.shape, size_px // 6)
    relief = np.hstack([relief, relief[:, ::-1]])
    return np.clip(relief[..., None] * np.array(colour, np.float32), 0.01, 1).astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], grain_px: float) -> np.ndarray:
    """Noise with mean 0 and deviation about 1 whose blotches are about `grain_px` across: `shape` float32."""
    coarse = tuple(max(2, int(np.ceil(side / max(grain_px, 1)))) + 1 for side in shape[:2])
    noise = rng.standard_normal(coarse, dtype=np.float32)
    return cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _brushed(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Brushed steel: streaks along the belt and a few scratches across it."""
    shape = (size_px, 2 * size_px)
    streaks = cv2.resize(rng.standard_normal((size_px, 16), dtype=np.float32), shape[::-1])
    fine = cv2.blur(rng.standard_normal(shape, dtype=np.float32), (size_px // 8 | 1, 1)) * np.sqrt(size_px / 8)
    relief = 1 + 0.05 * streaks + 0.07 * fine
    for _ in range(int(rng.integers(2, 9))):
        start = rng.integers(0, shape[::-1], 2)
        end = start + rng.normal(0, size_px / 4, 2).astype(int)
        cv2.line(relief, start.tolist(), end.tolist(), float(rng.uniform(0.8, 1.25)), 1, cv2.LINE_AA)
    return relief


def _rubber(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """A woven rubber belt: a fine diamond pattern, worn unevenly."""
    pitch = size_px * rng.uniform(0.02, 0.035)
    y, x = np.mgrid[0:size_px, 0 : 2 * size_px].astype(np.float32)
    weave = np.cos((x + y) * np.pi / pitch) + np.cos((x - y) * np.pi / pitch)
    grain = rng.standard_normal(weave.shape, dtype=np.float32)
    return 1 + 0.05 * weave + 0.06 * grain + 0.05 * smooth_noise(rng, weave.shape, size_px / 3)


def _photograph(kind: str, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """A strip of a photograph at random magnification, its contrast brought to a belt's."""
    photograph = _shipped_texture(kind)
    cut = int(rng.integers(240, 400))
    top = int(rng.integers(0, len(photograph) - cut))
    strip = photograph[top : top + cut, :: 1 if rng.random() < 0.5 else -1]
    zoom = size_px / cut
    relief = cv2.resize(strip, (round(strip.shape[1] * zoom), size_px), interpolation=cv2.INTER_AREA)
    return 1 + (relief - relief.mean()) * np.float32(rng.uniform(0.9, 1.4))


@lru_cache(maxsize=3)
def _shipped_texture(kind: str) -> np.ndarray:
    """One of the grey 512 x 512 photographs inside scikit-image's wheel, in [0, 1]; nothing is fetched."""
    package = find_spec("skimage")
    path = Path(package.origin).parent / "data" / f"{kind}.png" if package and package.origin else Path()
    if not path.is_file():
        raise MissingCapability(f"belt texture {kind!r}: expected it inside the package scikit-image (extra `data`)")
    photograph = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert photograph is not None
    return photograph.astype(np.float32) / 255
