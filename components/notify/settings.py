"""Settings of the notify step."""

from pydantic import PositiveFloat

from components.shared.settings import Settings


class NotifySettings(Settings):
    """What a night may vary in notify."""

    webhook_url: str = ""
    """Gets the notice as a JSON POST (Slack, Mattermost and Teams read its `text`); empty: nobody is called."""
    timeout_s: PositiveFloat = 10.0
    """How long the webhook may take."""
