"""Settings of the plan step."""

from components.shared.settings import Settings


class PlanSettings(Settings):
    """What a night may vary in plan."""
