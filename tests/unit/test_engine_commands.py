"""yanshan quantize and yanshan benchmark, as a person calls them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.shared.errors import InvalidInput
from pipelines.commands.engines import benchmark, quantize
from tests.disc_detector import write_detector, write_pictures


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    write_detector(tmp_path / "model.onnx")
    write_pictures(tmp_path / "images", 10)
    return tmp_path


def call(command, *arguments: object):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, InvalidInput):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_quantize_writes_a_quarter_and_prints_what_it_did(desk: Path) -> None:
    result = call(quantize, desk / "model.onnx", "--images", desk / "images", "-o", desk / "o.onnx", "--json")
    record = json.loads(result.stdout)
    assert (desk / "o.onnx").stat().st_size == record["size_bytes"]
    assert record["int8_convolutions"] == 6 and record["convolutions"] == 8
    assert record["agreement"]["found"] >= 0.9
    assert (
        "6 of 8 convolutions"
        in call(quantize, desk / "model.onnx", "--images", desk / "images", "-o", desk / "o.onnx").stdout
    )


def test_quantize_refuses_what_cannot_work_and_leaves_nothing(desk: Path) -> None:
    (desk / "empty").mkdir()
    for images, output, message in [
        (desk / "images", desk / "model.onnx", "is the input itself"),
        (desk / "images", desk / "o.txt", "expected the name of an .onnx file"),
        (desk / "empty", desk / "o.onnx", "got no image"),
        (desk / "nowhere", desk / "o.onnx", "no such folder"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            call(quantize, desk / "model.onnx", "--images", images, "-o", output)
    assert sorted(path.name for path in desk.iterdir()) == ["empty", "images", "model.onnx"]


def test_benchmark_measures_every_runtime_and_skips_a_batch_that_is_fixed(desk: Path) -> None:
    free = write_detector(desk / "free.onnx", batch=0)
    options = ["--threads", 1, "--runs", 3, "--warm-up", 1, "--plot", desk / "bars.svg", "--json"]
    result = call(benchmark, desk / "model.onnx", free, *options)
    assert (desk / "bars.svg").stat().st_size > 5000
    rows = json.loads(result.stdout)["results"]
    assert {(row["runtime"], row["batch"]) for row in rows} == {
        (r, b) for r in ("onnxruntime", "openvino") for b in (1, 8)
    }
    for row in rows:
        fixed = row["model"].endswith("model.onnx") and row["batch"] == 8
        assert ("skipped" in row) is fixed
        assert fixed or 0 < row["p50_ms"] <= row["p95_ms"]


def test_benchmark_tells_files_of_one_name_apart(desk: Path) -> None:
    for name in ("a", "b"):
        (desk / name).mkdir()
        write_detector(desk / name / "model.onnx")
    files = [desk / name / "model.onnx" for name in ("a", "b")]
    table = call(benchmark, *files, "--threads", 1, "--batch", 1, "--runs", 3).stdout
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["a/model.onnx"] * 2 + ["b/model.onnx"] * 2


def test_benchmark_names_the_file_that_it_cannot_run(desk: Path) -> None:
    with pytest.raises(InvalidInput, match=r"bars\.pdf"):
        call(benchmark, desk / "model.onnx", "--plot", desk / "bars.pdf")
    with pytest.raises(InvalidInput, match=r"nope\.onnx"):
        call(benchmark, desk / "nope.onnx")
    (desk / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidInput, match=r"broken\.onnx: onnxruntime refuses it"):
        call(benchmark, desk / "broken.onnx", "--threads", 1)
