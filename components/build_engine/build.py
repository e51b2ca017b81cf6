"""The build_engine step: one folder a target, each measured, and the golden images to test it with."""

import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from components.build_engine.golden import choose_golden, parity, write_golden
from components.build_engine.latency import measure_file
from components.build_engine.openvino_ir import write_ir
from components.build_engine.settings import BuildEngineSettings
from components.build_engine.tensorrt_rtx import write_plan
from components.shared.dataset import bring_images, digest_of, read_dataset, read_rows
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput, YanshanError
from components.shared.memory import once
from components.shared.progress import progress
from components.shared.store import Store

logger = logging.getLogger(__name__)
FLOAT_FILE, INT8_FILE = "model.onnx", "model.int8.qdq.onnx"


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
    for path in models.values():
        if not path.is_file():
            raise InvalidInput(f"{path}: no such file, expected what export and calibrate wrote")
    dataset = digest_of(dataset_folder)
    inputs: dict[str, Any] = {name: digest_file(path) for name, path in models.items()}
    inputs |= {"dataset": dataset, "settings": settings.model_dump(mode="json"), "machine": os.uname().machine}
    remembered = once(
        store,
        "build_engine",
        inputs=inputs,
        outputs={"engines": engines_folder},
        work=lambda: _build(models, dataset, store, settings, engines_folder),
    )
    summary = _summary(engines_folder)
    logger.info("build_engine remembered=%s %s", remembered, " ".join(f"{k}={v}" for k, v in summary.items()))
    return summary


def _build(
    models: dict[str, Path], dataset: str, store: Store, settings: BuildEngineSettings, engines_folder: Path
) -> None:
    engines_folder.mkdir(parents=True, exist_ok=True)
    rows = choose_golden(read_rows(store, read_dataset(store, dataset), "train"), settings.golden_images, settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        images = bring_images(store, rows, Path(folder))
        golden = write_golden(models["float"], images, engines_folder / "golden", settings.threads)
    failures = {}
    for target in progress(settings.targets, "build engines", len(settings.targets)):
        try:
            build_target(target, models, golden, settings, engines_folder)
        except YanshanError as fault:
            if target in settings.required:
                raise
            failures[target] = {"error": type(fault).__name__, "reason": str(fault)}
            logger.warning("build_engine target=%s failed: %s", target, fault)
    if missing := [target for target in settings.required if target not in settings.targets]:
        raise InvalidInput(f"build_engine settings: required {missing} are not among targets {settings.targets}")
    (engines_folder / "failures.json").write_text(json.dumps(failures, indent=2, sort_keys=True))


def build_target(
    target: str, models: dict[str, Path], golden: dict, settings: BuildEngineSettings, engines_folder: Path
) -> dict:
    """Build one target into `engines_folder`/`target`, whole or not at all, and return its target.json."""
    started = time.monotonic()
    beside = engines_folder / f".building-{target}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        record = _make(target, models, golden, settings, beside, engines_folder / "golden")
        _accept(record, settings)
        (beside / "target.json").write_text(json.dumps(record, indent=2, sort_keys=True))
        beside.replace(engines_folder / target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    logger.info("build_engine target=%s seconds=%.1f", target, time.monotonic() - started)
    return record


def _make(
    target: str, models: dict[str, Path], golden: dict, settings: BuildEngineSettings, folder: Path, images: Path
) -> dict:
    precision = "fp32" if target == "openvino-fp32" else "int8"
    source = models["float" if precision == "fp32" else "int8"]
    if target.startswith("openvino-"):
        name, version = write_ir(source, folder)
        runtime, min_version, max_version = "openvino", version.split(".")[0] + ".0", ""
    elif target == "onnx":
        name, version = _copy_onnx(models, folder)
        runtime, min_version, max_version = "onnxruntime", "1.17", ""
    else:
        name, version = write_plan(source, folder, int(target.rpartition("-sm")[2]))
        runtime, min_version, max_version = "tensorrt-rtx", version, version
    record = {
        "target": target,
        "runtime": runtime,
        "runtime_version": version,
        "min_version": min_version,
        "max_version": max_version,
        "precision": precision,
        "file": name,
        "source_sha256": digest_file(source),
        "sha256": digest_file(folder / name),
        "size_bytes": _weight(folder, name),
        "files": [
            {"path": path.name, "sha256": digest_file(path), "size": path.stat().st_size}
            for path in sorted(folder.iterdir())
        ],
    }
    return record | _measured(runtime, folder / name, golden, settings, images)


def _weight(folder: Path, name: str) -> int:
    """Bytes that a device loads: the file, and the weights that lie beside it."""
    return sum(path.stat().st_size for path in folder.glob(f"{Path(name).stem}.*") if path.suffix != ".json")


def _measured(runtime: str, model: Path, golden: dict, settings: BuildEngineSettings, images: Path) -> dict:
    if runtime == "tensorrt-rtx":
        unmeasured = "not measured: built ahead of time, no GPU of this kind here"
        return {"latency_ms": {"p50": 0.0, "p95": 0.0, "how": unmeasured}, "parity": {}}
    latency = measure_file(model, runtime, settings.threads, settings.warm_up_runs, settings.timed_runs)
    return {"latency_ms": latency, "parity": parity(model, golden, images, settings.threads)}


def _copy_onnx(models: dict[str, Path], folder: Path) -> tuple[str, str]:
    import onnxruntime

    shutil.copyfile(models["float"], folder / FLOAT_FILE)
    shutil.copyfile(models["int8"], folder / INT8_FILE)
    return INT8_FILE, onnxruntime.__version__


def _accept(record: dict, settings: BuildEngineSettings) -> None:
    found = record["parity"].get("found", 1.0)
    if found < settings.min_golden_found:
        raise InvalidInput(
            f"target {record['target']}: finds {found:.3f} of the FP32 boxes on the golden images, "
            f"expected at least {settings.min_golden_found:.3f}"
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
