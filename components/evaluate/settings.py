"""Settings of the evaluate step."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from components.shared.settings import Settings

Fraction = Annotated[float, Field(gt=0, lt=1)]


class EvaluateSettings(Settings):
    """What a night may vary in evaluate."""

    min_score: Fraction = 0.001
    """Detections at or below it are not stored."""
    nms_iou: Fraction = 0.7
    """Of two boxes of one class that overlap more, the better one stays."""
    max_detections: Annotated[int, Field(ge=100, le=1000)] = 300
    """Stored an image; COCO scores the best 100 of each class."""
    working_precision: Fraction = 0.8
    """The working threshold of a class is the lowest score at which it is this precise on val; where it never is, the
    score of the best F1."""
    max_val_images: PositiveInt = 2000
    """Thresholds are chosen on at most so many val images, picked by digest."""
    slice_tags: tuple[str, ...] = ("shift", "camera", "site")
    """Tags of the export by which the test set is also measured in parts."""
    engine_targets: tuple[str, ...] = ("openvino-int8",)
    """Engines measured on the test set beside the ONNX files, where this machine can run them."""
    resamples: Annotated[int, Field(ge=200, le=20_000)] = 2000
    """Bootstrap resamples behind every interval."""
    resample_by: Literal["group", "image"] = "group"
    """Images of one group (a scene, a session) stand or fall together; `image` is for sets without groups."""
    seed: NonNegativeInt = 0
    threads: NonNegativeInt = 0
    """Images looked at side by side, each on one core; 0: as many as there are cores."""
    num_pictures: Annotated[int, Field(ge=0, le=48)] = 24
    """Pictures in each gallery of the report."""
