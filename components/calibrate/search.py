"""The INT8 form that keeps the promise: the best way to set ranges, and as few layers back in float as it takes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from components.calibrate.accuracy import Loss, Yardstick, detect_all
from components.calibrate.graph import Graph, multiply_adds
from components.calibrate.histogram import METHODS, Histogram
from components.calibrate.lint import count_int8_convolutions
from components.calibrate.placement import CHANNEL_AXIS, Placement, activations_of, insert_pairs, place
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import Source
from components.shared.detection import Detections
from components.shared.errors import InvalidInput, Refused
from components.shared.progress import progress

logger = logging.getLogger(__name__)
MOVES = frozenset({"MaxPool", "Resize", "Concat", "Split", "Slice"})


@dataclass(frozen=True)
class Trial:
    """One INT8 form, measured."""

    method: str
    rescued: tuple[str, ...]
    """Activations that returned to float, and with them the layers that read them."""
    loss: Loss
    int8_convolutions: int
    int8_share: float
    """Of the multiply-adds."""
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Workbench:
    """Everything that stays the same while forms are tried."""

    def __init__(
        self,
        source: Source,
        kept: Mapping[str, str],
        histograms: Mapping[str, Histogram],
        yardstick: Yardstick,
        settings: CalibrateSettings,
        folder: Path,
    ) -> None:
        self.source, self.kept, self.histograms = source, kept, histograms
        self.yardstick, self.settings, self.folder = yardstick, settings, folder
        self.work = multiply_adds(source.model)
        self.found: dict[tuple[str, int], list[Detections]] = {}

    def build(self, method: str, rescued: Sequence[str]) -> onnx.ModelProto:
        """The INT8 graph with ranges by `method` and the readers of the activations `rescued` in float."""
        kept = {*self.kept, *readers(self.source.model, rescued)}
        placement = place(self.source.model, kept, self.settings.weight_bits)
        return insert_pairs(self.source.model, placement, limits(self.histograms, method))

    def try_form(self, method: str, rescued: Sequence[str]) -> Trial:
        """Build one form and judge it."""
        return self.judge(self.build(method, rescued), method, rescued)

    def judge(self, graph: onnx.ModelProto, method: str, rescued: Sequence[str]) -> Trial:
        """Compare the boxes of an INT8 graph with FP32's on the held-out images."""
        path = self.folder / "trial.onnx"
        path.write_bytes(graph.SerializeToString())
        truth, threads = self.yardstick.truth, self.settings.threads
        found = detect_all(path, truth.images, threads)
        self.found[method, len(rescued)] = found
        loss = self.yardstick.compare(found)
        trial = Trial(
            method, tuple(rescued), loss, count_int8_convolutions(graph), self._share(graph), path.stat().st_size
        )
        logger.info("calibrate tried method=%s rescued=%d loss=%.2f points", method, len(rescued), loss.map_points)
        return trial

    def margin(self, trial: Trial) -> float:
        """Half the width of the 95 % interval of a form's loss in mAP points."""
        return self.yardstick.margin(self.found[trial.method, len(trial.rescued)])

    def _share(self, graph: onnx.ModelProto) -> float:
        weights = {name for name, node in Graph(graph).producer.items() if node.op_type == "DequantizeLinear"}
        done = sum(
            self.work[node.name]
            for node in graph.graph.node
            if node.op_type in CHANNEL_AXIS and node.name in self.work and node.input[1] in weights
        )
        return round(done / max(sum(self.work.values()), 1), 4)


def limits(histograms: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """Absolute value that becomes 127, by activation."""
    return {name: histogram.limit(method) for name, histogram in histograms.items()}


def readers(model: onnx.ModelProto, tensors: Sequence[str]) -> set[str]:
    """Names of the nodes that read one of `tensors`, and of those that only moved values into it."""
    graph = Graph(model)
    found = {node.name for tensor in tensors for node in graph.users[tensor]}
    frontier = list(tensors)
    while frontier:
        made_by = graph.producer.get(frontier.pop())
        if made_by is not None and made_by.op_type in MOVES and made_by.name not in found:
            found.add(made_by.name)
            frontier.extend(made_by.input)
    return found


def search(bench: Workbench, sensitivity: Callable[[str], Mapping[str, float]]) -> tuple[Trial, list[Trial], dict]:
    """The cheapest form within the budget, every form that was tried, and the noise by activation.

    Args:
        bench: Builds and measures.
        sensitivity: Noise by activation for ranges set by a method.

    Raises:
        InvalidInput: a key class that the model does not know.
        Refused: no form with enough INT8 keeps the budget.
    """
    settings = bench.settings
    if unknown := set(settings.key_classes) - set(bench.yardstick.truth.class_names):
        raise InvalidInput(
            f"calibrate.key_classes {sorted(unknown)}: the model knows {list(bench.yardstick.truth.class_names)}"
        )
    methods = METHODS if settings.method == "best" else (settings.method,)
    trials = [bench.try_form(method, ()) for method in progress(methods, "compare ranges", len(methods))]
    best = min(trials, key=_rank)
    if within(best, settings):
        return best, trials, {}
    noise = sensitivity(best.method)
    return _rescue(bench, best, sorted(noise, key=lambda name: -noise[name]), trials), trials, dict(noise)


def _rank(trial: Trial) -> tuple[float, float]:
    """Tenths of a point are noise: below that, the form whose scores moved least is better."""
    return round(max(trial.loss.map_points, 0.0), 1), trial.loss.score_change


def within(trial: Trial, settings: CalibrateSettings, margin: float = 0.0) -> bool:
    """Whether the form keeps the promise on mAP, give or take `margin`, and on the recall of the key classes."""
    recalls = [trial.loss.recall_points.get(name, 0.0) for name in settings.key_classes]
    return trial.loss.map_points - margin <= settings.max_loss_points and all(
        lost <= settings.max_recall_loss_points for lost in recalls
    )


def _rescue(bench: Workbench, start: Trial, ranking: Sequence[str], trials: list[Trial]) -> Trial:
    """Return the noisiest activations to float, twice as many each time; then as few of them as hold."""
    least = bench.settings.min_int8_convolutions * len(Graph(bench.source.model).convolutions())
    failed, count = 0, 1
    passed: Trial | None = None
    while passed is None and failed < len(ranking):
        count = min(count, len(ranking))
        trial = bench.try_form(start.method, ranking[:count])
        if trial.int8_convolutions < least:
            break
        trials.append(trial)
        if within(trial, bench.settings):
            passed = trial
        else:
            failed, count = count, count * 2
    if passed is None:
        return least_bad(bench, trials)
    while len(passed.rescued) - failed > 1:
        middle = (failed + len(passed.rescued)) // 2
        trial = bench.try_form(start.method, ranking[:middle])
        trials.append(trial)
        if within(trial, bench.settings):
            passed = trial
        else:
            failed = middle
    return passed


def least_bad(bench: Workbench, trials: Sequence[Trial]) -> Trial:
    """The form with the fewest layers in float whose loss may be within the budget, where none is surely.

    What a layer's return to float brings below the margin cannot be measured, and would be paid for in size.

    Raises:
        Refused: even the best one is beyond the budget by more than noise.
    """
    settings = bench.settings
    for trial in sorted(trials, key=lambda trial: (len(trial.rescued), _rank(trial))):
        margin = bench.margin(trial)
        if within(trial, settings, margin):
            logger.warning(
                "calibrate loss=%.2f +-%.2f points is above the budget, but within its margin",
                trial.loss.map_points,
                margin,
            )
            return trial
    best = min(trials, key=_rank)
    loss = best.loss
    recalls = {name: loss.recall_points.get(name, 0.0) for name in settings.key_classes}
    raise Refused(
        f"INT8 loses {loss.map_points:.2f} mAP points (+-{bench.margin(best):.2f}) and {recalls} points of recall "
        f"on {len(bench.yardstick.truth.images)} held-out images with {len(best.rescued)} activations in float; "
        f"allowed: {settings.max_loss_points:.2f} and {settings.max_recall_loss_points:.2f}. Nothing was written."
    )


def placement_of(bench: Workbench) -> Placement:
    """What is quantized before any rescue."""
    return place(bench.source.model, bench.kept, bench.settings.weight_bits)


def names_of_readers(model: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, list[str]]:
    """Layers that read each of `tensors`, for the report."""
    graph = Graph(model)
    return {tensor: [node.name for node in graph.users[tensor] if tensor in activations_of(node)] for tensor in tensors}
