"""Findings: what became of every row that was not simply accepted."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

ACCEPTED, REPAIRED, QUARANTINED = "accepted", "repaired", "quarantined"

FINDING_SCHEMA = pa.schema([(name, pa.string()) for name in ("image", "row", "code", "action", "message")])


class Code(StrEnum):
    """Why a row was repaired or quarantined, or a batch refused."""

    BOX_OOB = "BOX_OOB"
    BOX_NEG = "BOX_NEG"
    BOX_ZERO = "BOX_ZERO"
    BOX_NAN = "BOX_NAN"
    BOX_DUP = "BOX_DUP"
    BOX_ROTATED = "BOX_ROTATED"
    BOX_SHAPE = "BOX_SHAPE"
    CLS_UNKNOWN = "CLS_UNKNOWN"
    CLS_ALIAS = "CLS_ALIAS"
    CLS_INDEX_DRIFT = "CLS_INDEX_DRIFT"
    CLS_LIST = "CLS_LIST"
    IMG_MISSING = "IMG_MISSING"
    IMG_UNREADABLE = "IMG_UNREADABLE"
    IMG_TRUNCATED = "IMG_TRUNCATED"
    IMG_NOT_IMAGE = "IMG_NOT_IMAGE"
    IMG_BOMB = "IMG_BOMB"
    IMG_DEPTH = "IMG_DEPTH"
    IMG_CMYK = "IMG_CMYK"
    IMG_SIZE_MISMATCH = "IMG_SIZE_MISMATCH"
    IMG_EXIF = "IMG_EXIF"
    IMG_AMBIGUOUS = "IMG_AMBIGUOUS"
    LBL_MISSING = "LBL_MISSING"
    LBL_UNREADABLE = "LBL_UNREADABLE"
    LBL_ORPHAN = "LBL_ORPHAN"
    LBL_MULTI = "LBL_MULTI"
    LBL_REPLACED = "LBL_REPLACED"
    ARC_DAMAGED = "ARC_DAMAGED"
    ARC_COUNT = "ARC_COUNT"
    ARC_BOMB = "ARC_BOMB"
    ARC_PATH = "ARC_PATH"
    ARC_LINK = "ARC_LINK"
    ARC_CASE = "ARC_CASE"
    ARC_NESTED = "ARC_NESTED"
    ARC_ENCRYPTED = "ARC_ENCRYPTED"
    ORIGIN_TEACHER = "ORIGIN_TEACHER"
    DUP_EXACT = "DUP_EXACT"
    DUP_NEAR = "DUP_NEAR"
    LEAK = "LEAK"


@dataclass(frozen=True)
class Finding:
    """What became of one row, or of a whole image when `row` is empty."""

    image: str
    row: str
    code: str
    action: str
    message: str


def findings_table(findings: Iterable[Finding]) -> pa.Table:
    """One row a finding, in order."""
    rows = [asdict(finding) for finding in findings]
    # Building arrays makes pyarrow import pandas where it is installed: half a second that a quiet night need not pay.
    return pa.Table.from_pylist(rows, schema=FINDING_SCHEMA) if rows else FINDING_SCHEMA.empty_table()


def findings_bytes(findings: Iterable[Finding]) -> bytes:
    """The findings as a Parquet file."""
    buffer = BytesIO()
    pq.write_table(findings_table(findings), buffer, compression="zstd")
    return buffer.getvalue()


def read_findings(data: bytes) -> list[Finding]:
    """The findings in a Parquet file's bytes."""
    return [Finding(**row) for row in pq.ParquetFile(BytesIO(data)).read().to_pylist()]
