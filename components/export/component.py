"""Face of the export step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.TRAINING, install_kfp_package=False)
def export_onnx(
    checkpoint: dsl.Input[dsl.Model],
    training_set: dsl.Input[dsl.Dataset],
    store_uri: str,
    settings: dict,
    onnx_model: dsl.Output[dsl.Model],
):
    """Write the checkpoint as FP32 ONNX that finds the same boxes.

    Args:
        checkpoint: Folder written by train_detector.
        training_set: Folder written by augment_images; its val images check parity.
        store_uri: Where images live.
        settings: Fields of components.export.settings.ExportSettings.
        onnx_model: Folder with model.onnx and parity.json.
    """
    from pathlib import Path

    from components.export.export import export_checkpoint
    from components.export.settings import ExportSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("export", ExportSettings, settings)
    parity = export_checkpoint(
        Path(checkpoint.path), Path(training_set.path), open_store(store_uri), chosen, Path(onnx_model.path)
    )
    onnx_model.metadata.update(parity)
