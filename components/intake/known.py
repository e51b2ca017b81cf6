"""What the data set already holds, as intake needs to ask it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared.dataset import DatasetVersion, current_rows, read_segments
from components.shared.store import Store

ORIGINAL, ORIENTATION = "original_sha256", "exif_orientation"
"""Tags of an image that had to be re-encoded: the digest of the bytes in the export, and how they lay."""
ID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class KnownImage:
    """The current row about an image."""

    image_sha256: str
    format: str
    width_px: int
    height_px: int
    phash: int
    orientation: int
    boxes: np.ndarray
    class_ids: list[int]
    group: str
    split: str
    origin: str
    batch: str


class Known:
    """The rows of a version, looked up by image; columns stay packed, for a data set may hold millions."""

    def __init__(self, store: Store, version: DatasetVersion | None) -> None:
        every = read_segments(store, version.segments if version else ())
        self.rows = current_rows(every)
        self.groups: dict[str, str] = dict(zip(every["group"].to_pylist(), every["split"].to_pylist(), strict=True))
        self._columns = {name: self.rows[name].combine_chunks() for name in self.rows.column_names}
        self._images = _packed(self._columns["image_sha256"])
        self._by_original, self._orientation = _originals(self.rows)

    def find(self, sha256: str) -> KnownImage | None:
        """The image whose stored bytes, or whose bytes in an export, have this digest."""
        image = self._by_original.get(sha256, sha256)
        at = int(np.searchsorted(self._images, image.encode()))
        return self.at(at) if at < len(self._images) and self._images[at].decode() == image else None

    def at(self, at: int) -> KnownImage:
        """The image of the row at this place."""
        image = self._images[at].decode()
        names = ("format", "width_px", "height_px", "phash", "class_ids", "group", "split", "origin", "batch")
        fields = {name: self._columns[name][at].as_py() for name in names}
        boxes = np.array(self._columns["boxes"][at].as_py(), np.float32).reshape(-1, 4)
        return KnownImage(
            image_sha256=image, orientation=self._orientation.get(image, 1), boxes=boxes, **fields
        )  # fmt: skip

    def hashes(self) -> np.ndarray:
        """Perceptual hash of every row, (N,) uint64."""
        return self._columns["phash"].to_numpy()

    def splits(self) -> list[str]:
        """Split of every row."""
        return self._columns["split"].to_pylist()

    def with_rows(self, rows: pa.Table) -> pa.Table:
        """The current rows once `rows` are added."""
        return current_rows(pa.concat_tables([self.rows, rows])) if rows.num_rows else self.rows


def _packed(images: pa.StringArray) -> np.ndarray:
    """Sorted digests as one array of fixed-width bytes."""
    characters = images.buffers()[2]
    if not len(images) or characters is None:
        return np.empty(0, f"S{ID_CHARACTERS}")
    start = images.offset * ID_CHARACTERS
    return np.frombuffer(characters, f"S{ID_CHARACTERS}", len(images), start)


def _originals(rows: pa.Table) -> tuple[dict[str, str], dict[str, int]]:
    """Stored image by original digest, and orientation by stored image, of the re-encoded ones."""
    tags = rows["tags"].combine_chunks()
    originals = pc.map_lookup(tags, ORIGINAL, "first").to_pylist()
    turns = pc.map_lookup(tags, ORIENTATION, "first").to_pylist()
    images = rows["image_sha256"].to_pylist() if any(originals) else []
    told = [(image, one, turn) for image, one, turn in zip(images, originals, turns, strict=False) if one]
    return {one: image for image, one, _ in told}, {image: int(turn or 1) for image, _, turn in told}
