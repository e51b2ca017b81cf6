"""TensorRT for RTX, ahead of time: NVIDIA's own parser and builder run on a machine that has no GPU."""

import secrets
from pathlib import Path

from components.shared.errors import InvalidInput, MissingCapability


def write_plan(model: Path, folder: Path, compute_capability: int) -> tuple[str, str]:
    """Build `folder`/model.plan for one compute capability (86, 89, 120...).

    No timing cache is set: it would ask for a GPU. A plan is code: load one only after its digest is verified.

    Returns:
        Name of the plan, and the runtime's version.

    Raises:
        InvalidInput: the parser or the builder refuses the graph; the message quotes it.
        MissingCapability: tensorrt-rtx is not installed.
    """
    try:
        import tensorrt_rtx as trt
    except ImportError as missing:
        raise MissingCapability(
            "tensorrt-rtx targets need the package tensorrt-rtx (extra `rtx`), which is not installed"
        ) from missing

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise InvalidInput(f"{model}: TensorRT's parser refuses it: " + "; ".join(_refusals(parser)))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{compute_capability}"), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InvalidInput(f"{model}: TensorRT's builder gave no plan for SM{compute_capability}")
    beside = folder / f".writing-{secrets.token_hex(8)}"
    beside.write_bytes(bytes(plan))
    beside.replace(folder / "model.plan")
    return "model.plan", trt.__version__


def _refusals(parser) -> list[str]:
    errors = [parser.get_error(number) for number in range(min(parser.num_errors, 3))]
    return [f"{error.node_name()} ({error.node_operator()}): {error.desc()}" for error in errors]
