"""Face of the calibrate step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.ENGINE, install_kfp_package=False)
def calibrate_int8(
    onnx_model: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    store_uri: str,
    settings: dict,
    int8_model: dsl.Output[dsl.Model],
    calibration_report: dsl.Output[dsl.HTML],
):
    """Quantize to INT8 with explicit Q/DQ, calibrated on training images chosen on purpose.

    Args:
        onnx_model: Folder written by export_onnx.
        dataset: Folder written by intake_labels; only its train rows are used.
        store_uri: Where images live.
        settings: Fields of components.calibrate.settings.CalibrateSettings.
        int8_model: Folder with model.int8.qdq.onnx and calibration.json.
        calibration_report: Chosen images, float layers, size and agreement.
    """
    from pathlib import Path

    from components.calibrate.calibrate import calibrate
    from components.calibrate.settings import CalibrateSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("calibrate", CalibrateSettings, settings)
    summary = calibrate(
        Path(onnx_model.path),
        Path(dataset.path),
        open_store(store_uri),
        chosen,
        Path(int8_model.path),
        Path(calibration_report.path),
    )
    int8_model.metadata.update(summary)
