"""Settings of the intake step."""

from components.shared.settings import Settings


class IntakeSettings(Settings):
    """What a night may vary in intake."""
