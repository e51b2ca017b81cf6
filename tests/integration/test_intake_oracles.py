"""What intake reads is what the field's own libraries read: pycocotools, and datumaro where it can be had."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import read_dataset, read_rows
from components.shared.store import Store
from pipelines.sample.factory import write_shift
from pipelines.sample.parts import CLASS_NAMES

Labels = dict[str, list[tuple[str, list[float]]]]
DATUMARO = "datumaro==1.13.12"
"""In an environment of its own: it wants older Pillow and OpenCV than ours."""
IMPORTERS = {"coco": "coco", "voc": "voc", "cvat": "cvat"}
"""datumaro's name for a format; its YOLO importer wants Darknet's lists, and it has none for Label Studio."""
READ = """
import json, sys
from datumaro import Dataset, AnnotationType
data = Dataset.import_from(sys.argv[1], sys.argv[2])
names = [one.name for one in data.categories()[AnnotationType.label]]
told = {}
for item in data:
    boxes = [one for one in item.annotations if one.type == AnnotationType.bbox]
    told[item.id.split("/")[-1]] = [(names[one.label], [one.x, one.y, one.x + one.w, one.y + one.h]) for one in boxes]
print(json.dumps(told))
"""


def ours(folder: Path, store: Store, tmp_path: Path) -> Labels:
    taken = take_in(str(folder), store, IntakeSettings(), tmp_path / "dataset", tmp_path / "report.html")
    version = read_dataset(store, str(taken["digest"]))
    rows = read_rows(store, version).to_pylist()
    return {
        Path(row["source"]).stem: [
            (version.class_names[number], box) for number, box in zip(row["class_ids"], row["boxes"], strict=True)
        ]
        for row in rows
    }


def assert_same(mine: Labels, theirs: Labels) -> None:
    assert mine.keys() == theirs.keys() and len(mine) > 10
    for image in mine:
        first, second = (sorted(labels[image]) for labels in (mine, theirs))
        assert [name for name, _ in first] == [name for name, _ in second]
        for (_, box), (_, other) in zip(first, second, strict=True):
            np.testing.assert_allclose(box, other, atol=0.5)


def test_coco_is_read_as_pycocotools_reads_it(store: Store, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    folder = write_shift(tmp_path / "inbox", "day", 14, seed=12, format="coco")
    told = COCO(str(next((folder / "annotations").glob("*.json"))))
    theirs: Labels = defaultdict(list)
    for image in told.imgs.values():
        labels = theirs[Path(image["file_name"]).stem]
        for one in told.imgToAnns[image["id"]]:
            x, y, width, height = one["bbox"]
            labels.append((told.cats[one["category_id"]]["name"], [x, y, x + width, y + height]))
    assert_same(ours(folder, store, tmp_path), theirs)


def lay_out(folder: Path, format: str) -> None:
    """As datumaro's importers want it: file names of their own, a list of images, no tags of whole images."""
    if format == "coco":
        [index] = (folder / "annotations").glob("*.json")
        index.rename(index.with_name("instances_default.json"))
    elif format == "voc":
        stems = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
        (folder / "ImageSets" / "Main").mkdir(parents=True)
        (folder / "ImageSets" / "Main" / "default.txt").write_text("\n".join(stems) + "\n")
        (folder / "labelmap.txt").write_text("".join(f"{name}:{at},0,0::\n" for at, name in enumerate(CLASS_NAMES)))
    else:
        [index] = folder.glob("*.xml")
        index.write_text(re.sub(r"<tag\b.*?</tag>|<tag\b[^>]*/>", "", index.read_text(), flags=re.DOTALL))


@pytest.mark.slow
@pytest.mark.parametrize("format", IMPORTERS)
def test_it_is_read_as_datumaro_reads_it(format: str, store: Store, tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which makes datumaro's environment")
    folder = write_shift(tmp_path / "inbox", "day", 14, seed=12, format=format)
    mine = ours(folder, store, tmp_path)
    lay_out(folder, format)
    command = [uv, "run", "--no-project", "--quiet", "--python", "3.11", "--with", DATUMARO, "python", "-c", READ]
    told = subprocess.run([*command, str(folder), IMPORTERS[format]], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    theirs: Labels = json.loads(told.stdout)
    first = 1 if format == "voc" else 0  # Pascal counts pixels from 1 to the last one; datumaro leaves it at that
    moved = {
        image: [(name, [x0 - first, y0 - first, x1, y1]) for name, (x0, y0, x1, y1) in labels]
        for image, labels in theirs.items()
    }
    assert_same(mine, moved)
