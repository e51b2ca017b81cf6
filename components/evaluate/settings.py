"""Settings of the evaluate step."""

from components.shared.settings import Settings


class EvaluateSettings(Settings):
    """What a night may vary in evaluate."""
