"""Settings of the calibrate step."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from components.shared.settings import Settings


class CalibrateSettings(Settings):
    """What a night may vary in calibrate."""

    images: PositiveInt = Field(default=256, ge=1, le=4096)
    """Training images whose activations are observed; fewer when the data set has fewer."""
    held_out_images: PositiveInt = Field(default=128, le=1024)
    """Other training images, on which INT8 is compared with FP32; on few, noise decides which layers stay float."""
    backend: Literal["own", "modelopt"] = "own"
    """Who places the pairs and sets the ranges: this step, or NVIDIA ModelOpt where it is installed."""
    method: Literal["best", "min-max", "percentile-99.99", "percentile-99.999", "mse", "entropy"] = "best"
    """How an activation's range follows from what was observed; "best" tries all on the held-out images."""
    weight_bits: Literal[7, 8] = 7
    """Of a weight's eight bits. On CPUs without VNNI, INT8 kernels cut off what eight bits add up to; seven hold on
    every device. Eight is for fleets of GPUs or of CPUs with VNNI alone."""
    max_loss_points: NonNegativeFloat = 0.5
    """mAP50-95 points that INT8 may lose on the held-out images; layers return to float until that holds."""
    key_classes: tuple[str, ...] = ()
    """Classes whose recall may not drop by more than `max_recall_loss_points`."""
    max_recall_loss_points: NonNegativeFloat = 1.0
    min_int8_convolutions: float = Field(default=0.5, ge=0, le=1)
    """Share of the convolutions that must end up in INT8."""
    threads: NonNegativeInt = 0
    """Of the observing run; 0 takes every core."""
    seed: NonNegativeInt = 0
