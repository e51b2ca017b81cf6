"""The nightly DAG on one page."""

from kfp import dsl

from components.approved.component import is_approved
from components.augment.component import augment_images
from components.build_engine.component import build_engines
from components.calibrate.component import calibrate_int8
from components.evaluate.component import evaluate_models
from components.export.component import export_onnx
from components.intake.component import intake_labels
from components.judge.component import judge_release
from components.notify.component import notify_people
from components.plan.component import plan_night
from components.release.component import release_model
from components.train.component import train_detector


@dsl.pipeline(name="nightly-retrain", display_name="Nightly retrain")
def nightly_retrain(
    inbox_uri: str,
    store_uri: str,
    model_name: str,
    reason: str,
    intake: dict,
    plan: dict,
    augment: dict,
    train: dict,
    export: dict,
    calibrate: dict,
    build_engine: dict,
    evaluate: dict,
    judge: dict,
    release: dict,
    notify: dict,
):
    """Retrain the detector on what the field taught it, prove that it is better, offer it for review."""
    night = {"store_uri": store_uri, "model_name": model_name}
    made_with = {"augment": augment, "train": train, "export": export, "calibrate": calibrate}
    made_with |= {"build_engine": build_engine, "evaluate": evaluate, "judge": judge}

    told = notify_people(**night, reason=reason, settings=notify).set_display_name("Notify")
    with dsl.ExitHandler(told, name="night"):
        labeled = intake_labels(inbox_uri=inbox_uri, store_uri=store_uri, settings=intake)
        labeled.set_display_name("Labeling intake")
        dataset = labeled.outputs["dataset"]

        worth = plan_night(dataset=dataset, **night, reason=reason, settings=plan, **made_with)
        worth.set_display_name("Worth a night?")
        # One unnamed string: on anything else the local runner skips the branch and reports success.
        with dsl.If(worth.output == "train", name="worth-a-night"):
            augmented = augment_images(dataset=dataset, store_uri=store_uri, settings=augment)
            augmented.set_display_name("Augmentation")
            training_set = augmented.outputs["training_set"]

            trained = train_detector(training_set=training_set, **night, settings=train)
            trained.set_display_name("Multi-GPU training")
            checkpoint = trained.outputs["checkpoint"]

            exported = export_onnx(
                checkpoint=checkpoint, training_set=training_set, store_uri=store_uri, settings=export
            )
            exported.set_display_name("ONNX export")
            onnx_model = exported.outputs["onnx_model"]

            calibrated = calibrate_int8(onnx_model=onnx_model, dataset=dataset, store_uri=store_uri, settings=calibrate)
            calibrated.set_display_name("INT8 calibration")
            models = {"onnx_model": onnx_model, "int8_model": calibrated.outputs["int8_model"]}

            built = build_engines(**models, dataset=dataset, store_uri=store_uri, settings=build_engine)
            built.set_display_name("TensorRT and edge engines")
            models["engines"] = built.outputs["engines"]

            evaluated = evaluate_models(**models, dataset=dataset, **night, settings=evaluate)
            evaluated.set_display_name("mAP evaluation")
            scores = evaluated.outputs["scores"]

            judged = judge_release(scores=scores, dataset=dataset, **night, **made_with)
            judged.set_display_name("Release gate")
            decision = judged.outputs["decision"]

            answer = is_approved(decision=decision).set_display_name("Approved?")
            with dsl.If(answer.output == "yes", name="approved"):
                release_model(
                    dataset=dataset,
                    checkpoint=checkpoint,
                    **models,
                    scores=scores,
                    decision=decision,
                    intake_report=labeled.outputs["intake_report"],
                    augment_report=augmented.outputs["augment_report"],
                    training_report=trained.outputs["training_report"],
                    calibration_report=calibrated.outputs["calibration_report"],
                    evaluation_report=evaluated.outputs["evaluation_report"],
                    **night,
                    settings=release,
                ).set_display_name("Release")
