"""The calibrate step: an exported detector becomes INT8, on images of its own data set's train split."""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.calibrate.accuracy import compare_files, labels
from components.calibrate.choose import choose_images, look_at
from components.calibrate.quantize import quantize_detector, toolkit
from components.calibrate.report import write_report
from components.calibrate.settings import CalibrateSettings
from components.shared.dataset import bring_images, digest_of, read_dataset, read_rows
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.memory import once
from components.shared.store import Store

logger = logging.getLogger(__name__)
INT8_FILE = "model.int8.qdq.onnx"
COMPARED_IMAGES = 16


def calibrate(
    onnx_folder: Path,
    dataset_folder: Path,
    store: Store,
    settings: CalibrateSettings,
    int8_folder: Path,
    report_path: Path,
) -> dict[str, str | int | float]:
    """Write `int8_folder` (model.int8.qdq.onnx, calibration.json) and the report; work done before is fetched.

    Returns:
        The headline numbers, flat, for the artifact's metadata.

    Raises:
        InvalidInput: no detector, too few train images, or a result that TensorRT would refuse.
    """
    model = onnx_folder / "model.onnx"
    if not model.is_file():
        raise InvalidInput(f"{onnx_folder}: no model.onnx in it, expected the folder that export wrote")
    dataset = digest_of(dataset_folder)
    remembered = once(
        store,
        "calibrate",
        inputs={
            "model": digest_file(model),
            "dataset": dataset,
            "settings": settings.model_dump(mode="json"),
            "toolkit": toolkit(),
        },
        outputs={"int8_model": int8_folder, "calibration_report": report_path},
        work=lambda: _calibrate(model, dataset, store, settings, int8_folder, report_path),
    )
    summary = summarise(json.loads((int8_folder / "calibration.json").read_bytes()))
    logger.info("calibrate remembered=%s %s", remembered, " ".join(f"{k}={v}" for k, v in summary.items()))
    return summary


def _calibrate(
    model: Path, dataset: str, store: Store, settings: CalibrateSettings, int8_folder: Path, report_path: Path
) -> None:
    version = read_dataset(store, dataset)
    rows = read_rows(store, version, "train")
    int8_folder.mkdir(parents=True, exist_ok=True)
    report_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:

        def look(candidates: pa.Table) -> np.ndarray:
            return look_at(bring_images(store, candidates, Path(folder)))

        chosen, held_out = choose_images(rows, settings.images, settings.held_out_images, settings.seed, look)
        images = bring_images(store, chosen, Path(folder))
        others = bring_images(store, held_out, Path(folder))
        target = int8_folder / INT8_FILE
        truth = labels(others, held_out.select(["boxes", "class_ids"]).to_pylist(), version.class_names)
        record = quantize_detector(model, images, target, settings, truth)
        record |= {
            "dataset": dataset,
            "settings": settings.model_dump(mode="json"),
            "images": chosen["image_sha256"].to_pylist(),
            "held_out_images": held_out["image_sha256"].to_pylist(),
            "agreement": compare_files(model, target, others[:COMPARED_IMAGES], settings.threads),
        }
        (int8_folder / "calibration.json").write_text(json.dumps(record, indent=2, sort_keys=True))
        write_report(report_path, record, chosen, images, version.class_names)


def summarise(record: dict) -> dict[str, str | int | float]:
    """Flat headline numbers of a calibration.json."""
    plain = ("int8_sha256", "size_bytes", "float_size_bytes", "size_ratio", "convolutions", "int8_convolutions")
    return {name: record[name] for name in plain} | {
        "calibration_images": len(record["images"]),
        "float_nodes": len(record["float_nodes"]),
        "boxes_found_again": record["agreement"]["found"],
        "method": record["method"],
        "rescued_activations": len(record["rescued"]),
        "map_points_lost": record["loss"]["map_points"],
        "map_points_margin": record["loss"]["margin_points"],
    }
