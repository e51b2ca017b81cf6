"""Draw scenes and whole shifts of them: the same seed gives the same bytes, whatever the number of workers."""

from collections.abc import Iterator
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
from pipelines.sample.parts import CLASS_NAMES, CLASS_SHARES, CLASS_SIZES_PX, Shape, carve
from pipelines.sample.shifts import FRAMES_PER_SESSION_PAIR, SHIFTS, SITE, Session, Shift, captured_at, session_of
from pipelines.sample.surfaces import Relief, metal_skin, shade

VERSION = 1  # raise it when the same seed draws something else
OVERSAMPLING = 2
LEAST_VISIBLE = 0.35
LEAST_SIDE = 14 / 192
BACKGROUND_ONLY = 0.06
JPEG_QUALITY = 92


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Placed:
    """A part where it lies: `left`, `top` of its patch in the oversampled image (may be negative)."""

    class_id: int
    shape: Shape
    left: int
    top: int


def draw_scene(seed: int, shift: Shift, index: int, size_px: int = 192) -> Scene:
    """Draw frame `index` of a shift.

    Raises:
        InvalidInput: the shift is unknown, or a number is negative or too small.
    """
    _check(seed, shift, index, size_px)
    session = session_of(seed, shift, index)
    rng = np.random.default_rng([seed, SHIFTS.index(shift), index, 0])
    side = size_px * OVERSAMPLING
    parts = visible_parts(_scatter(session, side, rng), side)
    relief = _pile(parts, _belt(session, side), rng)
    image = _expose(shade(relief, session), session, size_px, rng)
    owner = owners(parts, side)
    boxes = np.array([extent(owner == number) for number in range(len(parts))], np.float32).reshape(-1, 4)
    class_ids = np.array([part.class_id for part in parts], np.int64)
    name = f"{shift}_{session.camera.name}_{session.name}_{index:06d}.jpg"
    when = captured_at(seed, shift, session)
    return Scene(
        name, image, boxes / OVERSAMPLING, class_ids, session.camera.name, name[: -len("_000000.jpg")], shift, when
    )


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
    return np.float32([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _check(seed: int, shift: str, number: int, size_px: int) -> None:
    if shift not in SHIFTS:
        raise InvalidInput(f"sample shift: got {shift!r}, expected one of {', '.join(SHIFTS)}")
    if seed < 0 or number < 0 or not 64 <= size_px <= 1280:
        raise InvalidInput(
            f"sample: got seed={seed} number={number} size_px={size_px}, expected 0 or more and a side of 64 to 1280"
        )


def _scatter(session: Session, side: int, rng: np.random.Generator) -> list[Placed]:
    """Parts strewn over the belt, in the order they fell; half of them near another one."""
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


def _overlap(part: Placed, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a part's patch meets the image: the slices into the image and into the patch."""
    height, width = part.shape.mask.shape
    y0, y1, x0, x1 = max(part.top, 0), min(part.top + height, side), max(part.left, 0), min(part.left + width, side)
    patch = (slice(y0 - part.top, y1 - part.top), slice(x0 - part.left, x1 - part.left))
    return (slice(y0, y1), slice(x0, x1)), patch


def _pile(parts: list[Placed], belt: np.ndarray, rng: np.random.Generator) -> Relief:
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
    image = cv2.blur(image, (smear, 1)) * np.float32(session.exposure) * np.float32(session.camera.white_balance)
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
    with get_context("spawn").Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.imap(draw, range(images), chunksize=FRAMES_PER_SESSION_PAIR)
