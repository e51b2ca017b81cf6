"""Face of the augment step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def augment_images(
    dataset: dsl.Input[dsl.Dataset],
    store_uri: str,
    settings: dict,
    training_set: dsl.Output[dsl.Dataset],
    augment_report: dsl.Output[dsl.HTML],
):
    """Choose, weigh and enrich the training images; val and test stay as they are.

    Args:
        dataset: Folder written by intake_labels.
        store_uri: Where images live; new images become objects there.
        settings: Fields of components.augment.settings.AugmentSettings.
        training_set: Folder with training_set.json and rows.parquet: a manifest, no images.
        augment_report: Contact sheet and class balance before and after.
    """
    from pathlib import Path

    from components.augment.augment import augment
    from components.augment.settings import AugmentSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("augment", AugmentSettings, settings)
    counts = augment(
        Path(dataset.path), open_store(store_uri), chosen, Path(training_set.path), Path(augment_report.path)
    )
    training_set.metadata.update(counts)
