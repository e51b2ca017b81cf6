"""When and through which camera a frame is taken: cameras, sessions, day and night."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from pipelines.sample.belts import BeltKind

Shift = Literal["day", "night"]
SHIFTS: tuple[Shift, ...] = ("day", "night")
SITE = "plant-a"
FRAMES_PER_SESSION_PAIR = 30
FILE_NAME_PATTERN = r"(?P<session>(?P<shift>day|night)_(?P<camera>cam\d+)_s\d+)_\d{6}"


@dataclass(frozen=True)
class Camera:
    """What never changes about one camera: its belt, its optics, its white balance (BGR gains)."""

    name: str
    belt: BeltKind
    belt_colour: tuple[float, float, float]
    scale: float
    tilt_deg: float
    white_balance: tuple[float, float, float]
    blur_px: float


CAMERAS = (
    Camera("cam1", "brushed", (0.40, 0.39, 0.38), 1.0, 0, (1.00, 1.00, 1.00), 0.5),
    Camera("cam2", "rubber", (0.17, 0.24, 0.15), 0.85, 18, (0.93, 1.00, 1.06), 0.6),
    Camera("cam3", "brick", (0.34, 0.31, 0.29), 1.1, 10, (1.07, 1.00, 0.94), 0.5),
    Camera("cam4", "gravel", (0.36, 0.36, 0.39), 0.9, 25, (1.02, 0.97, 1.02), 0.7),
    Camera("cam5", "rubber", (0.13, 0.12, 0.12), 1.05, 5, (1.10, 1.02, 0.90), 0.45),
    Camera("cam6", "grass", (0.42, 0.43, 0.42), 0.95, 14, (0.96, 1.00, 1.03), 0.55),
)


@dataclass(frozen=True)
class Session:
    """10 to 20 consecutive frames of one camera under one light; `light` points from the belt to the lamp."""

    shift: Shift
    number: int
    frame: int
    camera: Camera
    light: tuple[float, float, float]
    light_colour: tuple[float, float, float]
    light_slope: tuple[float, float]
    ambient: float
    exposure: float
    noise: float
    motion_px: float
    belt_seed: int
    belt_speed: float

    @property
    def name(self) -> str:
        """As file names begin: day_cam1_s003."""
        return f"{self.shift}_{self.camera.name}_s{self.number:03d}"


def session_of(seed: int, shift: Shift, index: int) -> Session:
    """The session that frame `index` of a shift belongs to; numbers of different seeds do not meet."""
    pair, within = divmod(index, FRAMES_PER_SESSION_PAIR)
    first_length = int(_rng(seed, shift, pair, 1).integers(10, 21))
    second = within >= first_length
    number = 2 * pair + second
    rng = _rng(seed, shift, number, 2)
    every_camera, turn = divmod(number, len(CAMERAS))  # each once before one comes again
    camera = CAMERAS[_rng(seed, shift, every_camera, 3).permutation(len(CAMERAS))[turn]]
    frame = within - first_length if second else within
    return Session(
        shift,
        seed * 1000 + number,
        frame,
        camera,
        **_light(rng, shift),
        belt_seed=int(rng.integers(2**31)),
        belt_speed=float(rng.uniform(0.1, 0.35)),
    )


def captured_at(seed: int, session: Session) -> str:
    """When a frame was taken, ISO 8601: sessions every 80 s from the start of the shift, frames every 2 s."""
    opens, hours = (6, 16) if session.shift == "day" else (22, 8)
    days, slot = divmod(session.number - seed * 1000, hours * 45)
    start = datetime(2026, 3, 2, opens) + timedelta(days=seed % 365 + days, seconds=80 * slot + 2 * session.frame)
    return start.isoformat()


def _light(rng: np.random.Generator, shift: Shift) -> dict:
    """Lamps, exposure, noise and blur of one session."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(38, 62))
    flat = np.cos(elevation)
    light = (float(flat * np.cos(azimuth)), float(flat * np.sin(azimuth)), float(np.sin(elevation)))
    if shift == "day":
        warmth = rng.normal(0, 0.03)
        return {
            "light": light,
            "light_colour": (1 - warmth, 1.0, 1 + warmth),
            "light_slope": _slope(rng, 0.2),
            "ambient": float(rng.uniform(0.35, 0.5)),
            "exposure": float(rng.uniform(0.9, 1.25)),
            "noise": float(rng.uniform(0.004, 0.012)),
            "motion_px": float(rng.uniform(0, 1.2)),
        }
    casts = ((0.35, 0.8, 1.3), (1.4, 0.95, 0.6), (0.7, 1.25, 0.75))  # sodium lamp, cold LED, old fluorescent tube
    return {
        "light": light,
        "light_colour": casts[int(rng.integers(3))],
        "light_slope": _slope(rng, 0.45),
        "ambient": float(rng.uniform(0.25, 0.4)),
        "exposure": float(rng.uniform(0.22, 0.48)),
        "noise": float(rng.uniform(0.012, 0.026)),
        "motion_px": float(rng.uniform(1.5, 5)),
    }


def _slope(rng: np.random.Generator, most: float) -> tuple[float, float]:
    """How much brighter the light is from one side of the image to the other, along x and y."""
    return float(rng.uniform(-most, most)), float(rng.uniform(-most, most))


def _rng(seed: int, shift: Shift, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, SHIFTS.index(shift), number, purpose])
