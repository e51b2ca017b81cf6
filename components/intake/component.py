"""Face of the intake step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def intake_labels(
    inbox_uri: str,
    store_uri: str,
    settings: dict,
    dataset: dsl.Output[dsl.Dataset],
    intake_report: dsl.Output[dsl.HTML],
):
    """Take labeling exports into the store as one immutable data set version.

    Args:
        inbox_uri: Folder of exports (`file:///...` or `s3://...`).
        store_uri: Where images, rows and versions live.
        settings: Fields of components.intake.settings.IntakeSettings.
        dataset: Folder with dataset.json (digest, counts) and findings.parquet.
        intake_report: What was accepted, repaired and quarantined, and why.
    """
    from pathlib import Path

    from components.intake.intake import take_in
    from components.intake.settings import IntakeSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("intake", IntakeSettings, settings)
    taken = take_in(inbox_uri, open_store(store_uri), chosen, Path(dataset.path), Path(intake_report.path))
    dataset.metadata.update(taken)
