"""Settings of the train step."""

from components.shared.settings import Settings


class TrainSettings(Settings):
    """What a night may vary in train."""
