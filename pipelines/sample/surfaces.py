"""From heights and materials to light: normals, Lambert and specular shading, cast shadow, rust."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.sample.belts import smooth_noise
from pipelines.sample.shifts import Session

# Reflectance (BGR), strength of the highlight, share of the parts.
METALS = (
    ((0.50, 0.50, 0.49), 0.85, 0.36),  # steel
    ((0.64, 0.64, 0.64), 1.0, 0.16),  # bright zinc
    ((0.16, 0.42, 0.60), 0.9, 0.24),  # brass
    ((0.105, 0.10, 0.10), 0.45, 0.24),  # black oxide
)
RUST = np.array((0.06, 0.16, 0.32), np.float32)


@dataclass(frozen=True)
class Relief:
    """A whole scene before light: height (H, W) px, albedo (H, W, 3) BGR in [0, 1], shine (H, W) in [0, 1]."""

    height: np.ndarray
    albedo: np.ndarray
    shine: np.ndarray


def metal_skin(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (H, W, 3) and shine (H, W) of one part: a metal, stained, one in four rusty."""
    colour, shine, _ = METALS[int(rng.choice(len(METALS), p=[share for *_, share in METALS]))]
    stain = 1 + 0.05 * smooth_noise(rng, mask.shape, 7) + 0.03 * rng.standard_normal(mask.shape, dtype=np.float32)
    albedo = stain[..., None] * np.array(colour, np.float32) * np.float32(rng.uniform(0.85, 1.15))
    gloss = np.full(mask.shape, shine * rng.uniform(0.6, 1), np.float32)
    if rng.random() < 0.25:
        spots = smooth_noise(rng, mask.shape, mask.shape[0] / 6) + 0.6 * smooth_noise(rng, mask.shape, 3)
        rusty = np.clip((spots - rng.uniform(0.3, 1.3)) * 2, 0, 1)
        grain = 1 + 0.25 * smooth_noise(rng, mask.shape, 2)
        albedo += rusty[..., None] * (RUST * grain[..., None] - albedo)
        gloss *= 1 - 0.9 * rusty
    return albedo.astype(np.float32), gloss.astype(np.float32)


def shade(relief: Relief, session: Session) -> np.ndarray:
    """Light reaching the camera, (H, W, 3) float32 BGR, about 0 to 1 before exposure."""
    normals = _normals(relief.height)
    light = np.array(session.light, np.float32)
    lit = _lamp_pool(relief.height.shape, session) * (1 - 0.85 * _cast_shadow(relief.height, light))
    hidden = np.clip((cv2.blur(relief.height, (17, 17)) - relief.height) / 14, 0, 0.6)
    lambert = np.clip(_dot(normals, light), 0, None)
    fill = np.clip(_dot(normals, light * np.array((-1, -1, 1), np.float32)), 0, None)
    matte = lambert * lit + (session.ambient + 0.15 * fill) * (1 - hidden)
    highlight = relief.shine * (_gloss(normals, light) * lit + _surroundings(normals, light) * (1 - hidden))
    tint = 0.5 * relief.albedo + 0.3
    seen = relief.albedo * (matte * (1 - 0.25 * relief.shine))[..., None] + tint * highlight[..., None]
    return seen * np.array(session.light_colour, np.float32)


def _normals(height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit normals of the height field as three (H, W) float32 planes."""
    smooth = cv2.GaussianBlur(height, (0, 0), 0.8)
    nx, ny = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=-0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=-0.125)
    nz = 1 / np.sqrt(1 + nx * nx + ny * ny)
    return nx * nz, ny * nz, nz


def _dot(normals: tuple[np.ndarray, np.ndarray, np.ndarray], direction: np.ndarray) -> np.ndarray:
    return normals[0] * direction[0] + normals[1] * direction[1] + normals[2] * direction[2]


def _gloss(normals: tuple[np.ndarray, np.ndarray, np.ndarray], light: np.ndarray) -> np.ndarray:
    """Highlight after Blinn: the power 32 of the half vector's cosine, with a wide, weak skirt."""
    half = light + np.array((0, 0, 1), np.float32)
    cosine = np.clip(_dot(normals, half / np.linalg.norm(half)), 0, None)
    skirt = cosine**2
    skirt *= skirt
    skirt *= skirt
    sharp = skirt * skirt
    sharp *= sharp
    return 0.9 * sharp + 0.2 * skirt


def _surroundings(normals: tuple[np.ndarray, np.ndarray, np.ndarray], light: np.ndarray) -> np.ndarray:
    """What a polished face mirrors of the hall: bright towards the lamp's side, dark away from it."""
    nx, ny, nz = normals
    towards = 2 * nz * (nx * light[0] + ny * light[1])
    return 0.12 + 0.3 * np.clip(towards * 1.5, -0.4, 1)


def _lamp_pool(shape: tuple[int, ...], session: Session) -> np.ndarray:
    """Brightness of the lamp over the image: a slope along x and y."""
    across = np.linspace(-1, 1, shape[1], dtype=np.float32) * session.light_slope[0]
    down = np.linspace(-1, 1, shape[0], dtype=np.float32) * session.light_slope[1]
    return 1 + across[None, :] + down[:, None] * 0.8


def _cast_shadow(height: np.ndarray, light: np.ndarray) -> np.ndarray:
    """How far each pixel lies in the shadow of something taller towards the lamp: (H, W) in [0, 1], soft."""
    flat = float(np.hypot(light[0], light[1]))
    rise, reach = float(light[2]) / flat, float(height.max()) / (float(light[2]) / flat)
    margin = int(np.ceil(reach)) + 2
    padded = cv2.copyMakeBorder(height, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    roof = height.copy()
    for step in np.arange(1.5, reach, 2.0):
        dx, dy = round(step * float(light[0]) / flat), round(step * float(light[1]) / flat)
        window = padded[margin + dy : margin + dy + height.shape[0], margin + dx : margin + dx + height.shape[1]]
        np.maximum(roof, window - np.float32(step * rise), out=roof)
    return cv2.GaussianBlur(np.clip((roof - height) / 2.5, 0, 1), (0, 0), 1.6)
