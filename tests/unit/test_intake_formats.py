"""The five parsers on exports of the sample factory: what goes in comes out."""

from pathlib import Path

import numpy as np
import pytest

from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import read_dataset, read_rows
from components.shared.store import open_store
from pipelines.sample.exports import FORMATS
from pipelines.sample.factory import CLASS_NAMES, write_shift


def rows_of(folder: Path, work: Path) -> tuple[tuple[str, ...], list[dict], dict]:
    store = open_store((work / "store").as_uri())
    taken = take_in(str(folder), store, IntakeSettings(), work / "dataset", work / "report.html")
    version = read_dataset(store, str(taken["digest"]))
    return version.class_names, read_rows(store, version).to_pylist(), taken


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], list[dict], dict]:
    work = tmp_path_factory.mktemp("coco")
    return rows_of(write_shift(work / "export", "day", 12, seed=5, size_px=128), work)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_the_same(format: str, coco, tmp_path: Path) -> None:
    names, rows, taken = rows_of(write_shift(tmp_path / "in", "day", 12, seed=5, format=format, size_px=128), tmp_path)
    assert taken["quarantined"] == taken["repaired"] == 0 and taken["new_images"] == 12
    assert set(names) == set(coco[0]) == set(CLASS_NAMES)
    for ours, theirs in zip(rows, coco[1], strict=True):
        assert ours["image_sha256"] == theirs["image_sha256"]
        assert [names[i] for i in ours["class_ids"]] == [coco[0][i] for i in theirs["class_ids"]]
        np.testing.assert_allclose(np.reshape(ours["boxes"], (-1, 4)), np.reshape(theirs["boxes"], (-1, 4)), atol=0.5)
        if format in ("coco", "cvat", "labelstudio"):
            assert dict(ours["tags"]) == dict(theirs["tags"]) and "camera" in dict(ours["tags"])
