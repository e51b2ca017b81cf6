"""Activation ranges: one forward pass an image, every observed tensor looked at once and forgotten."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from components.calibrate.histogram import Histogram
from components.calibrate.source import Source
from components.shared.errors import InvalidInput
from components.shared.progress import progress

logger = logging.getLogger(__name__)


def observe(
    source: Source, tensors: Sequence[str], inputs: Iterable[np.ndarray], count: int, threads: int
) -> dict[str, Histogram]:
    """What each tensor that is a feature map (4-D float32) held over all inputs.

    Memory holds the activations of one input at a time, whatever their number.

    Args:
        source: The detector.
        tensors: Names to observe.
        inputs: Each (1, 3, H, W) float32, as the network takes it.
        count: How many inputs there are, for the progress line.
        threads: Of the run; 0 takes every core.

    Raises:
        InvalidInput: no input came, or a tensor is not finite.
    """
    fetched = [name for name in tensors if name != source.input_name]
    session = open_session(source.model, fetched, threads)
    seen: dict[str, Histogram] = {}
    turns = 0
    for turn, batch in enumerate(progress(inputs, "observe activations", count)):
        turns += 1
        for name, value in _values(session, source.input_name, fetched, batch):
            if value.dtype == np.float32 and value.ndim == 4:
                seen.setdefault(name, Histogram()).add(value, turn)
    if not turns:
        raise InvalidInput("calibration: no image came, expected at least one")
    if broken := sorted(name for name, histogram in seen.items() if not np.isfinite(histogram.largest)):
        raise InvalidInput(f"calibration: activations of {broken[:3]} are not finite; the model itself is broken")
    return seen


def _values(session: Any, source: str, fetched: Sequence[str], batch: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor for one input, given up as soon as it was looked at, so that the next input reuses its memory."""
    yield source, batch
    values = session.run(fetched, {source: batch})
    for name in reversed(fetched):
        yield name, values.pop()


def open_session(graph: onnx.ModelProto, fetched: Sequence[str], threads: int) -> Any:
    """A run of `graph` that also gives the tensors `fetched`."""
    import onnxruntime as ort

    model = onnx.ModelProto()
    model.CopyFrom(graph)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fetched if name not in present)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # Twice as fast beside other work.
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
