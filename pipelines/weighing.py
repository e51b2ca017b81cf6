"""What an architecture weighs as the files that a night would ship: sizes and milliseconds, weights at random."""

from pathlib import Path


def weigh_files(name: str, size: int, classes: int, runs: int, folder: Path) -> dict[str, float]:
    """Sizes and median latency of the files that the pipeline would make of a fresh network.

    Args:
        name: Architecture.
        size: Side of the network input in pixels.
        classes: Of the head.
        runs: Timed calls, OpenVINO on this CPU.
        folder: Gets the files.

    Returns:
        `onnx_mb`, `int8_mb`, and `fp32_ms`, `int8_ms` of one image.

    Raises:
        InvalidInput: nobody knows the architecture.
    """
    from components.build_engine.latency import measure_file
    from components.calibrate.quantize import quantize_detector
    from components.calibrate.settings import CalibrateSettings
    from components.export.graph import read_network, write_graph
    from components.export.settings import ExportSettings

    checkpoint = _write_fresh(name, size, classes, folder)
    network, facts = read_network(checkpoint)
    exact, int8 = folder / "model.onnx", folder / "int8.onnx"
    write_graph(network, facts, ExportSettings(), exact)
    quantize_detector(exact, [_write_noise(folder, size)], int8, CalibrateSettings(method="min-max"))
    times = [measure_file(file, "openvino", 0, 5, runs)["p50"] for file in (exact, int8)]
    sizes = [round(file.stat().st_size / 1e6, 3) for file in (exact, int8)]
    return dict(zip(("onnx_mb", "int8_mb", "fp32_ms", "int8_ms"), [*sizes, *times], strict=True))


def _write_fresh(name: str, size: int, classes: int, folder: Path) -> Path:
    from components.train.checkpoint import write_checkpoint
    from components.train.network import build_network, read_architecture

    layers, names = read_architecture(name), [f"class {place}" for place in range(classes)]
    network = build_network(layers, names)
    facts = {"architecture": name, "layers": layers, "class_names": names, "image_size_px": size}
    write_checkpoint(folder, network.state_dict(), facts | {"stride": int(network.stride.max())})
    return folder / "model.pt"


def _write_noise(folder: Path, size: int) -> Path:
    import cv2
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), pixels)
    return folder / "noise.png"
