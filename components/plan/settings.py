"""Settings of the plan step."""

from pydantic import NonNegativeInt

from components.shared.settings import Settings


class PlanSettings(Settings):
    """What a night may vary in plan."""

    min_new_images: NonNegativeInt = 1
    """Fewer new training images since the last decided night are not worth a night."""
