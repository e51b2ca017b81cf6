"""Intake of 10,000 labelled images against datumaro on the same COCO folder; a night with 1 % new; near duplicates;
the memory that 1,000,000 rows of one JSON file take.

    python tests/benchmarks/bench_intake.py [images]

datumaro runs in an environment of its own that uv makes; without uv or a package index its line is left out.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

DATUMARO = "datumaro==1.13.12"
IMPORT = """
import resource, sys, time
from datumaro import Dataset
started = time.perf_counter()
rows = images = 0
for item in Dataset.import_from(sys.argv[1], "coco"):
    images += 1
    rows += len(item.annotations)
    assert item.media.data is not None
print(rows, images, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
INTAKE = """
import resource, sys, time
class NoPandas:  # pyarrow imports it where it can; the image that intake runs in has none
    def find_spec(name, *_):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoPandas)
from pathlib import Path
from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.store import open_store
inbox, store, work = sys.argv[1:]
started = time.perf_counter()
outputs = (Path(work, "dataset"), Path(work, "report.html"))
taken = take_in(inbox, open_store("file://" + store), IntakeSettings(), *outputs)
seconds = time.perf_counter() - started
rows = taken["accepted"] + taken["repaired"] + taken["quarantined"]
print(rows, taken["new_images"], seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        draw_export(root / "inbox" / "night-1", range(count))
        time.sleep(3)  # exports are hours old when a night starts; younger files than 2 s would be read twice
        first = timed("intake, first night", [sys.executable, "-c", INTAKE, *places(root)])
        peer = datumaro(root / "inbox" / "night-1")
        draw_export(root / "inbox" / "night-2", range(count, count + count // 100))
        second = timed("intake, 1 % new beside", [sys.executable, "-c", INTAKE, *places(root)])
        nothing = timed("intake, nothing new", [sys.executable, "-c", INTAKE, *places(root)])
        if peer:
            print(f"  {peer / first:.1f} times datumaro's rows a second (aim: 5), and an outcome for every row")
        print(f"  a night with 1 % new costs {second / first:.1%} of the first (aim: 3 %), ", end="")
        print(f"one with nothing new {nothing / first:.1%}")
    near_duplicates()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        draw_export(root / "inbox" / "night-1", range(10 * count), size_px=(96, 72), boxes=10)
        timed("intake, one large file", [sys.executable, "-c", INTAKE, *places(root)])
        print("  (aim: a peak under 1 GiB; workers hold a few images each)")


def draw_export(folder: Path, seeds: range, size_px: tuple[int, int] = (640, 480), boxes: int = 3) -> None:
    """A COCO export of JPEGs with a few boxes each."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        pixels = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), size_px, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / f"{seed:06d}.jpg"), pixels)
        images.append({"id": seed, "file_name": f"{seed:06d}.jpg", "width": size_px[0], "height": size_px[1]})
        for corner in rng.integers(0, size_px[1] * 5 // 6, (boxes, 2)).tolist():
            box = {
                "id": len(annotations) + 1,
                "image_id": seed,
                "category_id": 1 + seed % 3,
                "bbox": [*corner, size_px[0] // 10, size_px[1] // 10],
            }
            annotations.append({**box, "area": size_px[0] * size_px[1] // 100, "iscrowd": 0})
    categories = [{"id": at, "name": f"class-{at}", "supercategory": ""} for at in (1, 2, 3)]
    document = {"images": images, "annotations": annotations, "categories": categories, "info": {}, "licenses": []}
    (folder / "annotations" / "instances_default.json").write_text(json.dumps(document))


def places(root: Path) -> list[str]:
    return [str(root / "inbox"), str(root / "store"), str(root / "work")]


def timed(label: str, command: list[str]) -> float:
    """Run, print, and return the seconds that the work itself took."""
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    rows, images, seconds, peak_kib = int(answer[0]), int(answer[1]), float(answer[2]), int(answer[3])
    print(f"  {label:<24} {rows:>7} rows {images:>7} images {seconds:8.2f} s {rows / seconds:9.0f} rows/s "
          f"peak {peak_kib / 1024:6.0f} MiB", flush=True)  # fmt: skip
    return seconds


def datumaro(folder: Path) -> float:
    """Seconds that datumaro takes to import the folder and decode its images; 0 where it cannot be had."""
    uv = shutil.which("uv")
    command = [str(uv), "run", "--no-project", "--quiet", "--python", "3.11", "--with", DATUMARO, "python", "-c"]
    with tempfile.TemporaryDirectory() as name:
        laid_out = Path(name)  # as datumaro wants it, without a touch to the files that the next night looks at
        (laid_out / "images").mkdir()
        (laid_out / "images" / "default").symlink_to(folder / "images")
        (laid_out / "annotations").symlink_to(folder / "annotations")
        try:
            subprocess.run([*command, "import datumaro"], check=True, capture_output=True)
            return timed("datumaro import", [*command, IMPORT, str(laid_out)])
        except (OSError, subprocess.CalledProcessError) as fault:
            print(f"  datumaro import: left out ({fault.__class__.__name__})")
            return 0.0


def near_duplicates(new: int = 5_000, known: int = 2_000_000) -> None:
    """Look-up of new images among known hashes, the index built anew as every night does."""
    from components.intake.duplicates import NearRows

    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, known, np.uint64)
    queries = rng.integers(0, 2**63, new, np.uint64)
    queries[: new // 10] = hashes[: new // 10] ^ np.uint64(0b10110)
    splits = ["train", "val", "test", "train"] * (known // 4)
    started = time.perf_counter()
    found = NearRows(hashes, splits).look_up(queries, 4)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {new} new against {known} known hashes: {seconds:.2f} s, {len(found)} near (aim: 2 s), peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
