"""Loading what is a detector, refusing what is none, and finding the way back to image pixels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from components.shared.detection import keep_best, letterbox, load_detector, preprocess
from components.shared.errors import InvalidInput
from tests import block_world


def write_constant(path: Path, head: np.ndarray, names: str = "{0: 'a', 1: 'b'}", batch: int | str = 1, side: int = 64):
    """An ONNX file that answers every picture with `head`."""
    flat = numpy_helper.from_array(np.array(0, np.float32), "nothing")
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["zero"]),
        helper.make_node("Add", ["head", "zero"], ["output0"]),
    ]
    shape = [batch, 3, side, side]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, head.shape)],
        [flat, numpy_helper.from_array(head.astype(np.float32), "head")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if names:
        model.metadata_props.add(key="names", value=names)
    onnx.save(model, path)
    return path


def test_the_device_needs_numpy_and_opencv_only() -> None:
    script = "import components.shared.detection, sys; print(*sorted(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    heavy = {"torch", "ultralytics", "onnxruntime", "onnx", "openvino", "pyarrow", "pydantic", "scipy"}
    assert not heavy & set(loaded.stdout.split())


BLANK = np.zeros((50, 80, 3), np.uint8)
RAW = np.zeros((1, 6, 10), np.float32)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ("", "metadata `names` is 'missing', expected class names by number"),
        ("{1: 'a', 2: 'b'}", "expected class names by number from 0"),
        ("{0: 'a'", "expected a Python literal"),
    ],
)
def test_metadata_without_class_names_is_refused_with_the_fix(tmp_path: Path, names: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        load_detector(write_constant(tmp_path / "m.onnx", RAW, names))


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        load_detector(tmp_path / "absent.onnx")
    (tmp_path / "m.pt").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"got a \.pt file"):
        load_detector(tmp_path / "m.pt")
    (tmp_path / "broken.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(InvalidInput, match="ONNX Runtime refuses it"):
        load_detector(tmp_path / "broken.onnx")
    classifier = write_constant(tmp_path / "classifier.onnx", np.zeros((1, 1000), np.float32))
    with pytest.raises(InvalidInput, match=r"no detector this reads: its output has shape \(1, 1000\)"):
        load_detector(classifier).detect([BLANK])
    other_classes = write_constant(tmp_path / "other.onnx", np.zeros((1, 9, 10), np.float32))
    with pytest.raises(InvalidInput, match=r"expected \(batch, 6, places\) for 2 classes"):
        load_detector(other_classes).detect([BLANK])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_answers_with_nan_is_refused(tmp_path: Path, bad: float) -> None:
    head = RAW.copy()
    head[0, 4, 3] = bad
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        load_detector(write_constant(tmp_path / "m.onnx", head)).detect([BLANK])


def test_a_raw_head_is_decoded_suppressed_and_brought_back(tmp_path: Path) -> None:
    head = RAW.copy()
    head[0, :, 0] = [32, 32, 32, 20, 0.9, 0.4]
    head[0, :, 1] = [33, 32, 32, 20, 0.8, 0.0]
    detector = load_detector(write_constant(tmp_path / "m.onnx", head))
    (both,) = detector.detect([BLANK])
    (best,) = detector.detect([BLANK], every_class=False)
    # 80x50 is scaled by 0.8 to 64x40 and lies 12 px from the top.
    np.testing.assert_allclose(both.xyxy_px, [[20, 12.5, 60, 37.5]] * 2, atol=1e-4)
    np.testing.assert_allclose(both.scores, [0.9, 0.4], atol=1e-6)
    assert both.class_ids.tolist() == [0, 1] and best.class_ids.tolist() == [0]


def test_a_head_without_suppression_is_taken_as_it_is(tmp_path: Path) -> None:
    head = np.zeros((1, 7, 6), np.float32)
    head[0, 0], head[0, 1] = [16, 22, 48, 42, 0.9, 1], [17, 22, 48, 42, 0.8, 1]
    (found,) = load_detector(write_constant(tmp_path / "m.onnx", head)).detect([BLANK])
    assert found.class_ids.tolist() == [1, 1]
    np.testing.assert_allclose(found.xyxy_px[0], [20, 12.5, 60, 37.5], atol=1e-4)


def test_any_number_of_images_fits_any_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [block_world.draw(rng)[0] for _ in range(5)]
    path = block_world.write_detector(tmp_path / "one.onnx")
    singly = load_detector(path).detect(pictures)
    assert sum(len(found.scores) for found in singly) > 20
    dynamic = write_constant(tmp_path / "many.onnx", np.repeat(RAW, 4, axis=0), batch=4)
    assert len(load_detector(dynamic).detect(pictures)) == 5


def test_quantized_graphs_run_with_exact_semantics(tmp_path: Path) -> None:
    pictures = [block_world.draw(np.random.default_rng(1))[0]]
    (found,) = load_detector(block_world.write_detector(tmp_path / "m.onnx", score_step=0.1)).detect(pictures)
    steps = np.unique(found.scores) / 0.1
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([(64, 64), (96, 160)]))
def test_a_letterbox_fills_its_frame_and_keeps_the_aspect(height: int, width: int, size: tuple[int, int]) -> None:
    picture = np.full((height, width, 3), 255, np.uint8)
    filled, scale, (top, left) = letterbox(picture, size)
    assert filled.shape == (*size, 3)
    inside = np.argwhere(filled[..., 0] == 255)
    assert inside.min(axis=0).tolist() == [top, left]
    high, wide = inside.max(axis=0) - inside.min(axis=0) + 1
    assert (high, wide) == (round(height * scale[0]), round(width * scale[1]))
    assert max(high / size[0], wide / size[1]) == 1.0
    pixels = preprocess([picture, picture], size)
    assert pixels.shape == (2, 3, *size) and pixels.max() == 1.0 and pixels.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 900), st.integers(1, 60))
def test_suppression_is_greedy_whatever_the_block(seed: int, count: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)
    scores, kinds = rng.random(count).astype(np.float32).round(2), rng.integers(0, 3, count)
    expected: list[int] = []
    for place in np.argsort(-scores, kind="stable"):
        same = [one for one in expected if kinds[one] == kinds[place]]
        if all(overlap(boxes[one], boxes[place]) <= 0.5 for one in same):
            expected.append(int(place))
    assert keep_best(boxes, scores, kinds, 0.5, limit).tolist() == expected[:limit]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = np.prod(np.maximum(sides, 0))
    return float(both / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both))
