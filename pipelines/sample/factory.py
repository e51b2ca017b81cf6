"""Draw scenes and whole shifts of them: the same seed gives the same bytes, whatever the number of workers."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import cv2
import numpy as np

from components.shared.errors import InvalidInput
from components.shared.progress import progress
from pipelines.sample.belts import BeltKind, belt_texture
from pipelines.sample.exports import FORMATS, IMAGE_FOLDERS, Format, Frame, holds_export, whole_export, write_export
from pipelines.sample.parts import CLASS_NAMES
from pipelines.sample.piles import extent, owners, pile, scatter, visible_parts
from pipelines.sample.shifts import FRAMES_PER_SESSION_PAIR, SHIFTS, SITE, Session, Shift, captured_at, session_of
from pipelines.sample.surfaces import shade

VERSION = 2  # raise it when the same seed draws something else
OVERSAMPLING = 2
JPEG_QUALITY = 92


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame and its truth: `image` (H, W, 3) uint8 BGR, `boxes` (N, 4) float32 xyxy px, `class_ids` (N,) int64."""

    file_name: str
    image: np.ndarray
    boxes: np.ndarray
    class_ids: np.ndarray
    camera: str
    session: str
    shift: str
    captured_at: str


def draw_scene(seed: int, shift: Shift, index: int, size_px: int = 192) -> Scene:
    """Draw frame `index` of a shift.

    Raises:
        InvalidInput: the shift is unknown, or a number is negative or too small.
    """
    _check(seed, shift, index, size_px)
    session = session_of(seed, shift, index)
    rng = np.random.default_rng([seed, SHIFTS.index(shift), index, 0])
    side = size_px * OVERSAMPLING
    parts = visible_parts(scatter(session, side, rng), side)
    relief = pile(parts, _belt(session, side), rng)
    image = _expose(shade(relief, session), session, size_px, rng)
    owner = owners(parts, side)
    boxes = np.array([extent(owner == number) for number in range(len(parts))], np.float32).reshape(-1, 4)
    class_ids = np.array([part.class_id for part in parts], np.int64)
    name = f"{session.name}_{index:06d}.jpg"
    when = captured_at(seed, session)
    return Scene(name, image, boxes / OVERSAMPLING, class_ids, session.camera.name, session.name, shift, when)


def write_shift(
    folder: Path,
    shift: Shift,
    images: int,
    seed: int,
    format: Format = "coco",
    size_px: int = 192,
    workers: int = 0,
) -> Path:
    """Write one shift as a labeling tool would export it; a whole export of the same request is left as it is.

    Args:
        folder: Where the export comes to lie; whole or absent, even when the call is killed.
        shift: "day" or "night".
        images: How many frames.
        seed: Names the scenes together with the shift and the frame's index.
        format: The labeling tool's format.
        size_px: Side of the square images.
        workers: Processes; 0 takes one a core where the shift is large enough to gain from it.

    Raises:
        InvalidInput: an argument is out of range, or the folder holds somebody else's files.
    """
    _check(seed, shift, images, size_px)
    if format not in FORMATS:
        raise InvalidInput(f"sample format: got {format!r}, expected one of {', '.join(FORMATS)}")
    folder = Path(folder)
    request = {"shift": shift, "images": images, "seed": seed, "format": format, "size_px": size_px, "version": VERSION}
    if holds_export(folder, request):
        return folder
    with whole_export(folder, request) as beside:
        pictures = beside / IMAGE_FOLDERS[format]
        pictures.mkdir()
        draw = partial(_write_frame, pictures, seed, shift, size_px)
        frames = list(progress(_spread(draw, images, workers), f"draw {shift} shift", images))
        write_export(beside, format, frames, CLASS_NAMES)
    return folder


def _check(seed: int, shift: str, number: int, size_px: int) -> None:
    if shift not in SHIFTS:
        raise InvalidInput(f"sample shift: got {shift!r}, expected one of {', '.join(SHIFTS)}")
    if seed < 0 or number < 0 or not 64 <= size_px <= 1280:
        raise InvalidInput(
            f"sample: got seed={seed} number={number} size_px={size_px}, expected 0 or more and a side of 64 to 1280"
        )


def _belt(session: Session, side: int) -> np.ndarray:
    """The stretch of belt under the camera in this frame: (side, side, 3) float32 BGR reflectance."""
    texture = _session_belt(session.camera.belt, side, session.camera.belt_colour, session.belt_seed)
    start = int(session.frame * session.belt_speed * side) % texture.shape[1]
    return np.take(texture, np.arange(start, start + side), axis=1, mode="wrap")


@lru_cache(maxsize=2)
def _session_belt(kind: BeltKind, side: int, colour: tuple[float, float, float], seed: int) -> np.ndarray:
    return belt_texture(kind, side, colour, seed)


def _expose(light: np.ndarray, session: Session, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """What the sensor makes of the light: optics, motion, exposure, white balance, noise, 8 bits."""
    image = cv2.resize(light, (size_px, size_px), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), session.camera.blur_px * size_px / 192)
    smear = max(1, round(session.motion_px * size_px / 192))
    image = session.exposure * cv2.blur(image, (smear, 1)) * np.array(session.camera.white_balance, np.float32)
    deviation = session.noise * np.sqrt(0.4 + 2.4 * np.clip(image, 0, 1))
    image += deviation * rng.standard_normal(image.shape, dtype=np.float32)
    bright = np.clip(image, 0, None)
    return np.clip(255 * (bright / (1 + 0.25 * bright**2)) ** 0.9 + 0.5, 0, 255).astype(np.uint8)


def _write_frame(pictures: Path, seed: int, shift: Shift, size_px: int, index: int) -> Frame:
    """Draw one frame, write its JPEG, return what a label file says about it."""
    scene = draw_scene(seed, shift, index, size_px)
    encoded = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    (pictures / scene.file_name).write_bytes(encoded.tobytes())
    facts = {
        "camera": scene.camera,
        "session": scene.session,
        "shift": scene.shift,
        "captured_at": scene.captured_at,
        "site": SITE,
    }
    boxes = tuple(tuple(box) for box in scene.boxes.tolist())
    return Frame(scene.file_name, size_px, size_px, boxes, tuple(scene.class_ids.tolist()), facts)


def _spread(draw: partial, images: int, workers: int) -> Iterator[Frame]:
    """Frames in order, drawn by `workers` processes; a session stays with one worker, which keeps its belt."""
    workers = workers or max(1, min(cpu_count() or 1, images // 200))
    if workers == 1:
        yield from map(draw, range(images))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(draw, range(images), chunksize=FRAMES_PER_SESSION_PAIR)
