"""Successive halving: which architecture at which image size a night should train, within a budget.

Every candidate is weighed first, and who is too large or too slow is not trained at all. The others are trained for a
few epochs, the better half goes on to twice as many, and so on. It is made of the steps' own functions, so whatever was
trained before is remembered: a killed search carries on.

Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification, https://arxiv.org/abs/1502.07943
"""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.augment.augment import augment
from components.intake.intake import take_in
from components.shared.errors import InvalidInput
from components.shared.progress import progress
from components.shared.store import Store
from components.train.fit import fit_detector
from pipelines.recipes import Recipe
from pipelines.weighing import weigh_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """What the INT8 file may weigh; 0 sets no limit."""

    latency_ms: float = 0.0
    """Of one image, OpenVINO on this CPU, median."""
    size_mb: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """An architecture at an image size, and what is known of it so far."""

    architecture: str
    image_size_px: int
    int8_mb: float = 0.0
    int8_ms: float = 0.0
    epochs: int = 0
    """Trained so far; 0: over budget."""
    map_50_95: float = 0.0
    """Of the float network on val."""
    checkpoint: str = ""
    front: bool = False
    """Nobody trained as long is both better and faster."""

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.image_size_px}"


def search(
    recipe: Recipe,
    inbox_uri: str,
    store: Store,
    folder: Path,
    candidates: Sequence[Candidate],
    budget: Budget,
    rungs: int,
    runs: int = 50,
) -> list[Candidate]:
    """Weigh, train and halve; the winner comes first, who was trained least comes last.

    Args:
        recipe: Its intake, augment and train settings hold for every candidate; train.epochs is the last rung's sum.
        inbox_uri: Labeling exports.
        store: Of images, and of what was trained before.
        folder: Gets each candidate's checkpoint and report, search.json and search.html.
        candidates: To choose from.
        budget: Of the INT8 file.
        rungs: How often the field is halved, plus one.
        runs: Timed calls of each candidate.

    Raises:
        InvalidInput: no candidate keeps the budget, or the inbox has nothing to train on.
    """
    take_in(inbox_uri, store, recipe.intake, folder / "dataset", folder / "intake.html")
    augment(folder / "dataset", store, recipe.augment, folder / "training_set", folder / "augment.html")
    classes = len(json.loads((folder / "training_set" / "training_set.json").read_bytes())["class_names"])
    weighed = [_weighed(one, classes, runs, folder) for one in progress(candidates, "weigh", len(candidates))]
    field = [one for one in weighed if keeps(one, budget)]
    if not field:
        least = min(weighed, key=lambda one: (one.int8_ms, one.int8_mb))
        raise InvalidInput(
            f"search: none of {len(weighed)} candidates keeps {budget.latency_ms:g} ms and {budget.size_mb:g} MB; "
            f"the fastest is {least.name} with {least.int8_ms:.2f} ms and {least.int8_mb:.2f} MB"
        )
    out = [one for one in weighed if one not in field]
    added = shares(recipe.train.epochs, rungs)
    for rung, epochs in enumerate(added, start=1):
        field = [_trained(one, epochs, recipe, store, folder) for one in progress(field, "train", len(field))]
        field.sort(key=lambda one: (-one.map_50_95, one.int8_ms))
        logger.info("search epochs=%d %s", field[0].epochs, " ".join(f"{o.name}={o.map_50_95:.3f}" for o in field))
        kept = math.ceil(len(field) / 2) if rung < len(added) else len(field)
        out, field = [*field[kept:], *out], field[:kept]
    return mark_front([*field, *out])


def keeps(one: Candidate, budget: Budget) -> bool:
    """Whether a candidate's INT8 file stays within the budget."""
    return one.int8_ms <= (budget.latency_ms or math.inf) and one.int8_mb <= (budget.size_mb or math.inf)


def shares(epochs: int, rungs: int) -> list[int]:
    """Epochs that each rung adds: every rung ends at twice the last one's sum, the last one at `epochs`."""
    sums = [max(1, round(epochs / 2 ** (rungs - 1 - rung))) for rung in range(rungs)]
    return [later - earlier for earlier, later in zip([0, *sums], sums, strict=False) if later > earlier]


def mark_front(found: Sequence[Candidate]) -> list[Candidate]:
    """Mark those that nobody with at least their epochs beats in both mAP and milliseconds."""

    def beaten(one: Candidate) -> bool:
        rivals = [other for other in found if other is not one and other.epochs >= one.epochs]
        return any(
            other.map_50_95 >= one.map_50_95
            and other.int8_ms <= one.int8_ms
            and (other.map_50_95, other.int8_ms) != (one.map_50_95, one.int8_ms)
            for other in rivals
        )

    return [replace(one, front=one.epochs > 0 and not beaten(one)) for one in found]


def as_json(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    """The candidates as plain values, in their order."""
    return [asdict(one) for one in found]


def _weighed(one: Candidate, classes: int, runs: int, folder: Path) -> Candidate:
    files = weigh_files(one.architecture, one.image_size_px, classes, runs, folder / "weighed" / one.name)
    return replace(one, int8_mb=files["int8_mb"], int8_ms=files["int8_ms"])


def _trained(one: Candidate, epochs: int, recipe: Recipe, store: Store, folder: Path) -> Candidate:
    place = folder / one.name / f"after-{one.epochs + epochs}-epochs"
    settings = recipe.train.changed(
        architecture=one.architecture,
        image_size_px=one.image_size_px,
        epochs=epochs,
        warm_start=False,
        weights=one.checkpoint or recipe.train.weights,
        validate_every_epochs=0,
    )
    told = fit_detector(
        folder / "training_set", store, recipe.model_name, settings, place / "checkpoint", place / "training.html"
    )
    checkpoint = str(place / "checkpoint" / "model.pt")
    return replace(one, epochs=one.epochs + epochs, map_50_95=told.get("map_50_95", 0.0), checkpoint=checkpoint)


def pairs(architectures: Sequence[str], sizes_px: Sequence[int]) -> Iterator[Candidate]:
    """Every architecture at every image size."""
    for architecture in architectures:
        yield from (Candidate(architecture, size) for size in sizes_px)
