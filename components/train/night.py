"""One night's fit on this machine: network, images, epochs, checkpoint, report."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from ultralytics.nn.tasks import DetectionModel

from components.shared.errors import InvalidInput, MissingCapability
from components.shared.store import Store
from components.train.checkpoint import write_checkpoint
from components.train.distill import read_teacher
from components.train.loop import count_steps, run_epochs
from components.train.machine import Machine, OutOfMemory, is_out_of_memory, pick_machine
from components.train.network import build_network, read_architecture, take_weights
from components.train.pictures import LabeledImages
from components.train.probe import find_batch_size
from components.train.report import write_report
from components.train.settings import TrainSettings
from components.train.start import Start
from components.train.state import keep_state, resume_state
from components.train.step import Fit, Plan, start_fit
from components.train.stop import listen_for_sigterm

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Night:
    """What a fit works on and where its results go."""

    rows: pa.Table
    """Of the training set, train and val."""
    files: Sequence[Path]
    """Private copies of the rows' images, in their order."""
    class_names: Sequence[str]
    start: Start
    store: Store
    state_name: str
    """Where in the store the state lies that a killed run carries on from."""
    settings: TrainSettings
    checkpoint_folder: Path
    report_path: Path
    batch_size: int = 0
    """Instead of the settings' where that did not fit into memory."""


def train_night(night: Night) -> None:
    """Train to the planned end, from the state that a killed run left where there is one.

    A batch that does not fit into memory is halved, which is logged and recorded.

    Raises:
        InvalidInput: no or corrupt images, weights that do not fit, a loss that became NaN.
        MissingCapability: not even one image fits into memory.
        OutOfMemory: a batch does not fit into this rank's memory; whoever started the ranks halves it for all.
        ServiceFault: the process was told to stop.
    """
    began = time.monotonic()
    machine = pick_machine(night.settings)
    plan = _plan(night)
    train, repeats, val = _split(night)
    if not plan.batch_size:
        kept = f"{night.state_name.rpartition('/')[0]}/batch_size.json"
        network = _network(night, train, plan)
        plan = replace(plan, batch_size=find_batch_size(night.store, kept, network, train, night.settings, machine))
    while True:
        try:
            fit = _start(night, plan, train, sum(repeats), machine)
            with listen_for_sigterm():
                run_epochs(fit, train, repeats, val, plan, night.settings, machine, _keeper(night, plan, machine))
            break
        except RuntimeError as fault:
            if not is_out_of_memory(fault):
                raise
            if machine.world_size > 1:
                raise OutOfMemory(plan.batch_size) from fault
            plan = _halved(plan, fault)
    if machine.rank == 0:
        _write(night, fit, plan, machine, time.monotonic() - began)


def _plan(night: Night) -> Plan:
    settings, batch_size = night.settings, night.batch_size or night.settings.batch_size
    if not night.start.warm:
        return Plan(settings.epochs, settings.learning_rate, batch_size)
    rate = settings.learning_rate * settings.warm_start_learning_rate_share
    return Plan(settings.warm_start_epochs, rate, batch_size)


def _halved(plan: Plan, fault: RuntimeError) -> Plan:
    if plan.batch_size == 1:
        raise MissingCapability("memory: not even one image fits, expected a smaller train.image_size_px") from fault
    smaller = replace(plan, batch_size=plan.batch_size // 2)
    logger.warning("out_of_memory batch_size=%d halved_to=%d", plan.batch_size, smaller.batch_size)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return smaller


def _split(night: Night) -> tuple[LabeledImages, list[int], LabeledImages | None]:
    """Training images with their repeats, and val images where there are any."""
    chosen = {}
    for split in ("train", "val"):
        places = pc.indices_nonzero(pc.equal(night.rows["split"], split)).to_pylist()
        if places:
            files = [night.files[place] for place in places]
            part = night.rows.take(places)
            images = LabeledImages(part, files, night.class_names, night.settings, augment=split == "train")
            chosen[split] = (images, part["repeat"].to_pylist())
    return *chosen["train"], chosen["val"][0] if "val" in chosen else None


def _start(night: Night, plan: Plan, train: LabeledImages, images_an_epoch: int, machine: Machine) -> Fit:
    settings = night.settings
    network = _network(night, train, plan)
    teacher = None
    if settings.teacher:
        teacher = read_teacher(Path(settings.teacher), night.class_names, network.stride, machine.device)
    steps = count_steps(images_an_epoch, plan.batch_size)
    fit = start_fit(network, plan, steps, settings, machine, teacher)
    resume_state(night.store, night.state_name, fit)
    logger.info(
        "train images=%d epochs=%d batch_size=%d device=%s precision=%s threads=%d ranks=%d start=%r",
        images_an_epoch,
        plan.epochs,
        plan.batch_size,
        machine.device,
        str(machine.dtype).removeprefix("torch."),
        torch.get_num_threads(),
        machine.world_size,
        night.start.source,
    )
    return fit


def _network(night: Night, train: LabeledImages, plan: Plan) -> DetectionModel:
    settings = night.settings
    torch.manual_seed(settings.seed)
    network = build_network(read_architecture(settings.architecture), night.class_names)
    gains: Any = train.hyperparameters(settings.mosaic, settings.mixup)
    gains.box, gains.cls, gains.dfl = settings.box_gain, settings.class_gain, settings.distribution_gain
    gains.epochs = plan.epochs
    network.args = gains
    if settings.key_classes:
        network.class_weights = class_weights(night.class_names, settings)
    if night.start.weights:
        take_weights(network, night.start.weights, night.start.class_names)
    return network


def class_weights(class_names: Sequence[str], settings: TrainSettings) -> torch.Tensor:
    """(classes,) float32 with mean 1, so that the class loss as a whole keeps its weight.

    Raises:
        InvalidInput: a key class is none of the data set's.
    """
    if unknown := set(settings.key_classes) - set(class_names):
        raise InvalidInput(f"train.key_classes: got {sorted(unknown)}, expected some of {list(class_names)}")
    gains = torch.tensor([settings.key_class_gain if name in settings.key_classes else 1.0 for name in class_names])
    return gains / gains.mean()


def _keeper(night: Night, plan: Plan, machine: Machine):  # type: ignore[no-untyped-def]
    """What the loop calls after every epoch."""

    def keep(fit: Fit) -> None:
        due = fit.epochs_done % night.settings.state_every_epochs == 0 or fit.epochs_done == plan.epochs
        if due and machine.rank == 0:
            keep_state(night.store, night.state_name, fit)

    return keep


def _write(night: Night, fit: Fit, plan: Plan, machine: Machine, seconds: float) -> None:
    settings = night.settings
    best = fit.best if settings.keep == "best" else {}
    facts = {
        "architecture": settings.architecture,
        "layers": read_architecture(settings.architecture),
        "class_names": list(night.class_names),
        "image_size_px": settings.image_size_px,
        "stride": int(fit.network.stride.max()),
        "parameters": sum(value.numel() for value in fit.network.parameters()),
        "start": night.start.source,
        "start_digest": night.start.digest,
        "epochs": best.get("epoch", fit.epochs_done),
        "batch_size": plan.batch_size,
        "precision": str(machine.dtype).removeprefix("torch."),
        "device": machine.device.type,
        "ranks": machine.world_size,
        "settings": settings.model_dump(mode="json"),
        "history": fit.history,
        "seconds": round(seconds, 1),
    }
    write_checkpoint(night.checkpoint_folder, best.get("weights") or fit.average.ema.state_dict(), facts)
    write_report(night.report_path, facts)
