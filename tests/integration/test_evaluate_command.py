"""`yanshan evaluate` and `yanshan judge` on files that no pipeline wrote."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.shared.errors import InvalidInput
from components.shared.store import open_store
from pipelines.commands.evaluation import evaluate, judge
from tests import block_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    block_world.write_export(folder / "export", images=60, sessions=12)
    block_world.write_detector(folder / "good.onnx")
    block_world.write_detector(folder / "poor.onnx", blind=(0.1, 0.1, 0.7))
    return folder


def ask(world: Path, *more: str, model: str = "good.onnx", labels: str = "labels.json") -> dict:
    export = world / "export"
    options = ["--model", str(world / model), "--dataset", str(export / labels), "--images", str(export / "images")]
    done = CliRunner().invoke(evaluate, [*options, *more, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def test_a_model_and_a_coco_file_are_enough(world: Path) -> None:
    result = ask(world)
    assert 0.2 < result["map_50_95"] < result["map_50"] < 1
    assert list(result["per_class"]) == ["red", "green", "blue"]
    assert result["images"] == 60 and result["boxes"] == 360
    plain = CliRunner().invoke(
        evaluate, ["--model", str(world / "good.onnx"), "--dataset", str(world / "export/labels.json"),
                   "--images", str(world / "export/images")],
    )  # fmt: skip
    assert f"{result['map_50_95']:.4f}" in plain.stdout


def test_a_second_model_stands_beside_with_an_interval(world: Path) -> None:
    result = ask(world, "--champion", str(world / "poor.onnx"))
    gain = result["difference"]
    assert gain["low"] > 0 and gain["low"] < gain["value"] < gain["high"]
    assert result["champion"]["per_class"]["blue"]["ap_50"] < result["per_class"]["blue"]["ap_50"] - 0.2
    assert result["champion"]["per_class"]["red"] == result["per_class"]["red"]


def test_classes_are_matched_by_name_whatever_their_order(world: Path) -> None:
    content = json.loads((world / "export/labels.json").read_text())
    turned = {1: 30, 2: 20, 3: 10}
    content["categories"] = [{"id": turned[one["id"]], "name": one["name"]} for one in content["categories"]]
    content["categories"].append({"id": 40, "name": "never seen"})
    for one in content["annotations"]:
        one["category_id"] = turned[one["category_id"]]
    content["images"].reverse()
    (world / "export/turned.json").write_text(json.dumps(content))
    before, after = ask(world), ask(world, labels="turned.json")
    assert after["map_50_95"] == pytest.approx(before["map_50_95"], abs=1e-6)
    assert list(after["per_class"]) == ["blue", "green", "red", "never seen"]
    assert after["per_class"]["never seen"] == {"ap_50_95": -1.0, "ap_50": -1.0, "boxes": 0}
    other = block_world.write_detector(world / "other.onnx", class_names=("cat", "dog", "hen"))
    with pytest.raises(InvalidInput, match="at least one class name in common"):
        ask(world, model=other.name)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "no COCO detection file"),
        ("{", "no COCO detection file"),
        ('{"images": [], "annotations": [], "categories": []}', "got 0 images and 0 categories"),
        ('{"images": [{"id": 1, "file_name": "no.png"}], "annotations": [], "categories": [{"id": 1, "name": "red"}]}',
         "1 of 1 images are missing"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(world: Path, content: str, complaint: str) -> None:
    (world / "export/bad.json").write_text(content)
    with pytest.raises(InvalidInput, match=complaint):
        ask(world, labels="bad.json")


def test_an_image_that_cannot_be_read_is_named(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "export", tmp_path / "export")
    shutil.copy(world / "good.onnx", tmp_path)
    (tmp_path / "export/images/0-3.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"0-3\.png: not an image"):
        ask(tmp_path)


def test_a_data_set_version_is_measured_and_judged_again(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    dataset = block_world.take(tmp_path, store, images=80, sessions=16)
    scores = block_world.evaluate(tmp_path / "night", store, dataset)
    digest = json.loads((dataset / "dataset.json").read_text())["digest"]
    options = ["--model", str(tmp_path / "night/onnx/model.onnx"), "--dataset", digest, "--store", store.uri, "--json"]
    alone = json.loads(CliRunner().invoke(evaluate, options, catch_exceptions=False).stdout)
    measured = json.loads((scores / "scores.json").read_text())["challenger"]["float"]
    assert alone["map_50_95"] == measured["map_50_95"]
    with pytest.raises(InvalidInput, match="add --store"):
        CliRunner().invoke(evaluate, options[:4], catch_exceptions=False)

    said = CliRunner().invoke(judge, ["--scores", str(scores), "--recipe", "smoke"], catch_exceptions=False)
    assert said.stdout.startswith("# Approved")
    stricter = ["--scores", str(scores / "scores.json"), "--set", "judge.min_map_50_95=0.9", "--json"]
    decision = json.loads(CliRunner().invoke(judge, stricter, catch_exceptions=False).stdout)
    assert decision["verdict"] == "refused" and "the floor is 0.900" in decision["reasons"][0]
    with pytest.raises(InvalidInput, match="no scores written by evaluate"):
        CliRunner().invoke(judge, ["--scores", str(tmp_path)], catch_exceptions=False)
    with pytest.raises(InvalidInput, match=r"key_classes: \['cup'\] are not among"):
        CliRunner().invoke(
            judge, ["--scores", str(scores), "--set", 'judge.key_classes=["cup"]'], catch_exceptions=False
        )
