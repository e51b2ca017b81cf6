"""Face of the build_engine step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.ENGINE, install_kfp_package=False)
def build_engines(
    onnx_model: dsl.Input[dsl.Model],
    int8_model: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    store_uri: str,
    settings: dict,
    engines: dsl.Output[dsl.Model],
):
    """Build and measure one engine a target.

    Args:
        onnx_model: Folder written by export_onnx.
        int8_model: Folder written by calibrate_int8.
        dataset: Folder written by intake_labels; a few of its images become the golden set.
        store_uri: Where images live.
        settings: Fields of components.build_engine.settings.BuildEngineSettings.
        engines: One folder a target with its files and target.json, and golden/.
    """
    from pathlib import Path

    from components.build_engine.build import build_targets
    from components.build_engine.settings import BuildEngineSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("build_engine", BuildEngineSettings, settings)
    summary = build_targets(
        Path(onnx_model.path),
        Path(int8_model.path),
        Path(dataset.path),
        open_store(store_uri),
        chosen,
        Path(engines.path),
    )
    engines.metadata.update(summary)
