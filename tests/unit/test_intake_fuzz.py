"""Whatever an export holds, intake ends with a version or with InvalidInput, and loses no row in silence."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.intake.findings import read_findings
from components.intake.images import UnfitImage, examine
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import newest, read_rows
from components.shared.errors import InvalidInput
from components.shared.store import open_store
from tests.intake_defects import LARGE, clean, encoded, picture
from tests.intake_fuzz import FORMATS, broken_export
from tests.unit.test_intake_defects import write

EXAMPLES = int(os.environ.get("YANSHAN_FUZZ_EXAMPLES", "15"))
"""`make bench` runs many more."""
LENIENT = {"max_quarantined_share": 1.0, "max_quarantined_share_of_one": 1.0, "class_names": ["crate", "ball"]}


@pytest.mark.parametrize("format", FORMATS)
def test_a_broken_export_is_refused_or_told_about(format: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(broken_export(format))
    def check(files: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            store = open_store((root / "store").as_uri())
            inbox, outputs = write(files, root / "inbox"), (root / "dataset", root / "report.html")
            try:
                taken = take_in(str(inbox), store, IntakeSettings(**LENIENT), *outputs)
            except InvalidInput as refusal:
                assert str(refusal) and newest(store, "main") is None
                return
            version = newest(store, "main")
            assert version is not None and version.digest == taken["digest"]
            findings = read_findings((root / "dataset" / "findings.parquet").read_bytes())
            rows = read_rows(store, version).to_pylist()
            for row in rows:
                assert len(row["boxes"]) == len(row["class_ids"])
                for x0, y0, x1, y1 in row["boxes"]:
                    assert 0 <= x0 < x1 <= row["width_px"] and 0 <= y0 < y1 <= row["height_px"]
            boxes = version.counts["boxes"]
            assert taken["accepted"] + taken["repaired"] >= boxes
            backgrounds = sum(not row["boxes"] for row in rows)
            assert findings or boxes + backgrounds == taken["accepted"]

    check()


@settings(max_examples=4 * EXAMPLES, deadline=None, database=None)
@given(st.sampled_from([LARGE, encoded(picture(3)), encoded(picture(3), "WEBP"), encoded(picture(3), "TIFF")]),
       st.integers(0, 3000), st.integers(0, 200), st.binary(max_size=20))  # fmt: skip
def test_a_broken_image_is_decoded_or_unfit(data: bytes, start: int, count: int, other: bytes) -> None:
    try:
        picture_ = examine(data[:start] + other + data[start + count :], 64)
    except UnfitImage as unfit:
        assert unfit.code and unfit.message
        return
    assert picture_.width_px > 0 and picture_.height_px > 0


def test_the_strategies_start_from_clean_exports() -> None:
    assert all(clean(format) == clean(format) for format in FORMATS)
