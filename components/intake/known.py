"""What the data set already holds, as intake needs to ask it."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.shared.dataset import ROW_SCHEMA, DatasetVersion, current_rows, read_segments
from components.shared.store import Store

ORIGINAL = "original_sha256"
"""Tag of an image that had to be re-encoded: the digest of the bytes that the export carried."""


class Known:
    """The rows of a version, looked up by image."""

    def __init__(self, store: Store, version: DatasetVersion | None) -> None:
        every = read_segments(store, version.segments if version else ())
        self.rows = current_rows(every)
        self.groups: dict[str, str] = dict(zip(every["group"].to_pylist(), every["split"].to_pylist(), strict=True))
        self._place = {image: at for at, image in enumerate(self.rows["image_sha256"].to_pylist())}
        self._by_original = _originals(self.rows)

    def row(self, image_sha256: str) -> dict[str, Any] | None:
        """The current row about an image."""
        at = self._place.get(image_sha256)
        if at is None:
            return None
        row = self.rows.slice(at, 1).to_pylist()[0]
        row["tags"] = dict(row["tags"])
        return row

    def by_original(self, sha256: str) -> dict[str, Any] | None:
        """The current row about the image whose bytes in an export had this digest."""
        return self.row(self._by_original.get(sha256, sha256))

    def with_rows(self, rows: pa.Table) -> pa.Table:
        """The current rows once `rows` are added."""
        return current_rows(pa.concat_tables([self.rows, rows.cast(ROW_SCHEMA)]))


def _originals(rows: pa.Table) -> dict[str, str]:
    told = pc.map_lookup(rows["tags"].combine_chunks(), ORIGINAL, "first")
    pairs = zip(told.to_pylist(), rows["image_sha256"].to_pylist(), strict=True)
    return {original: image for original, image in pairs if original}
