"""Settings of the build_engine step."""

from components.shared.settings import Settings


class BuildEngineSettings(Settings):
    """What a night may vary in build_engine."""
