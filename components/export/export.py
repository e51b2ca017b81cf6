"""Write a checkpoint as FP32 ONNX that finds the same boxes."""

import json
import logging
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.export.settings import ExportSettings
from components.shared.dataset import bring_images
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.memory import once
from components.shared.store import Store

logger = logging.getLogger(__name__)


def export_checkpoint(
    checkpoint_folder: Path, training_set_folder: Path, store: Store, settings: ExportSettings, onnx_folder: Path
) -> dict[str, Any]:
    """Write model.onnx and parity.json; the same checkpoint gives the same bytes.

    Args:
        checkpoint_folder: With model.pt.
        training_set_folder: Its val images (train images where it has no val) check parity.
        store: Holds the images.
        settings: Of the step.
        onnx_folder: Receives the files.

    Returns:
        What parity.json says.

    Raises:
        InvalidInput: the checkpoint is unsafe or broken, or the file finds other boxes.
    """
    checkpoint = checkpoint_folder / "model.pt"
    if not checkpoint.is_file():
        raise InvalidInput(f"checkpoint {checkpoint_folder}: no model.pt in it, expected the folder that train wrote")
    inputs = {
        "checkpoint": digest_file(checkpoint),
        "rows": digest_file(training_set_folder / "rows.parquet"),
        "settings": settings.model_dump(mode="json"),
        "versions": {package: version(package) for package in ("torch", "ultralytics", "onnx", "onnxslim")},
    }

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="yanshan-export-") as scratch:
            _export(checkpoint, training_set_folder, store, settings, onnx_folder, Path(scratch))

    once(store, "export", inputs=inputs, outputs={"onnx_model": onnx_folder}, work=work)
    return json.loads((onnx_folder / "parity.json").read_bytes())


def _export(
    checkpoint: Path, training_set: Path, store: Store, settings: ExportSettings, onnx_folder: Path, scratch: Path
) -> None:
    # Ultralytics as a plain library: no downloads, no installs, its settings file in our scratch folder.
    os.environ.update(YOLO_CONFIG_DIR=str(scratch), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    import ultralytics.utils as library

    library.LOGGER.setLevel(logging.ERROR)
    from components.export.graph import read_network, write_graph
    from components.export.parity import check_parity

    rows = pq.read_table(training_set / "rows.parquet")
    val = rows.filter(pc.equal(rows["split"], "val"))
    files = bring_images(store, (val if len(val) else rows).slice(0, settings.parity_images), scratch / "images")
    network, facts = read_network(checkpoint)
    graph = scratch / "model.onnx"
    write_graph(network, facts, settings, graph)
    parity = check_parity(network, facts, graph, files, settings)
    onnx_folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(graph, onnx_folder / "model.onnx")
    (onnx_folder / "parity.json").write_text(json.dumps(parity, indent=1, sort_keys=True))
    logger.info("export %s", " ".join(f"{name}={value}" for name, value in parity.items()))
