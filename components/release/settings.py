"""Settings of the release step."""

from components.shared.settings import Settings


class ReleaseSettings(Settings):
    """What a night may vary in release."""
