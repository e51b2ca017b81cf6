"""The ONNX graph of a checkpoint's network."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from ultralytics.nn.modules import C2f, Detect
from ultralytics.nn.tasks import DetectionModel

from components.export.settings import ExportSettings
from components.shared.errors import InvalidInput


def read_network(checkpoint: Path) -> tuple[DetectionModel, dict[str, Any]]:
    """The network of a checkpoint, ready to infer, and the plain facts beside its weights.

    Networks with two heads keep the one that sees many boxes an object: it is the more accurate one, and every
    architecture then ends in the same output, (1, 4 + classes, N), which one suppression and one INT8 recipe serve.

    Raises:
        InvalidInput: the file is broken, would run code when loaded, or its weights do not fit its layers.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network = DetectionModel(dict(content["layers"]), ch=3, nc=len(content["class_names"]), verbose=False)
        network.load_state_dict(content["state_dict"])
    except Exception as refusal:
        raise InvalidInput(
            f"checkpoint {checkpoint}: expected plain weights of its own layers, got {refusal}"
        ) from refusal
    network.names = dict(enumerate(content["class_names"]))
    network.eval()
    network.end2end = False
    return network, {name: value for name, value in content.items() if name != "state_dict"}


def write_graph(network: DetectionModel, facts: dict[str, Any], settings: ExportSettings, path: Path) -> None:
    """Write `network` as ONNX; no date, host or path enters the file.

    Args:
        network: In inference mode; fused here, which changes its outputs by rounding only.
        facts: Of the checkpoint.
        settings: Of the step.
        path: The file to write.
    """
    size = facts["image_size_px"]
    network.fuse(verbose=False)
    for module in network.modules():
        if isinstance(module, Detect):
            vars(module).update(export=True, format="onnx", dynamic=settings.batch == "any")
        elif isinstance(module, C2f):
            module.forward = module.forward_split  # type: ignore[method-assign]
    pixels = torch.zeros(1, 3, size, size)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        network(pixels)
        torch.onnx.export(
            network,
            (pixels,),
            path,
            opset_version=settings.opset,
            input_names=["images"],
            output_names=["output0"],
            dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}} if settings.batch == "any" else None,
            dynamo=False,
        )
    model = onnx.load(path)
    if settings.simplify:
        import onnxslim

        model = onnxslim.slim(model)
    _describe(model, facts, settings)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _describe(model: onnx.ModelProto, facts: dict[str, Any], settings: ExportSettings) -> None:
    """Metadata as Ultralytics writes it, without what differs between two exports of one checkpoint."""
    size = facts["image_size_px"]
    told = {
        "description": f"{facts['architecture']} detector",
        "author": "Ultralytics",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "stride": facts["stride"],
        "task": "detect",
        "head": "Detect",
        "batch": 1,
        "imgsz": [size, size],
        "names": dict(enumerate(facts["class_names"])),
        "args": {"batch": 1, "dynamic": settings.batch == "any", "nms": False, "simplify": settings.simplify},
        "channels": 3,
        "end2end": False,
        "architecture": facts["architecture"],
    }
    del model.metadata_props[:]
    for name, value in told.items():
        model.metadata_props.add(key=name, value=str(value))
