"""One image: decoded fully once, turned upright, refused when it is not whole; re-encoded only where it must be."""

import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from components.intake.findings import Code
from components.shared.digests import digest_bytes

FORMATS = [
    one.format
    for one in (
        BmpImagePlugin.BmpImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
]
"""The only decoders that any bytes reach (a JPEG of several pictures, MPO, opens as JPEG)."""
SUFFIX = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif"}
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"RIFF", b"II*\0", b"MM\0*")
"""How files of these formats begin: with one of these and unreadable, a file is damaged, not something else."""
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION_TAG = 0x0112
JPEG_QUALITY = 95
"""For the few images that must be re-encoded; without chroma subsampling."""


_THUMBNAIL_PX = 64
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own limit is lower
warnings.filterwarnings("ignore", module=r"PIL\..*")  # a damaged EXIF block is no news to anybody


class UnfitImage(Exception):
    """An image that must not enter the data set."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Picture:
    """An image as the store will hold it, and what was done to it."""

    sha256: str
    format: str
    width_px: int
    height_px: int
    phash: int
    orientation: int
    """EXIF orientation of the original; 1 is upright, 5 to 8 swap the sides."""
    repairs: tuple[tuple[Code, str], ...]
    data: bytes


def examine(data: bytes, max_megapixels: float) -> Picture:
    """Decode `data`, to its last byte.

    Raises:
        UnfitImage: with the code and the reason.
    """
    image, kind = _open(data, max_megapixels)
    size, orientation = image.size, _orientation(image)
    repairs = []
    if orientation != 1:
        repairs.append((Code.IMG_EXIF, f"EXIF orientation {orientation}: turned upright"))
    if image.mode == "CMYK":
        repairs.append((Code.IMG_CMYK, "CMYK: converted to RGB"))
    if not repairs:
        # All bytes of a JPEG are decoded, but only the pixels that the hash needs are made: a third of the time.
        image.draft("L", (_THUMBNAIL_PX, _THUMBNAIL_PX))
    _load(image)
    if repairs:
        data, image, kind = _upright_rgb(image, kind)
        size = image.size
    return Picture(digest_bytes(data), SUFFIX[kind], *size, perceptual_hash(image), orientation, tuple(repairs), data)


def _open(data: bytes, max_megapixels: float) -> tuple[Image.Image, str]:
    if not data:
        raise UnfitImage(Code.IMG_NOT_IMAGE, "0 bytes")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as fault:
        raise UnfitImage(Code.IMG_BOMB, str(fault)) from fault
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as fault:
        if data.startswith(SIGNATURES):
            raise UnfitImage(Code.IMG_UNREADABLE, f"damaged: {type(fault).__name__}") from fault
        begins = f"none of {', '.join(FORMATS)}: begins with {data[:12]!r}"
        raise UnfitImage(Code.IMG_NOT_IMAGE, begins) from fault
    if image.width * image.height > max_megapixels * 1e6:
        sides = f"{image.width}x{image.height} px"
        raise UnfitImage(Code.IMG_BOMB, f"{sides}, expected at most {max_megapixels:g} megapixels")
    if image.mode in DEEP_MODES:
        raise UnfitImage(Code.IMG_DEPTH, f"mode {image.mode}: over 8 bits a channel; choose the range yourself")
    return image, str(image.format)


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as fault:  # Pillow's decoders raise what they like on damaged bytes
        truncated = "truncated" in str(fault) or "premature" in str(fault).lower()
        code = Code.IMG_TRUNCATED if truncated else Code.IMG_UNREADABLE
        raise UnfitImage(code, f"{type(fault).__name__}: {fault}") from fault


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block says nothing about orientation; the pixels were read
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright_rgb(image: Image.Image, kind: str) -> tuple[bytes, Image.Image, str]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "CMYK":
        upright = upright.convert("RGB")
    buffer = BytesIO()
    if kind in ("JPEG", "MPO"):
        upright.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, exif=b"")
        return buffer.getvalue(), upright, "JPEG"
    upright.save(buffer, "PNG", exif=b"")
    return buffer.getvalue(), upright, "PNG"


def perceptual_hash(image: Image.Image) -> int:
    """64 bits of the lowest 8x8 frequencies of a 32x32 gray thumbnail, each against their median.

    Source: pHash, http://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html
    """
    gray = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)
    low = _COSINES @ np.asarray(gray, np.float64) @ _COSINES.T
    ordered = np.sort(low, axis=None)
    median = (ordered[31] + ordered[32]) / 2  # numpy's own median takes ten times as long on 64 values
    return int.from_bytes(np.packbits((low > median).ravel()).tobytes(), "big")


_COSINES = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32) + 1)[None, :] / 64)
"""First 8 rows of the 32-point cosine transform (type II)."""
