"""Settings of the notify step."""

from components.shared.settings import Settings


class NotifySettings(Settings):
    """What a night may vary in notify."""
