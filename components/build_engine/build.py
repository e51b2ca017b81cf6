"""The build_engine step: one folder a target, each measured, and the golden images to test it with."""

import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from components.build_engine.golden import choose_golden, parity, write_golden
from components.build_engine.settings import BuildEngineSettings
from components.build_engine.targets import FLOAT_FILE, INT8_FILE, Made, Sources, make, measure_made
from components.shared.dataset import bring_images, digest_of, read_dataset, read_rows
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput, YanshanError
from components.shared.memory import once
from components.shared.progress import progress
from components.shared.store import Store

logger = logging.getLogger(__name__)
PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime", "tensorrt-rtx": "tensorrt_rtx"}
PACKAGES |= {"tensorrt": "tensorrt", "ncnn": "ncnn", "pnnx": "pnnx", "ai-edge-litert": "ai_edge_litert"}
"""Distribution and module of each converter."""


def build_targets(
    onnx_folder: Path,
    int8_folder: Path,
    dataset_folder: Path,
    store: Store,
    settings: BuildEngineSettings,
    engines_folder: Path,
) -> dict[str, str | int | float]:
    """Fill `engines_folder` with one folder a target and golden/; work done before is fetched.

    Returns:
        Flat headline numbers: which targets stand, which failed, size and latency of each.

    Raises:
        InvalidInput: an input is missing, or a required target fails.
        MissingCapability: a required target needs a package that is not installed.
    """
    models = {"float": onnx_folder / FLOAT_FILE, "int8": int8_folder / INT8_FILE}
    sources = Sources(models["float"], models["int8"], int8_folder / "calibration.json", store, settings)
    for path in models.values():
        if not path.is_file():
            raise InvalidInput(f"{path}: no such file, expected what export and calibrate wrote")
    dataset = digest_of(dataset_folder)
    inputs: dict[str, Any] = {name: digest_file(path) for name, path in models.items()}
    inputs |= {"dataset": dataset, "settings": settings.model_dump(mode="json")}
    inputs |= {"machine": os.uname().machine, "toolkit": toolkit()}
    if "litert" in settings.targets:
        inputs["onnx2tf"] = shutil.which("onnx2tf") is not None
    remembered = once(
        store,
        "build_engine",
        inputs=inputs,
        outputs={"engines": engines_folder},
        work=lambda: _build(sources, dataset, engines_folder),
    )
    summary = _summary(engines_folder)
    logger.info("build_engine remembered=%s %s", remembered, " ".join(f"{k}={v}" for k, v in summary.items()))
    return summary


def toolkit() -> dict[str, str]:
    """Versions of the converters that are installed: another one is another engine."""
    return {
        package: importlib.metadata.version(package)
        for package in PACKAGES
        if importlib.util.find_spec(PACKAGES[package])
    }


def _build(sources: Sources, dataset: str, engines_folder: Path) -> None:
    settings, store = sources.settings, sources.store
    if missing := [target for target in settings.required if target not in settings.targets]:
        raise InvalidInput(f"build_engine settings: required {missing} are not among targets {list(settings.targets)}")
    engines_folder.mkdir(parents=True, exist_ok=True)
    rows = choose_golden(read_rows(store, read_dataset(store, dataset), "train"), settings.golden_images, settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        images = bring_images(store, rows, Path(folder))
        golden = write_golden(sources.float_model, images, engines_folder / "golden", settings.threads)
    failures = {}
    for target in progress(settings.targets, "build engines", len(settings.targets)):
        try:
            build_target(target, sources, golden, engines_folder)
        except YanshanError as fault:
            if target in settings.required:
                raise
            failures[target] = {"error": type(fault).__name__, "reason": str(fault)}
            logger.warning("build_engine target=%s failed: %s", target, fault)
    (engines_folder / "failures.json").write_text(json.dumps(failures, indent=2, sort_keys=True))


def build_target(target: str, sources: Sources, golden: dict, engines_folder: Path) -> dict:
    """Build one target into `engines_folder`/`target`, whole or not at all, and return its target.json.

    Raises:
        InvalidInput: a converter refuses the graph, or the result misses the golden boxes.
        MissingCapability: the converter or its hardware is not here.
    """
    started = time.monotonic()
    beside = engines_folder / f".building-{target}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        made = make(target, sources, beside)
        record = _describe(target, made, beside)
        record["latency_ms"] = measure_made(made, sources.settings)
        images = engines_folder / "golden"
        record["parity"] = parity(made.detector, golden, images) if made.detector else {}
        _accept(record, sources.settings)
        (beside / "target.json").write_text(json.dumps(record, indent=2, sort_keys=True))
        beside.replace(engines_folder / target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    logger.info("build_engine target=%s seconds=%.1f", target, time.monotonic() - started)
    return record


def _describe(target: str, made: Made, folder: Path) -> dict[str, Any]:
    files = sorted(folder.iterdir())
    return {
        "target": target,
        "runtime": made.runtime,
        "runtime_version": made.version,
        "min_version": made.min_version,
        "max_version": made.max_version,
        "precision": made.precision,
        "file": made.file,
        "source_sha256": digest_file(made.source),
        "sha256": digest_file(folder / made.file),
        "size_bytes": _weight(folder, made.file),
        "files": [{"path": path.name, "sha256": digest_file(path), "size": path.stat().st_size} for path in files],
    }


def _weight(folder: Path, name: str) -> int:
    """Bytes that a device loads: the file, and the weights that lie beside it."""
    return sum(path.stat().st_size for path in folder.glob(f"{Path(name).stem}.*"))


def _accept(record: dict, settings: BuildEngineSettings) -> None:
    found = record["parity"].get("found", 1.0)
    if found < settings.min_golden_found:
        # A CPU without VNNI cuts off the sums of 8-bit weights.
        hint = "; on a CPU without VNNI, calibrate.weight_bits=7 helps" if record["precision"] == "int8" else ""
        raise InvalidInput(
            f"target {record['target']}: finds {found:.3f} of the FP32 boxes on the golden images, "
            f"expected at least {settings.min_golden_found:.3f}{hint}"
        )


def _summary(engines_folder: Path) -> dict[str, str | int | float]:
    records = [json.loads(path.read_bytes()) for path in sorted(engines_folder.glob("*/target.json"))]
    failures = json.loads((engines_folder / "failures.json").read_bytes())
    summary: dict[str, str | int | float] = {
        "targets": ",".join(record["target"] for record in records),
        "failed": ",".join(sorted(failures)),
    }
    for record in records:
        summary[f"{record['target']}.size_bytes"] = record["size_bytes"]
        summary[f"{record['target']}.latency_p50_ms"] = record["latency_ms"]["p50"]
    return summary
