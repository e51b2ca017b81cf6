"""Face of the evaluate step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.ENGINE, install_kfp_package=False)
def evaluate_models(
    onnx_model: dsl.Input[dsl.Model],
    int8_model: dsl.Input[dsl.Model],
    engines: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    store_uri: str,
    model_name: str,
    settings: dict,
    scores: dsl.Output[dsl.Artifact],
    evaluation_report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
):
    """Measure challenger and champion side by side on the frozen test set, float and INT8.

    Args:
        onnx_model: Folder written by export_onnx.
        int8_model: Folder written by calibrate_int8.
        engines: Folder written by build_engines.
        dataset: Folder written by intake_labels; names the frozen test set.
        store_uri: Where images, champion and cached predictions live.
        model_name: Registered model whose champion is compared.
        settings: Fields of components.evaluate.settings.EvaluateSettings.
        scores: Folder with scores.json and what the gate needs to decide again later.
        evaluation_report: Self-contained page for the reviewer.
        metrics: The headline numbers for the KFP UI.
        confusion: Confusion matrix of the INT8 model at its working thresholds, for the KFP UI.
    """
    import json
    from pathlib import Path

    from components.evaluate.evaluate import evaluate_night
    from components.evaluate.settings import EvaluateSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("evaluate", EvaluateSettings, settings)
    models = (Path(onnx_model.path), Path(int8_model.path), Path(engines.path))
    headline = evaluate_night(
        *models,
        Path(dataset.path),
        open_store(store_uri),
        model_name,
        chosen,
        Path(scores.path),
        Path(evaluation_report.path),
    )
    metrics.metadata.update(headline)
    drawn = json.loads((Path(scores.path) / "confusion.json").read_text())
    confusion.log_confusion_matrix(drawn["categories"], drawn["matrix"])
