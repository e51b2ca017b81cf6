"""Settings of the judge step."""

from components.shared.settings import Settings


class JudgeSettings(Settings):
    """What a night may vary in judge."""
