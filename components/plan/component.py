"""Face of the plan step."""

from kfp import dsl

from components.shared import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def plan_night(
    dataset: dsl.Input[dsl.Dataset],
    store_uri: str,
    model_name: str,
    reason: str,
    settings: dict,
    augment: dict,
    train: dict,
    export: dict,
    calibrate: dict,
    build_engine: dict,
    evaluate: dict,
    judge: dict,
) -> str:
    """Decide whether this night is worth its cost: "train" or "skip".

    Args:
        dataset: Folder written by intake_labels.
        store_uri: Where earlier nights and releases are recorded.
        model_name: Registered model that the night would improve.
        reason: Why the run was started; recorded.
        settings: Fields of components.plan.settings.PlanSettings.
        augment: Settings of augment: with those below, what decides what the night comes to.
        train: Settings of train.
        export: Settings of export.
        calibrate: Settings of calibrate.
        build_engine: Settings of build_engine.
        evaluate: Settings of evaluate.
        judge: Settings of judge.
    """
    from pathlib import Path

    from components.plan.plan import worth_a_night
    from components.plan.settings import PlanSettings
    from components.shared.step import start_step
    from components.shared.store import open_store

    chosen = start_step("plan", PlanSettings, settings)
    made_with = [augment, train, export, calibrate, build_engine, evaluate, judge]
    return worth_a_night(Path(dataset.path), open_store(store_uri), model_name, reason, made_with, chosen)
