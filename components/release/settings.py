"""Settings of the release step."""

from components.shared.settings import Settings


class ReleaseSettings(Settings):
    """What a night may vary in release."""

    author: str = ""
    """Who started the night, as the reviewers' policy compares names; empty: whoever the process runs as."""
    intended_use: str = "Detect the classes named below in images from the cameras that the training data came from."
    """First paragraph of the model card."""
    licence: str = "AGPL-3.0 (trained with Ultralytics YOLO)"
    """Licence of the weights, as the model card states it."""
