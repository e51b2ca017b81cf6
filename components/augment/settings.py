"""Settings of the augment step."""

from components.shared.settings import Settings


class AugmentSettings(Settings):
    """What a night may vary in augment."""
