"""mAP against pycocotools on the same boxes; evaluation end to end against `yolo val` on the same file and images."""

import argparse
import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.evaluate.bootstrap import redraw, resample
from components.evaluate.coco import coco_dataset, coco_results, coco_summary, library_summary, own_summary
from components.evaluate.matching import match
from components.evaluate.measures import counts
from components.evaluate.predictions import Predictions, predict
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth, truth_of_coco

os.environ.setdefault("YOLO_OFFLINE", "true")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--images", type=int, default=5000)
    asked.add_argument("--boxes", type=int, default=100, help="detections an image")
    asked.add_argument("--classes", type=int, default=80)
    asked.add_argument("--many", type=int, default=50_000, help="images of the memory check")
    asked.add_argument("--pictures", type=int, default=200, help="images of the run against yolo val")
    options = asked.parse_args()
    against_yolo_val(options.pictures)
    against_pycocotools(options.images, options.boxes, options.classes)
    bootstrap_seconds(options.images)
    memory(options.many)


def world(images: int, found: int, classes: int, labelled: int = 7, seed: int = 0) -> tuple[Truth, Predictions]:
    """`labelled` boxes an image, `found` detections an image: some on a box, most of them noise with low scores."""
    rng = np.random.default_rng(seed)
    count, total = images * labelled, images * found
    xywh = np.concatenate([rng.uniform(0, 500, (count, 2)), rng.uniform(8, 140, (count, 2))], axis=1).round(1)
    image_index, kinds = np.repeat(np.arange(images), labelled), rng.integers(0, classes, count)
    truth = Truth(
        tuple(f"c{number}" for number in range(classes)), [Path(str(number)) for number in range(images)],
        np.arange(images), [{}] * images, xywh, xywh[:, 2] * xywh[:, 3], kinds, image_index, np.zeros(count, bool), "w",
    )  # fmt: skip
    where = np.repeat(np.arange(images), found)
    source = where * labelled + rng.integers(0, labelled, total)
    boxes = xywh[source] + rng.normal(0, 9, (total, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
    on_it = rng.random(total) < 0.2
    class_ids = np.where(on_it, kinds[source], rng.integers(0, classes, total))
    scores = np.where(on_it, rng.beta(3, 2, total), rng.beta(1, 6, total)).round(4)
    order = np.lexsort((-scores, where))
    return truth, Predictions(boxes[order], scores[order], class_ids[order], where[order])


def against_pycocotools(images: int, found: int, classes: int) -> None:
    """CPU seconds: all three work on one core."""
    truth, predictions = world(images, found, classes)
    print(f"mAP of {images} images x {found} boxes x {classes} classes", flush=True)
    seconds, stats = timed(pycocotools, truth, predictions)
    print(f"  pycocotools {seconds:.1f} s", flush=True)
    for name, how in (("faster-coco-eval", library_summary), ("own matching, which large sets use,", own_summary)):
        took, (summary, _) = timed(how, truth, predictions)
        apart = float(np.abs(np.array(list(summary.values())) - stats).max())
        print(
            f"  {name} {took:.1f} s, {seconds / took:.1f}x, largest difference {apart:.1e} (aim: 10x, 1e-9)", flush=True
        )


def timed(work: Callable, *given: object) -> tuple[float, Any]:
    started = time.process_time()
    answer = work(*given)
    return time.process_time() - started, answer


def pycocotools(truth: Truth, predictions: Predictions) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = coco_dataset(truth)
        labels.createIndex()
        run = COCOeval(labels, labels.loadRes(coco_results(predictions)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
        return run.stats


def bootstrap_seconds(images: int) -> None:
    truth, predictions = world(images, 30, 10)
    matches = match(truth, predictions)
    tally = counts(matches, truth, np.full(10, 0.3))
    started = time.perf_counter()
    for _ in range(2):
        resample(matches, truth, tally, redraw(truth.groups, 1000, 0))
    seconds = time.perf_counter() - started
    print(
        f"paired bootstrap, 1000 redraws of {images} images, 10 classes, two models: {seconds:.1f} s (aim: 15 s)",
        flush=True,
    )


def memory(images: int) -> None:
    """In a process of its own: the peers' memory is not ours."""
    script = f"from bench_evaluate import measure_memory; measure_memory({images})"
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=True)


def measure_memory(images: int) -> None:
    truth, predictions = world(images, 20, 10)
    matches = match(truth, predictions)
    coco_summary(truth, predictions)
    resample(matches, truth, counts(matches, truth, np.full(10, 0.3)), redraw(truth.groups // 10, 200, 0))
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(f"peak memory, {images} images with 20 detections each: {int(peak) / 2**20:.2f} GiB (aim: under 2)")


def against_yolo_val(pictures: int) -> None:
    """Same ONNX file, same images, from files on disk to mAP."""
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_pictures(root, pictures)
        logging.getLogger("ultralytics").setLevel(logging.ERROR)
        YOLO("yolov8n.yaml").save(root / "m.pt")
        model = Path(YOLO(root / "m.pt").export(format="onnx", imgsz=320, verbose=False))
        ours, theirs = [], []
        for _ in range(2):
            started = time.perf_counter()
            truth = truth_of_coco(root / "labels.json", root / "images/val")
            coco_summary(truth, predict(model, truth, EvaluateSettings()))
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            YOLO(model, task="detect").val(
                data=data, imgsz=320, batch=1, plots=False, verbose=False, workers=2, project=root
            )
            theirs.append(time.perf_counter() - started)
    fast, slow = pictures / min(ours), pictures / min(theirs)
    print(
        f"images to mAP, yolov8n at 320 px: {fast:.1f} images/s, yolo val {slow:.1f}: {fast / slow:.2f}x (aim: 1.5x)",
        flush=True,
    )


def write_pictures(root: Path, pictures: int) -> Path:
    """The same labels as COCO and as YOLO wants them."""
    rng = np.random.default_rng(0)
    for part in ("images/val", "labels/val"):
        (root / part).mkdir(parents=True)
    images, annotations = [], []
    for number in range(pictures):
        picture = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / f"images/val/{number}.jpg"), picture)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 320, "height": 240})
        annotations.append({"id": number, "image_id": number, "category_id": 0, "bbox": [40, 40, 80, 60], "iscrowd": 0})
        (root / f"labels/val/{number}.txt").write_text("0 0.25 0.2917 0.25 0.25\n")
    categories = [{"id": number, "name": str(number)} for number in range(80)]
    (root / "labels.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    names = "\n".join(f"  {number}: '{number}'" for number in range(80))
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/val\nval: images/val\nnames:\n{names}\n")
    return root / "data.yaml"


if __name__ == "__main__":
    main()
