"""What grows with the data set: rows read every night, and the intake of a few new images into a store of many.

Prints slopes; manifests/README.md carries them to a million images.
"""

import io
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.intake.intake import take_in
from components.intake.settings import IntakeSettings
from components.shared.dataset import ROW_SCHEMA, DatasetVersion, write_segment
from components.shared.store import FolderStore, Store, open_store

NIGHTS = 100
BOXES = 6


def rows_of(count: int, seed: int) -> pa.Table:
    """`count` made-up rows with six boxes each."""
    rng = np.random.default_rng(seed)
    corners = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(count * BOXES * 4, np.float32) * 640), 4)
    starts = np.arange(0, count * BOXES + 1, BOXES, dtype=np.int32)
    groups = [f"camera{n % 40}-session{n % 1000}" for n in range(count)]
    columns = {
        "image_sha256": [digest.hex() for digest in np.frombuffer(rng.bytes(32 * count), "V32").tolist()],
        "format": ["jpg"] * count,
        "width_px": np.full(count, 640, np.int32),
        "height_px": np.full(count, 480, np.int32),
        "boxes": pa.ListArray.from_arrays(starts, corners),
        "class_ids": pa.ListArray.from_arrays(starts, pa.array(rng.integers(0, 4, count * BOXES, np.int32))),
        "group": groups,
        "split": rng.choice(["train", "val", "test"], count, p=[0.7, 0.15, 0.15]),
        "origin": ["human"] * count,
        "source": [f"frame{n}.jpg" for n in range(count)],
        "batch": [f"night{seed}"] * count,
        "phash": rng.integers(0, 2**63, count, np.uint64),
        "flags": [[]] * count,
        "tags": [[("camera", group.split("-")[0])] for group in groups],
        "added_at": ["2026-01-01T02:00:00+00:00"] * count,
    }
    return pa.table({name: pa.array(columns[name], ROW_SCHEMA.field(name).type) for name in ROW_SCHEMA.names})


def fill(store: Store, count: int) -> tuple[DatasetVersion, float]:
    """A version of `count` rows in a hundred segments, and the bytes a row."""
    names, size = [], 0
    for night in range(NIGHTS):
        buffer = io.BytesIO()
        pq.write_table(rows_of(count // NIGHTS, night), buffer, compression="zstd", write_page_checksum=True)
        names.append(f"{night:064x}")
        size += len(buffer.getvalue())
        store.put(f"segments/{names[-1]}.parquet", buffer.getvalue())
    return DatasetVersion("0" * 64, ("a", "b", "c", "d"), tuple(names), "", "", {}), size / count


def read_apart(folder: Path, version: DatasetVersion) -> tuple[float, float]:
    """Seconds and MiB that a process of its own needs to read all rows."""
    script = f"""
import resource, time
from components.shared.dataset import DatasetVersion, read_rows
from components.shared.store import open_store
store, version = open_store({folder.as_uri()!r}), {version!r}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
rows = read_rows(store, version)
print(time.perf_counter() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    return seconds, mebibytes


def export(folder: Path, count: int, seed: int) -> None:
    """A YOLO export of noise, a box an image."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    (folder / "data.yaml").write_text("names: [part]\n")
    for number in range(count):
        name = f"camera{number % 8}_{seed}_{number}"
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), rng.integers(0, 255, (192, 192, 3), np.uint8))
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.3 0.3\n")


def intake_after(count: int, new: int = 50, cleared: bool = True) -> tuple[float, float]:
    """Seconds for a first intake of `count` images, and for `new` ones, the first export `cleared` away before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = FolderStore(folder / "store")
        seconds = []
        for night, images in enumerate((count, new)):
            export(folder / "inbox" / f"batch{night}", images, seed=night)
            started = time.perf_counter()
            take_in((folder / "inbox").as_uri(), store, IntakeSettings(), folder / "dataset", folder / "report.html")
            seconds.append(time.perf_counter() - started)
            if cleared:
                shutil.rmtree(folder / "inbox" / f"batch{night}")
        return seconds[0], seconds[1]


def main() -> None:
    measured = []
    for count in (20_000, 200_000):
        with tempfile.TemporaryDirectory() as folder:
            version, row_bytes = fill(open_store(Path(folder).as_uri()), count)
            seconds, mebibytes = read_apart(Path(folder), version)
        measured.append((count, seconds, mebibytes))
        print(
            f"{count:>9,} rows in {NIGHTS} parts: read in {seconds:.2f} s, {mebibytes:.0f} MiB, {row_bytes:.0f} B a row"
        )
    (few, s0, m0), (many, s1, m1) = measured
    rate = (s1 - s0) / (many - few)
    memory = (m1 - m0) / (many - few) * 2**20
    print(f"slope: {rate * 1e6:.2f} us and {memory:.0f} B of memory a row; 10^6: {s0 + rate * (1e6 - few):.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        rows, started = rows_of(10_000, 0), time.perf_counter()
        write_segment(open_store(Path(folder).as_uri()), rows)
        print(f"a night's segment: {(time.perf_counter() - started) / 10_000 * 1e6:.0f} us a new row")
    for cleared in (True, False):
        taken = {count: intake_after(count, cleared=cleared) for count in (250, 2000)}
        for count, (first, later) in taken.items():
            print(
                f"{count:>9,} images: first intake {first / count * 1e3:.1f} ms each; 50 more afterwards {later:.2f} s"
            )
        drift = (taken[2000][1] - taken[250][1]) / 1750 * 1e6
        where = "in the store" if cleared else "in the store and still in the inbox"
        print(f"slope: a night's intake grows by {drift:.0f} us for every image {where}")
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
