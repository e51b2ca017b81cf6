"""Face of the train step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.TRAINING, install_kfp_package=False)
def train_detector(
    training_set: dsl.Input[dsl.Dataset],
    store_uri: str,
    model_name: str,
    settings: dict,
    checkpoint: dsl.Output[dsl.Model],
    training_report: dsl.Output[dsl.HTML],
):
    """Train a detector, from the champion's weights where there is a champion.

    Args:
        training_set: Folder written by augment_images.
        store_uri: Where images, epoch states and the champion live.
        model_name: Registered model whose champion is the starting point.
        settings: Fields of components.train.settings.TrainSettings.
        checkpoint: Folder with model.pt (tensors and plain values only) and model.json.
        training_report: Loss and mAP curves.
    """
    from pathlib import Path

    from components.shared.step import start_step
    from components.shared.store import open_store
    from components.train.fit import fit_detector
    from components.train.settings import TrainSettings

    chosen = start_step("train", TrainSettings, settings)
    summary = fit_detector(
        Path(training_set.path),
        open_store(store_uri),
        model_name,
        chosen,
        Path(checkpoint.path),
        Path(training_report.path),
    )
    checkpoint.metadata.update(summary)
