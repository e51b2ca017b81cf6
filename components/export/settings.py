"""Settings of the export step."""

from components.shared.settings import Settings


class ExportSettings(Settings):
    """What a night may vary in export."""
