"""Settings of the calibrate step."""

from components.shared.settings import Settings


class CalibrateSettings(Settings):
    """What a night may vary in calibrate."""
