"""Face of the release step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.RELEASE, install_kfp_package=False)
def release_model(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    onnx_model: dsl.Input[dsl.Model],
    int8_model: dsl.Input[dsl.Model],
    engines: dsl.Input[dsl.Model],
    scores: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    intake_report: dsl.Input[dsl.HTML],
    augment_report: dsl.Input[dsl.HTML],
    training_report: dsl.Input[dsl.HTML],
    calibration_report: dsl.Input[dsl.HTML],
    evaluation_report: dsl.Input[dsl.HTML],
    store_uri: str,
    model_name: str,
    settings: dict,
    release_record: dsl.Output[dsl.Artifact],
):
    """Register an approved model in MLflow with alias challenger, and write its bundle.

    Args:
        dataset: Folder written by intake_labels.
        checkpoint: Folder written by train_detector.
        onnx_model: Folder written by export_onnx.
        int8_model: Folder written by calibrate_int8.
        engines: Folder written by build_engines.
        scores: Folder written by evaluate_models.
        decision: Folder written by judge_release.
        intake_report: Page written by intake_labels.
        augment_report: Page written by augment_images.
        training_report: Page written by train_detector.
        calibration_report: Page written by calibrate_int8.
        evaluation_report: Page written by evaluate_models.
        store_uri: Where the bundle goes.
        model_name: Registered model that gets a version.
        settings: Fields of components.release.settings.ReleaseSettings.
        release_record: Folder with release.json: version, digests, places.
    """
    from pathlib import Path

    from components.release.release import release_night
    from components.release.settings import ReleaseSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("release", ReleaseSettings, settings)
    artifacts = [dataset, checkpoint, onnx_model, int8_model, engines, scores, decision]
    names = ["dataset", "checkpoint", "onnx_model", "int8_model", "engines", "scores", "decision"]
    artifacts += [intake_report, augment_report, training_report, calibration_report, evaluation_report]
    names += ["intake", "augment", "training", "calibration", "evaluation"]
    paths = {name: Path(artifact.path) for name, artifact in zip(names, artifacts, strict=True)}
    record = release_night(paths, open_store(store_uri), model_name, chosen, Path(release_record.path))
    release_record.metadata.update(record)
