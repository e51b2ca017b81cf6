"""Parts of training that need no epochs: rates, order, starting weights."""

from pathlib import Path

import pytest
import torch

from components.shared.errors import InvalidInput, MissingCapability
from components.shared.store import FolderStore
from components.train.checkpoint import write_checkpoint
from components.train.distill import distance, read_teacher
from components.train.loop import count_steps
from components.train.machine import pick_machine
from components.train.network import build_network, read_architecture, take_weights
from components.train.night import class_weights
from components.train.pictures import Epoch, LabeledImages, batches
from components.train.settings import TrainSettings
from components.train.start import find_start
from components.train.step import Plan, learning_rate_share, set_rates
from tests.training_sets import CLASS_NAMES, release_checkpoint, shape_rows

SETTINGS = TrainSettings(architecture="pico", image_size_px=64)


def pico(class_names: tuple[str, ...], seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_network(read_architecture("pico"), class_names)


def images(tmp_path: Path, count: int) -> LabeledImages:
    from components.shared.dataset import bring_images

    store = FolderStore(tmp_path / "store")
    rows = shape_rows(store, train=count, val=0, side_px=64)
    return LabeledImages(rows, bring_images(store, rows, tmp_path / "images"), CLASS_NAMES, SETTINGS, augment=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_falls_from_the_peak_to_its_final_share(schedule: str) -> None:
    settings = TrainSettings(schedule=schedule, final_learning_rate_share=0.1)
    shares = [learning_rate_share(done, 10, settings) for done in range(11)]
    assert shares[0] == 1.0
    assert shares[-1] == pytest.approx(0.1)
    assert shares == sorted(shares, reverse=True)


def test_warm_up_rises_step_by_step_and_forgets_nothing_between_runs() -> None:
    settings = TrainSettings(warmup_epochs=1.0)
    plan = Plan(epochs=10, learning_rate=0.1, batch_size=4)
    walked, jumped = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9) for _ in range(2))
    for optimizer in (walked, jumped):
        optimizer.param_groups[0]["initial_lr"] = 0.1
    rates = [set_rates(walked, step, 5, plan, settings) for step in range(8)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5] > rates[6] > rates[7]
    assert set_rates(jumped, 7, 5, plan, settings) == rates[7]


def test_class_rows_follow_their_names_and_new_classes_start_fresh() -> None:
    old, new = pico(("ring", "disc"), seed=1), pico(("disc", "plate", "ring"), seed=2)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    assert take_weights(new, old.state_dict(), ("ring", "disc")) > 0.95
    key = "model.22.cv3.0.2.weight"
    before, after = old.state_dict()[key], new.state_dict()[key]
    assert torch.equal(after[0], before[1])
    assert torch.equal(after[2], before[0])
    assert torch.equal(after[1], fresh[key][1])


def test_weights_of_another_architecture_are_refused() -> None:
    torch.manual_seed(0)
    other = build_network(read_architecture("mobilenetv3"), CLASS_NAMES)
    with pytest.raises(InvalidInput, match="of the network's parameters fit"):
        take_weights(pico(CLASS_NAMES, seed=0), other.state_dict(), CLASS_NAMES)


def test_the_champion_is_the_start_unless_it_has_another_architecture(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    assert find_start(store, "shapes", SETTINGS, tmp_path).source == "scratch"
    network = pico(CLASS_NAMES, seed=4)
    release_checkpoint(store, "shapes", network.state_dict(), "pico", tmp_path / "bundle")
    start = find_start(store, "shapes", SETTINGS, tmp_path / "scratch")
    assert (start.source, start.warm, start.class_names) == ("champion shapes version 1", True, CLASS_NAMES)
    assert torch.equal(start.weights["model.0.conv.weight"], network.state_dict()["model.0.conv.weight"])
    assert find_start(store, "shapes", SETTINGS.changed(architecture="yolov8n"), tmp_path / "b").source == "scratch"
    assert find_start(store, "shapes", SETTINGS.changed(warm_start=False), tmp_path / "c").source == "scratch"


def test_a_network_file_of_ultralytics_is_read_without_running_its_pickle(tmp_path: Path) -> None:
    network = pico(("ring", "disc"), seed=5)
    torch.save({"model": network.half(), "ema": None, "epoch": 1}, tmp_path / "theirs.pt")
    start = find_start(
        FolderStore(tmp_path / "store"), "m", SETTINGS.changed(weights=str(tmp_path / "theirs.pt")), tmp_path
    )
    assert start.class_names == ("ring", "disc")
    assert start.weights["model.0.conv.weight"].dtype == torch.float32


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"train\.weights: got .*nowhere\.pt"):
        find_start(FolderStore(tmp_path / "s"), "m", SETTINGS.changed(weights="nowhere.pt"), tmp_path)


def test_what_a_place_shows_does_not_depend_on_the_number_of_ranks(tmp_path: Path) -> None:
    shown = images(tmp_path, 8)
    alone = list(batches(Epoch(shown, [1] * 8, 0, 3), 4, workers=0))
    first, second = (list(batches(Epoch(shown, [1] * 8, 0, 3), 4, 0, rank, 2)) for rank in range(2))
    for whole, left, right in zip(alone, first, second, strict=True):
        assert torch.equal(whole["img"][0::2], left["img"])
        assert torch.equal(whole["img"][1::2], right["img"])


def test_epochs_differ_and_repeats_count(tmp_path: Path) -> None:
    shown = images(tmp_path, 4)
    orders = [Epoch(shown, [1, 3, 1, 1], 0, epoch).order.tolist() for epoch in range(4)]
    assert all(sorted(order) == [0, 1, 1, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize(("images_", "batch", "steps"), [(8, 4, 2), (9, 8, 1), (10, 8, 2), (1, 8, 1)])
def test_a_small_rest_is_no_batch_of_its_own(images_: int, batch: int, steps: int) -> None:
    assert count_steps(images_, batch) == steps


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(MissingCapability, match="no CUDA GPU"):
        pick_machine(TrainSettings(device="cuda"))


def raw_answer(network: torch.nn.Module, pixels: torch.Tensor) -> dict:
    return network.eval()(pixels)[1]


def test_a_student_that_answers_like_its_teacher_is_nearest(tmp_path: Path) -> None:
    network = pico(("ring", "disc"), seed=6)
    facts = {"architecture": "pico", "layers": read_architecture("pico"), "class_names": ["ring", "disc"]}
    write_checkpoint(tmp_path, network.state_dict(), facts)
    teacher = read_teacher(tmp_path / "model.pt", ("disc", "ring"), network.stride, torch.device("cpu"))
    assert (teacher.ours, teacher.theirs) == ([0, 1], [1, 0])
    pixels = torch.rand(2, 3, 64, 64)
    taught = teacher.answer(pixels)
    twin = {name: value.clone() for name, value in taught.items() if name != "feats"}
    twin["scores"] = twin["scores"][:, [1, 0]]
    other = raw_answer(pico(("disc", "ring"), seed=7), pixels)
    other["scores"] = other["scores"] + 3.0
    assert distance(twin, taught, teacher) < distance(other, taught, teacher)
    learner = {name: twin[name].detach().clone().requires_grad_() for name in ("scores", "boxes")}
    distance(learner, taught, teacher).backward()
    assert learner["boxes"].grad.abs().max() < 1e-6
    assert learner["scores"].grad.abs().max() < 1e-6


def test_a_teacher_that_knows_none_of_our_classes_is_refused(tmp_path: Path) -> None:
    network = pico(("cat",), seed=6)
    facts = {"architecture": "pico", "layers": read_architecture("pico"), "class_names": ["cat"]}
    write_checkpoint(tmp_path, network.state_dict(), facts)
    with pytest.raises(InvalidInput, match="expected some of"):
        read_teacher(tmp_path / "model.pt", ("disc", "ring"), network.stride, torch.device("cpu"))


def test_key_classes_weigh_more_and_the_mean_stays() -> None:
    weights = class_weights(("a", "b", "c"), TrainSettings(key_classes=("b",), key_class_gain=4.0))
    assert weights.tolist() == pytest.approx([0.5, 2.0, 0.5])
    with pytest.raises(InvalidInput, match=r"key_classes: got \['d'\]"):
        class_weights(("a", "b"), TrainSettings(key_classes=("d",)))
