"""Settings of the build_engine step."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from components.shared.settings import Settings

Target = Literal[
    "openvino-int8",
    "openvino-fp32",
    "onnx",
    "tensorrt-int8",
    "tensorrt-rtx-sm75",
    "tensorrt-rtx-sm86",
    "tensorrt-rtx-sm89",
    "tensorrt-rtx-sm120",
    "ncnn",
    "litert",
    "coreml",
]


class BuildEngineSettings(Settings):
    """What a night may vary in build_engine."""

    targets: tuple[Target, ...] = ("openvino-int8", "openvino-fp32", "onnx")
    """What is built, one folder each; one that fails is recorded with its reason and fails no other."""
    required: tuple[Target, ...] = ("openvino-int8", "onnx")
    """Targets without which there is nothing to ship: one that fails ends the step."""
    tensorrt_remainder: Literal["fp16", "fp32"] = "fp16"
    """What TensorRT runs where the graph is not INT8; the decoding of boxes stays FP32."""
    golden_images: PositiveInt = Field(default=8, le=64)
    """Training images that travel with the engines for the device's self-test."""
    min_golden_found: float = Field(default=0.5, ge=0, le=1)
    """Share of the FP32 reference's boxes on the golden images that a target must find again: a converter that
    miscompiles misses most of them, INT8 alone a few that score close to the threshold."""
    threads: PositiveInt = 2
    """Of the runtime while latency is measured."""
    warm_up_runs: NonNegativeInt = 10
    timed_runs: PositiveInt = 50
    seed: NonNegativeInt = 0
