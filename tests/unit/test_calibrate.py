"""The calibrate step on a detector that really detects."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from components.calibrate.accuracy import Yardstick, detect_all
from components.calibrate.calibrate import calibrate
from components.calibrate.quantize import quantize_detector, without_labels
from components.calibrate.search import Workbench, least_bad, readers
from components.calibrate.settings import CalibrateSettings
from components.calibrate.source import read_source
from components.shared.dataset import digest_of, read_dataset, read_rows
from components.shared.digests import digest_file
from components.shared.errors import InvalidInput, Refused
from components.shared.store import Store
from tests.disc_detector import write_dataset, write_detector, write_pictures

SETTINGS = CalibrateSettings(images=8, held_out_images=4)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "onnx_model"
    folder.mkdir()
    return write_detector(folder / "model.onnx").parent


def test_int8_finds_what_float_finds_and_the_record_says_so(exported: Path, store: Store, tmp_path: Path) -> None:
    dataset = write_dataset(store, tmp_path / "dataset", train=20)
    summary = calibrate(exported, dataset, store, SETTINGS, tmp_path / "int8", tmp_path / "report.html")
    record = json.loads((tmp_path / "int8" / "calibration.json").read_bytes())
    assert record["agreement"]["boxes"] >= 8
    assert record["agreement"]["found"] >= 0.95
    assert summary["int8_convolutions"] == record["convolutions"] - 2
    assert summary["int8_sha256"] == digest_file(tmp_path / "int8" / "model.int8.qdq.onnx")
    assert all(isinstance(value, str | int | float) for value in summary.values())


def test_only_train_images_calibrate_and_none_of_them_is_compared_on(
    exported: Path, store: Store, tmp_path: Path
) -> None:
    dataset = write_dataset(store, tmp_path / "dataset", train=12, val=6)
    calibrate(exported, dataset, store, SETTINGS, tmp_path / "int8", tmp_path / "report.html")
    record = json.loads((tmp_path / "int8" / "calibration.json").read_bytes())
    train = read_rows(store, read_dataset(store, digest_of(dataset)), "train")["image_sha256"].to_pylist()
    assert set(record["images"]) | set(record["held_out_images"]) <= set(train)
    assert not set(record["images"]) & set(record["held_out_images"])
    assert len(record["images"]) == 8


def test_the_report_stands_alone_and_shows_the_images(exported: Path, store: Store, tmp_path: Path) -> None:
    dataset = write_dataset(store, tmp_path / "dataset", train=12)
    calibrate(exported, dataset, store, SETTINGS, tmp_path / "int8", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('<img src="data:') == 8
    assert 'src="http' not in page and "<script" not in page and 'href="http' not in page
    assert "output convolution" in page


def test_a_second_night_with_the_same_inputs_pays_nothing(
    exported: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_dataset(store, tmp_path / "dataset", train=12)
    first = calibrate(exported, dataset, store, SETTINGS, tmp_path / "a", tmp_path / "a.html")
    with caplog.at_level("INFO"):
        second = calibrate(exported, dataset, store, SETTINGS, tmp_path / "b", tmp_path / "b.html")
    assert first == second
    assert "remembered=True" in caplog.text
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_missing_model_and_a_tiny_data_set_are_refused(exported: Path, store: Store, tmp_path: Path) -> None:
    dataset = write_dataset(store, tmp_path / "dataset", train=1)
    with pytest.raises(InvalidInput, match="got 1 train images"):
        calibrate(exported, dataset, store, SETTINGS, tmp_path / "int8", tmp_path / "report.html")
    with pytest.raises(InvalidInput, match=r"no model\.onnx"):
        calibrate(tmp_path, dataset, store, SETTINGS, tmp_path / "int8", tmp_path / "report.html")


def test_two_runs_write_the_same_bytes_and_leave_the_source_alone(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx")
    before = digest_file(model)
    images = write_pictures(tmp_path / "images", 8)
    records = [quantize_detector(model, images, tmp_path / name, SETTINGS) for name in ("a.onnx", "b.onnx")]
    assert records[0]["int8_sha256"] == records[1]["int8_sha256"]
    assert digest_file(model) == before


def test_metadata_inputs_and_outputs_are_carried_over(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx", batch=0)
    quantize_detector(model, write_pictures(tmp_path / "images", 8), tmp_path / "int8.onnx", SETTINGS)
    source, result = onnx.load(model), onnx.load(tmp_path / "int8.onnx")
    assert list(result.metadata_props) == list(source.metadata_props)
    assert [value.name for value in result.graph.input] == ["images"]
    assert result.graph.input[0].type.tensor_type.shape == source.graph.input[0].type.tensor_type.shape
    onnx.checker.check_model(result, full_check=True)


@pytest.mark.parametrize(("bits", "largest"), [(7, 63), (8, 127)])
def test_weights_are_stored_as_int8_with_a_scale_a_channel(tmp_path: Path, bits: int, largest: int) -> None:
    model = write_detector(tmp_path / "model.onnx")
    settings = SETTINGS.changed(weight_bits=bits)
    quantize_detector(model, write_pictures(tmp_path / "images", 8), tmp_path / "int8.onnx", settings)
    result = onnx.load(tmp_path / "int8.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    dequantize = next(node for node in result.graph.node if node.name == "DQ:backbone.0.weight")
    assert "backbone.0.weight" not in tensors
    assert tensors[dequantize.input[0]].dtype == np.int8
    assert np.abs(tensors[dequantize.input[0]]).max() == largest
    assert tensors[dequantize.input[1]].shape == (8,)
    assert tensors["head.classes.out.weight"].dtype == np.float32


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"no model"), "not a readable ONNX file"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b""), "not a"),
    ],
)
def test_what_is_no_model_is_refused_by_name(tmp_path: Path, spoil, message: str) -> None:
    model = write_detector(tmp_path / "model.onnx")
    spoil(model)
    with pytest.raises(InvalidInput, match=message):
        quantize_detector(model, write_pictures(tmp_path / "images", 2), tmp_path / "int8.onnx", SETTINGS)
    assert not (tmp_path / "int8.onnx").exists()


def test_a_quantized_model_an_unreadable_image_and_no_image_are_refused(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx")
    images = write_pictures(tmp_path / "images", 4)
    quantize_detector(model, images, tmp_path / "int8.onnx", SETTINGS)
    with pytest.raises(InvalidInput, match="already quantized"):
        quantize_detector(tmp_path / "int8.onnx", images, tmp_path / "twice.onnx", SETTINGS)
    images[1].write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match=r"0001\.png: cannot be read"):
        quantize_detector(model, images, tmp_path / "twice.onnx", SETTINGS)
    with pytest.raises(InvalidInput, match="got no images"):
        quantize_detector(model, [], tmp_path / "twice.onnx", SETTINGS)


def test_a_planted_outlier_ruins_int8_and_rescue_keeps_the_promise_and_names_the_layer(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx", outlier=4000)
    images, others = write_pictures(tmp_path / "images", 16), write_pictures(tmp_path / "others", 16, first_seed=100)
    truth = without_labels(model, others, threads=1)
    naive = SETTINGS.changed(method="min-max", max_loss_points=1000)
    lost = quantize_detector(model, images, tmp_path / "naive.onnx", naive, truth)["loss"]["map_points"]
    assert lost > 5
    kept = SETTINGS.changed(method="min-max")
    record = quantize_detector(model, images, tmp_path / "int8.onnx", kept, truth)
    assert record["loss"]["map_points"] <= 0.5
    assert list(record["rescued"].values()) == [["/backbone.1"]]
    assert record["float_nodes"]["/backbone.1"].startswith("rescued")
    assert record["int8_convolutions"] == 5


def test_a_promise_that_cannot_be_kept_is_refused_with_the_numbers_and_nothing_is_written(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx", outlier=4000)
    images, others = write_pictures(tmp_path / "images", 16), write_pictures(tmp_path / "others", 16, first_seed=100)
    truth = without_labels(model, others, threads=1)
    all_of_it = SETTINGS.changed(method="min-max", min_int8_convolutions=0.75)
    with pytest.raises(Refused, match=r"INT8 loses 100\.00 mAP points .* 16 held-out images"):
        quantize_detector(model, images, tmp_path / "int8.onnx", all_of_it, truth)
    assert not (tmp_path / "int8.onnx").exists()


def test_the_recall_of_a_key_class_is_part_of_the_promise(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx", outlier=1500)
    images, others = write_pictures(tmp_path / "images", 16), write_pictures(tmp_path / "others", 16, first_seed=100)
    truth = without_labels(model, others, threads=1)
    loose = SETTINGS.changed(method="min-max", max_loss_points=50)
    strict = loose.changed(key_classes=["red"], max_recall_loss_points=1)
    records = [quantize_detector(model, images, tmp_path / "o.onnx", one, truth) for one in (loose, strict)]
    assert not records[0]["rescued"] and records[0]["loss"]["recall_points"]["red"] > 1
    assert records[1]["rescued"] and records[1]["loss"]["recall_points"]["red"] <= 1
    with pytest.raises(InvalidInput, match="'pink'"):
        quantize_detector(model, images, tmp_path / "o.onnx", strict.changed(key_classes=["pink"]), truth)


def test_each_single_change_misses_the_cache(
    exported: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS.changed(method="min-max")

    def remembered(onnx_folder: Path, dataset: Path, chosen: CalibrateSettings = settings) -> bool:
        caplog.clear()
        with caplog.at_level("INFO"):
            calibrate(onnx_folder, dataset, store, chosen, tmp_path / "int8", tmp_path / "report.html")
        return "remembered=True" in caplog.text

    dataset = write_dataset(store, tmp_path / "dataset", train=12)
    assert not remembered(exported, dataset)
    assert remembered(exported, dataset)
    heavier = onnx.load(exported / "model.onnx")
    values = numpy_helper.to_array(heavier.graph.initializer[0]).copy()
    values.flat[0] += 1e-3
    heavier.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, heavier.graph.initializer[0].name))
    (tmp_path / "heavier").mkdir()
    onnx.save(heavier, tmp_path / "heavier" / "model.onnx")
    assert not remembered(tmp_path / "heavier", dataset), "a weight"
    assert not remembered(exported, write_dataset(store, tmp_path / "more", train=13)), "an image"
    assert not remembered(exported, dataset, settings.changed(images=7)), "an option"
    assert not remembered(exported, dataset, settings.changed(seed=5)), "the seed"
    newer = {"onnx": "99", "onnxruntime": "99", "numpy": "99"}
    monkeypatch.setattr("components.calibrate.calibrate.toolkit", lambda: newer)
    assert not remembered(exported, dataset), "the toolkit"


def test_where_no_form_is_surely_within_the_budget_no_layer_is_paid_for_whose_gain_is_noise(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model.onnx")
    source, settings = read_source(model), SETTINGS.changed(max_loss_points=0.5)
    truth = without_labels(model, write_pictures(tmp_path / "images", 16), threads=1)
    bench = Workbench(source, {}, {}, Yardstick(truth, detect_all(model, truth.images, 1)), settings, tmp_path)
    trials = [bench.judge(source.model, "min-max", [str(at) for at in range(count)]) for count in (0, 1, 2)]
    trials = [
        replace(trial, loss=replace(trial.loss, map_points=lost))
        for trial, lost in zip(trials, (9, 0.9, 0.8), strict=True)
    ]
    bench.margin = lambda trial: 0.5
    assert least_bad(bench, trials).rescued == ("0",)
    bench.margin = lambda trial: 0.1
    with pytest.raises(Refused, match=r"INT8 loses 0\.80 mAP points \(\+-0\.10\)"):
        least_bad(bench, trials)


def test_rescuing_an_activation_frees_its_readers_and_what_moved_values_into_it(tmp_path: Path) -> None:
    model = onnx.load(write_detector(tmp_path / "model.onnx"))
    pooled = next(node for node in model.graph.node if node.op_type == "MaxPool")
    assert readers(model, [pooled.output[0]]) == {pooled.name, "/backbone.2"}
    assert readers(model, [pooled.input[0]]) == {pooled.name}
