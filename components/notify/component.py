"""Face of the notify step, the night's exit handler."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def notify_people(status: dsl.PipelineTaskFinalStatus, store_uri: str, model_name: str, reason: str, settings: dict):
    """Tell people how the night ended, whatever happened.

    Args:
        status: How the night's tasks ended.
        store_uri: Where the night was recorded.
        model_name: Registered model of the night.
        reason: Why the run was started.
        settings: Fields of components.notify.settings.NotifySettings.
    """
    from components.notify.notify import send_notice
    from components.notify.settings import NotifySettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("notify", NotifySettings, settings)
    send_notice(status.state, status.error_message, open_store(store_uri), model_name, reason, chosen)
