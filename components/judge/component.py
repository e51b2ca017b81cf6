"""Face of the judge step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def judge_release(
    scores: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    store_uri: str,
    model_name: str,
    augment: dict,
    train: dict,
    export: dict,
    calibrate: dict,
    build_engine: dict,
    evaluate: dict,
    judge: dict,
    decision: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Markdown],
):
    """Decide by rule whether the challenger may be offered for review, and write down why.

    Args:
        scores: Folder written by evaluate_models.
        dataset: Folder written by intake_labels; part of the night's run key.
        store_uri: Where the night's decision is recorded.
        model_name: Registered model that is judged.
        augment: Settings of augment: with those below, what decided what the night came to.
        train: Settings of train.
        export: Settings of export.
        calibrate: Settings of calibrate.
        build_engine: Settings of build_engine.
        evaluate: Settings of evaluate.
        judge: Fields of components.judge.settings.JudgeSettings.
        decision: Folder with decision.json.
        verdict: The decision for people.
    """
    from pathlib import Path

    from components.judge.judge import judge_night
    from components.judge.settings import JudgeSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("judge", JudgeSettings, judge)
    made_with = [augment, train, export, calibrate, build_engine, evaluate, judge]
    night = (Path(dataset.path), open_store(store_uri), model_name, made_with)
    summary = judge_night(Path(scores.path), *night, chosen, Path(decision.path), Path(verdict.path))
    decision.metadata.update(summary)
