"""TensorRT plans: nothing is deserialised before its digest is checked; pixels go in and boxes come out."""

import ctypes
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from components.shared.detection import load_detector
from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, MissingCapability

PLAN = b"a plan"
SIDE = 64
ROW = [10.0, 20.0, 30.0, 44.0, 0.9, 1.0]
"""x0 y0 x1 y1 score class, as a head that needs no suppression answers."""


class Engine:
    """Answers every picture of a batch with ROW, its score times the picture's mean; memory is the host's."""

    num_io_tensors = 2

    def get_tensor_name(self, place: int) -> str:
        return ("images", "output0")[place]

    def get_tensor_mode(self, name: str) -> str:
        return {"images": "in", "output0": "out"}[name]

    def get_tensor_dtype(self, name: str) -> type:
        return np.float32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, SIDE, SIDE)

    def create_execution_context(self) -> "Context":
        return Context()


class Context:
    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shape[0], 1, 6)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.places[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        pixels, rows = (
            np.ctypeslib.as_array(ctypes.cast(self.places[name], ctypes.POINTER(ctypes.c_float)), shape)
            for name, shape in (("images", self.shape), ("output0", (self.shape[0], 1, 6)))
        )
        rows[:] = ROW
        rows[:, 0, 4] *= pixels.mean(axis=(1, 2, 3))
        return True


class HostMemory(ModuleType):
    """CUDA's runtime calls over ordinary memory."""

    cudaError_t = SimpleNamespace(cudaSuccess=SimpleNamespace(name="cudaSuccess"))
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.held: dict[int, ctypes.Array] = {}

    def cudaStreamCreate(self) -> tuple:
        return self.cudaError_t.cudaSuccess, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple:
        return (self.cudaError_t.cudaSuccess,)

    def cudaMalloc(self, count: int) -> tuple:
        block = ctypes.create_string_buffer(count)
        self.held[ctypes.addressof(block)] = block
        return self.cudaError_t.cudaSuccess, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple:
        del self.held[address]
        return (self.cudaError_t.cudaSuccess,)

    def cudaMemcpyAsync(self, target: int, source: int, count: int, kind: int, stream: int) -> tuple:
        ctypes.memmove(target, source, count)
        return (self.cudaError_t.cudaSuccess,)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "model.plan"
    path.write_bytes(PLAN)
    record = {"runtime": "tensorrt", "runtime_version": "11.4.0", "sha256": digest_bytes(PLAN)}
    (tmp_path / "target.json").write_text(json.dumps(record))
    (tmp_path / "facts.json").write_text(json.dumps({"names": "{0: 'bolt', 1: 'nut'}", "stride": "32"}))
    return path


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A machine with a driver, TensorRT 11.4 and CUDA; returns what was deserialised there."""
    read: list[bytes] = []

    def runtime(logger: object) -> SimpleNamespace:
        return SimpleNamespace(deserialize_cuda_engine=lambda data: read.append(data) or Engine())

    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    trt = SimpleNamespace(__version__="11.4.0", Runtime=runtime, nptype=lambda kind: kind)
    trt.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    trt.TensorIOMode = SimpleNamespace(INPUT="in")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", HostMemory())
    return read


def test_a_plan_answers_like_any_other_detector(plan: Path, gpu: list[bytes]) -> None:
    detector = load_detector(plan)
    assert (detector.runtime, detector.class_names, detector.image_size_px) == ("tensorrt", ("bolt", "nut"), (64, 64))
    pictures = [np.full((SIDE, SIDE, 3), level, np.uint8) for level in (255, 128, 0)]
    found = detector.detect(pictures) + detector.detect(pictures[:1])
    np.testing.assert_allclose(found[0].xyxy_px, [ROW[:4]], atol=1e-4)
    scores = [one.scores.tolist() for one in found]
    assert scores[0] == scores[3] == pytest.approx([0.9]) and scores[1] == pytest.approx([0.9 * 128 / 255])
    assert scores[2] == [] and gpu == [PLAN]


def test_a_changed_plan_is_never_deserialised(plan: Path, gpu: list[bytes]) -> None:
    plan.write_bytes(b"another plan")
    with pytest.raises(InvalidInput, match="says"):
        load_detector(plan)
    assert gpu == []


@pytest.mark.parametrize("missing", ["target.json", "facts.json"])
def test_a_plan_without_its_records_is_refused(plan: Path, gpu: list[bytes], missing: str) -> None:
    plan.with_name(missing).unlink()
    with pytest.raises(InvalidInput, match=missing):
        load_detector(plan)
    assert gpu == []


def test_another_version_or_machine_is_a_missing_capability(
    plan: Path, gpu: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.modules["tensorrt"].__version__ = "11.5.0"
    with pytest.raises(MissingCapability, match=r"built by tensorrt 11\.4\.0, this machine has 11\.5\.0"):
        load_detector(plan)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingCapability, match="needs an NVIDIA GPU"):
        load_detector(plan)
    assert gpu == []
