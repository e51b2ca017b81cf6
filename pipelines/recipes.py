"""Recipes: every number of a night in one value, `production` first and its twins derived from it."""

from collections.abc import Callable, Mapping
from typing import Any

from components.augment.settings import AugmentSettings
from components.build_engine.settings import BuildEngineSettings
from components.calibrate.settings import CalibrateSettings
from components.evaluate.settings import EvaluateSettings
from components.export.settings import ExportSettings
from components.intake.settings import IntakeSettings
from components.judge.settings import JudgeSettings
from components.notify.settings import NotifySettings
from components.plan.settings import PlanSettings
from components.release.settings import ReleaseSettings
from components.shared.errors import InvalidInput
from components.shared.settings import Settings, read_settings
from components.train.settings import TrainSettings


class Recipe(Settings):
    """The settings of one kind of night: a name for its model and one value a step."""

    model_name: str
    intake: IntakeSettings = IntakeSettings()
    plan: PlanSettings = PlanSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    export: ExportSettings = ExportSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    build_engine: BuildEngineSettings = BuildEngineSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    judge: JudgeSettings = JudgeSettings()
    release: ReleaseSettings = ReleaseSettings()
    notify: NotifySettings = NotifySettings()

    def as_parameters(self) -> dict[str, Any]:
        """The recipe as Kubeflow parameters: one plain dict a step, every field with its value."""
        return self.model_dump(mode="json")


def production() -> Recipe:
    """The detector that ships."""
    return Recipe(model_name="parts-detector")


def demo() -> Recipe:
    """Production's graph on the sample parts: minutes on two cores, and still a detector that works."""
    full = production()
    return full.changed(
        intake=full.intake.changed(val_share=0.12, test_share=0.3, bump_test_set=True),
        # Night 2 shall learn the night from its images, not night 1 from darkened day images.
        augment=full.augment.changed(photometry_share=0.0, paste_share=0.0, crop_share=0.0),
        train=full.train.changed(
            architecture="yolov8n",  # learns best from scratch on small data
            image_size_px=192,
            epochs=24,
            warm_start_epochs=12,
            batch_size=16,
            effective_batch_size=16,
            # Measured on 336 day images: mAP50 0.82 after 20 epochs of 6 s each; the short memory of the weight average
            # and the higher rate are what makes so few epochs enough.
            optimizer="AdamW",
            learning_rate=0.002,
            momentum=0.9,
            warmup_epochs=1.0,
            average_updates=200.0,
            validate_every_epochs=0,
            mosaic_off_epochs=5,
        ),
        calibrate=full.calibrate.changed(images=64, held_out_images=192),
        evaluate=full.evaluate.changed(slice_tags=["shift", "camera"]),
        # Margins that a test set of a few hundred boxes can resolve; no verdict on a shared laptop's milliseconds.
        judge=full.judge.changed(
            recall_margin=0.08, map_margin=0.02, int8_recall_margin=0.08, min_key_boxes=20, max_latency_ratio=0.0
        ),
    )


def smoke() -> Recipe:
    """Production's graph in a minute: every step runs, nothing is good."""
    full = production()
    return full.changed(
        model_name=full.model_name + "-smoke",
        train=full.train.changed(
            architecture="yolov8n", image_size_px=64, epochs=1, warm_start_epochs=1, validate_every_epochs=0
        ),
        export=full.export.changed(parity_images=4),
        calibrate=full.calibrate.changed(images=8, held_out_images=4),
        build_engine=full.build_engine.changed(golden_images=2, timed_runs=5, warm_up_runs=1),
        evaluate=full.evaluate.changed(resamples=200, num_pictures=4),
        judge=full.judge.changed(
            min_map_50_95=0.0, min_key_recall=0.0, min_key_boxes=0, int8_map_margin=1.0, int8_recall_margin=1.0
        ),
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {"production": production, "demo": demo, "smoke": smoke}


def find_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called `name` with dotted changes such as {"train.epochs": 3} applied.

    Raises:
        InvalidInput: no such recipe, no such field, or a value that does not fit.
    """
    if name not in RECIPES:
        raise InvalidInput(f"recipe {name!r}: expected one of {', '.join(RECIPES)}")
    values = RECIPES[name]().as_parameters()
    for path, value in (changes or {}).items():
        *parents, field = path.split(".")
        place: Any = values
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or field not in place:
            raise InvalidInput(f"--set {path}: recipe {name!r} has no such setting; `yanshan show {name} --settings`")
        place[field] = value
    return read_settings(Recipe, values)
