"""TensorRT plans over the API shapes of its versions, and real builds without a GPU where TensorRT for RTX is."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from components.build_engine.build import build_targets
from components.build_engine.half import write_half
from components.build_engine.litert_files import load_litert
from components.build_engine.settings import BuildEngineSettings
from components.build_engine.tensorrt import build_plan, find_gpu, load_tensorrt, takes_half_graphs
from components.calibrate.quantize import quantize_detector
from components.calibrate.settings import CalibrateSettings
from components.shared.errors import InvalidInput, MissingCapability
from components.shared.store import Store
from tests.disc_detector import write_dataset, write_detector, write_pictures


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+"


class Config:
    """Remembers what was asked of it; an RTX one fails on a timing cache, as without a GPU it would."""

    def __init__(self, trt: "FakeTensorRT") -> None:
        self.trt = trt

    def set_flag(self, flag: str) -> None:
        self.trt.flags.append(flag)

    def create_timing_cache(self, data: bytes) -> Cache:
        assert not self.trt.rtx, "a timing cache asks for a GPU"
        return Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> None:
        assert not ignore_mismatch
        self.cache = cache

    def get_timing_cache(self) -> Cache:
        return self.cache

    def set_compute_capability(self, capability: str, place: int) -> None:
        self.trt.aimed.append((capability, place))


class FakeTensorRT:
    """A module of one version, without what that version has not."""

    def __init__(self, version: str, rtx: bool = False, accepts: bool = True, plan: bytes | None = b"plan") -> None:
        self.__version__ = version
        self.rtx, self.accepts, self.plan = rtx, accepts, plan
        self.flags: list[str] = []
        self.network_flags: list[int] = []
        self.aimed: list[tuple] = []
        if version.startswith("10."):
            self.BuilderFlag = SimpleNamespace(INT8="INT8", FP16="FP16")
            self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        if rtx:
            self.ComputeCapability = SimpleNamespace(SM89="SM89")

    class Logger:
        ERROR = 1

        def __init__(self, level: int) -> None: ...

    def Builder(self, logger: Logger) -> SimpleNamespace:
        return SimpleNamespace(
            create_network=lambda flags: self.network_flags.append(flags),
            create_builder_config=lambda: Config(self),
            build_serialized_network=lambda network, config: self.plan,
        )

    def OnnxParser(self, network: object, logger: Logger) -> SimpleNamespace:
        said = SimpleNamespace(
            node_name=lambda: "bias_DQ", node_operator=lambda: "DequantizeLinear", desc=lambda: "Int32"
        )
        return SimpleNamespace(parse_from_file=lambda path: self.accepts, num_errors=1, get_error=lambda number: said)


@pytest.mark.parametrize(
    ("version", "rtx", "flags", "network_flags", "half"),
    [
        ("10.3.0", False, ["INT8", "FP16"], 0, False),
        ("10.16.1.11", False, [], 2, True),
        ("11.4.0.106", False, [], 0, True),
        ("1.7.1.116", True, [], 0, True),
    ],
)
def test_precision_is_asked_for_as_each_version_wants_it(
    version: str, rtx: bool, flags: list, network_flags: int, half: bool
) -> None:
    trt = FakeTensorRT(version, rtx)
    plan = build_plan(trt, Path("model.onnx"), rtx, compute_capability=89 if rtx else 0)
    assert (trt.flags, trt.network_flags) == (flags, [network_flags])
    assert takes_half_graphs(trt, rtx) is half
    assert (plan.data, plan.version) == (b"plan", version)
    assert trt.aimed == ([("SM89", 0)] if rtx else [])


def test_a_timing_cache_goes_in_and_comes_out_longer() -> None:
    first = build_plan(FakeTensorRT("11.4.0"), Path("model.onnx"), rtx=False)
    assert (
        build_plan(FakeTensorRT("11.4.0"), Path("m.onnx"), rtx=False, timing_cache=first.timing_cache).timing_cache
        == b"++"
    )
    assert (
        build_plan(FakeTensorRT("1.7.1", rtx=True), Path("m.onnx"), rtx=True, compute_capability=89).timing_cache == b""
    )


def test_refusals_quote_the_parser_and_no_plan_is_an_error() -> None:
    with pytest.raises(InvalidInput, match=r"m\.onnx: .*bias_DQ \(DequantizeLinear\): Int32"):
        build_plan(FakeTensorRT("11.4.0", accepts=False), Path("m.onnx"), rtx=False)
    with pytest.raises(InvalidInput, match="builder gave no plan"):
        build_plan(FakeTensorRT("11.4.0", plan=None), Path("m.onnx"), rtx=False)
    with pytest.raises(InvalidInput, match="does not build for SM90"):
        build_plan(FakeTensorRT("1.7.1", rtx=True), Path("m.onnx"), rtx=True, compute_capability=90)


def test_without_a_gpu_tensorrt_is_a_missing_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingCapability, match="nvidia-smi is not installed"):
        load_tensorrt(rtx=False)
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    broken.chmod(0o755)
    with pytest.raises(MissingCapability, match="no driver"):
        find_gpu()
    broken.write_text("#!/bin/sh\necho 'NVIDIA L4, 8.9, 580.65'\n")
    assert find_gpu() == "NVIDIA L4, 8.9, 580.65"


@pytest.fixture
def night(tmp_path: Path, store: Store) -> tuple[Path, Path, Path, Store]:
    folders = tmp_path / "onnx_model", tmp_path / "int8_model"
    for folder in folders:
        folder.mkdir()
    model = write_detector(folders[0] / "model.onnx")
    images = write_pictures(tmp_path / "images", 8)
    record = quantize_detector(model, images, folders[1] / "model.int8.qdq.onnx", CalibrateSettings())
    (folders[1] / "calibration.json").write_text(json.dumps(record))
    return *folders, write_dataset(store, tmp_path / "dataset", train=8), store


def test_the_half_remainder_leaves_decoding_inputs_and_outputs_in_full(night: tuple, tmp_path: Path) -> None:
    int8 = night[1]
    write_half(int8 / "model.int8.qdq.onnx", int8 / "calibration.json", tmp_path / "half.onnx")
    half = onnx.load(tmp_path / "half.onnx")
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["head.classes.out.weight"] == onnx.TensorProto.FLOAT16
    assert kinds[next(node for node in half.graph.node if node.name == "Q:images").input[1]] == onnx.TensorProto.FLOAT16
    assert kinds["stride"] == onnx.TensorProto.FLOAT
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    with pytest.raises(InvalidInput, match="names no float nodes"):
        write_half(int8 / "model.int8.qdq.onnx", int8 / "nowhere.json", tmp_path / "half.onnx")


def test_rtx_plans_are_built_here_for_other_machines(night: tuple, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    settings = BuildEngineSettings(targets=["tensorrt-rtx-sm89", "tensorrt-rtx-sm120"], required=["tensorrt-rtx-sm89"])
    summary = build_targets(*night, settings, tmp_path / "engines")
    assert summary["targets"] == "tensorrt-rtx-sm120,tensorrt-rtx-sm89" and not summary["failed"]
    record = json.loads((tmp_path / "engines" / "tensorrt-rtx-sm89" / "target.json").read_bytes())
    assert record["precision"] == "int8+fp16"
    assert record["min_version"] == record["max_version"] == record["runtime_version"]
    assert "not measured" in record["latency_ms"]["how"]
    facts = json.loads((tmp_path / "engines" / "tensorrt-rtx-sm89" / "facts.json").read_bytes())
    assert facts["names"] and facts["stride"]
    plans = [(tmp_path / "engines" / f"tensorrt-rtx-sm{sm}" / "model.plan").read_bytes() for sm in (89, 120)]
    assert plans[0] != plans[1]


def test_targets_that_cannot_be_built_here_name_what_is_missing(
    night: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    settings = BuildEngineSettings(targets=["onnx", "litert", "coreml"], required=["onnx"], timed_runs=3)
    summary = build_targets(*night, settings, tmp_path / "engines")
    assert (summary["targets"], summary["failed"]) == ("onnx", "coreml,litert")
    failures = json.loads((tmp_path / "engines" / "failures.json").read_bytes())
    assert failures["litert"]["error"] == failures["coreml"]["error"] == "MissingCapability"
    assert "onnx2tf" in failures["litert"]["reason"] and "coremltools" in failures["coreml"]["reason"]


def test_ncnn_finds_the_boxes_that_float_finds(night: tuple, tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    settings = BuildEngineSettings(targets=["ncnn"], required=["ncnn"], timed_runs=3, warm_up_runs=1)
    build_targets(*night, settings, tmp_path / "engines")
    record = json.loads((tmp_path / "engines" / "ncnn" / "target.json").read_bytes())
    assert record["parity"]["boxes"] >= 8 and record["parity"]["found"] >= 0.95
    assert {file["path"] for file in record["files"]} == {"model.ncnn.param", "model.ncnn.bin"}
    assert record["latency_ms"]["p50"] > 0


@pytest.mark.skipif(shutil.which("onnx2tf") is None, reason="needs onnx2tf: uv tool install --python 3.12 onnx2tf")
def test_litert_finds_the_boxes_that_float_finds(night: tuple, tmp_path: Path) -> None:
    settings = BuildEngineSettings(targets=["litert"], required=["litert"], timed_runs=3, warm_up_runs=1)
    build_targets(*night, settings, tmp_path / "engines")
    record = json.loads((tmp_path / "engines" / "litert" / "target.json").read_bytes())
    assert record["parity"]["boxes"] >= 8 and record["parity"]["found"] >= 0.99
    assert record["runtime_version"] and record["latency_ms"]["p50"] > 0
    with pytest.raises(InvalidInput, match="LiteRT refuses it"):
        (tmp_path / "half.tflite").write_bytes((tmp_path / "engines" / "litert" / "model.tflite").read_bytes()[:999])
        load_litert(tmp_path / "half.tflite", threads=1)


def test_a_required_target_that_is_not_asked_for_is_refused(night: tuple, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not among targets"):
        build_targets(*night, BuildEngineSettings(targets=["onnx"], required=["openvino-int8"]), tmp_path / "engines")
