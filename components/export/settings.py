"""Settings of the export step."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from components.shared.settings import Settings


class ExportSettings(Settings):
    """What a night may vary in export."""

    opset: Annotated[int, Field(ge=11, le=20)] = 19
    """INT8 calibration wants 19 or 20: half-precision scales need 19, static quantization refuses 21."""
    batch: Literal["one", "any"] = "one"
    """Whether the file takes exactly one image a call or any number."""
    simplify: bool = False
    """Fold and merge nodes with onnxslim; calibration does its own folding."""
    parity_images: PositiveInt = 32
    """Val images on which the file must find the boxes that the checkpoint finds."""
    parity_min_score: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """Only boxes above it are compared."""
    most_shift_px: PositiveFloat = 0.5
    """Largest distance of a box edge, in image pixels."""
    most_score_change: PositiveFloat = 0.001
