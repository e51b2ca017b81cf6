"""One night's fit on this machine: network, images, epochs, checkpoint, report."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from components.shared.store import Store
from components.train.checkpoint import write_checkpoint
from components.train.loop import Fit, Plan, count_steps, run_epochs, start_fit
from components.train.machine import Machine, pick_machine
from components.train.network import build_network, read_architecture, take_weights
from components.train.pictures import LabeledImages
from components.train.report import write_report
from components.train.settings import TrainSettings
from components.train.start import Start
from components.train.state import forget_state, keep_state, resume_state

logger = logging.getLogger(__name__)


def train_night(
    rows: pa.Table,
    files: Sequence[Path],
    class_names: Sequence[str],
    start: Start,
    store: Store,
    state_name: str,
    settings: TrainSettings,
    checkpoint_folder: Path,
    report_path: Path,
) -> None:
    """Train to the planned end, from the state at `state_name` where a killed run left one.

    Args:
        rows: Of the training set, train and val.
        files: Private copies of the rows' images, in their order.
        class_names: Of the training set.
        start: Weights to begin with.
        store: Keeps the state.
        state_name: Its name there.
        settings: Of the step.
        checkpoint_folder: Receives the checkpoint.
        report_path: Receives the report.
    """
    began = time.monotonic()
    machine = pick_machine(settings)
    plan = _plan(start, settings)
    train, repeats, val = _split(rows, files, class_names, settings)
    layers = read_architecture(settings.architecture)
    network = _network(layers, class_names, start, train, settings)
    network.args.epochs = plan.epochs
    fit = start_fit(network, plan, count_steps(sum(repeats), plan.batch_size), settings, machine)
    resume_state(store, state_name, fit)
    logger.info(
        "train images=%d val=%d epochs=%d device=%s precision=%s threads=%d start=%r",
        sum(repeats),
        len(val) if val else 0,
        plan.epochs,
        machine.device,
        str(machine.dtype).removeprefix("torch."),
        torch.get_num_threads(),
        start.source,
    )

    def keep(now: Fit) -> None:
        if now.epochs_done % settings.state_every_epochs == 0 or now.epochs_done == plan.epochs:
            keep_state(store, state_name, now)

    run_epochs(fit, train, repeats, val, plan, settings, machine, keep)
    facts = _facts(fit, plan, machine, layers, class_names, start, settings, time.monotonic() - began)
    weights = fit.best.get("weights") if settings.keep == "best" else None
    write_checkpoint(checkpoint_folder, weights or fit.average.ema.state_dict(), facts)
    write_report(report_path, facts)
    forget_state(store, state_name)


def _plan(start: Start, settings: TrainSettings) -> Plan:
    if not start.warm:
        return Plan(settings.epochs, settings.learning_rate, settings.batch_size)
    rate = settings.learning_rate * settings.warm_start_learning_rate_share
    return Plan(settings.warm_start_epochs, rate, settings.batch_size)


def _split(
    rows: pa.Table, files: Sequence[Path], class_names: Sequence[str], settings: TrainSettings
) -> tuple[LabeledImages, list[int], LabeledImages | None]:
    """Training images with their repeats, and val images where there are any."""
    chosen = {}
    for split in ("train", "val"):
        places = pc.indices_nonzero(pc.equal(rows["split"], split)).to_pylist()
        part = rows.take(places)
        if places:
            images = LabeledImages(part, [files[place] for place in places], class_names, settings, split == "train")
            chosen[split] = (images, part["repeat"].to_pylist())
    return *chosen["train"], chosen["val"][0] if "val" in chosen else None


def _network(
    layers: dict[str, Any], class_names: Sequence[str], start: Start, train: LabeledImages, settings: TrainSettings
) -> torch.nn.Module:
    torch.manual_seed(settings.seed)
    network = build_network(layers, class_names)
    network.args = train.hyperparameters(settings.mosaic, settings.mixup)
    for ours, theirs in (("box_gain", "box"), ("class_gain", "cls"), ("distribution_gain", "dfl")):
        setattr(network.args, theirs, getattr(settings, ours))
    if start.weights:
        take_weights(network, start.weights, start.class_names)
    return network


def _facts(
    fit: Fit,
    plan: Plan,
    machine: Machine,
    layers: dict[str, Any],
    class_names: Sequence[str],
    start: Start,
    settings: TrainSettings,
    seconds: float,
) -> dict[str, Any]:
    best = settings.keep == "best" and fit.best
    return {
        "architecture": settings.architecture,
        "layers": layers,
        "class_names": list(class_names),
        "image_size_px": settings.image_size_px,
        "stride": int(fit.network.stride.max()),
        "parameters": sum(value.numel() for value in fit.network.parameters()),
        "start": start.source,
        "start_digest": start.digest,
        "epochs": fit.best["epoch"] if best else fit.epochs_done,
        "batch_size": plan.batch_size,
        "precision": str(machine.dtype).removeprefix("torch."),
        "device": machine.device.type,
        "settings": settings.model_dump(mode="json"),
        "history": fit.history,
        "seconds": round(seconds, 1),
    }
