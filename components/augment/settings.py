"""Settings of the augment step."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from components.shared.settings import Settings


class AugmentSettings(Settings):
    """What a night may vary in augment."""

    rare_class_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    """A class in fewer of the train images than this is raised by repeating images that hold it; 0 repeats none."""
    most_repeats: PositiveInt = 4
    """No image counts more often than this in an epoch."""
    pictured_images: NonNegativeInt = 12
    """Images on the report's contact sheet."""
    seed: NonNegativeInt = 0
