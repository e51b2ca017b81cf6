"""Settings of the calibrate step."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from components.shared.settings import Settings


class CalibrateSettings(Settings):
    """What a night may vary in calibrate."""

    images: PositiveInt = Field(default=256, ge=8, le=4096)
    """Training images whose activations are observed; fewer when the data set has fewer."""
    held_out_images: PositiveInt = 32
    """Other training images on which INT8 is compared with FP32."""
    method: Literal["min-max"] = "min-max"
    """How an activation's range follows from what was observed."""
    min_int8_convolutions: float = Field(default=0.5, ge=0, le=1)
    """Share of the convolutions that must end up in INT8."""
    threads: NonNegativeInt = 0
    """Of the observing run; 0 takes every core."""
    seed: NonNegativeInt = 0
