"""The training loop: Ultralytics' network, loss and optimizer groups, driven epoch by epoch from a kept state."""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import ModelEMA

from components.shared.errors import InvalidInput
from components.train.machine import Machine
from components.train.measure import measure
from components.train.pictures import Epoch, LabeledImages, batches
from components.train.settings import TrainSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The numbers of this fit that settings alone do not say."""

    epochs: int
    learning_rate: float
    batch_size: int


@dataclass
class Fit:
    """Everything that changes while training."""

    network: DetectionModel
    average: ModelEMA
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epochs_done: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    """`map`, `epoch` and `weights` of the best average on val; empty until val was measured."""


def start_fit(network: DetectionModel, plan: Plan, steps: int, settings: TrainSettings, machine: Machine) -> Fit:
    """Place the network and build its optimizer and weight average.

    Args:
        network: With starting weights; its `args` hold the loss gains.
        plan: Of this fit.
        steps: Batches an epoch.
        settings: Of the step.
        machine: Of this rank.
    """
    network.to(machine.device, memory_format=torch.channels_last)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".dfl." not in name
    optimizer = _build_optimizer(network, plan, steps, settings)
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype is torch.float16)
    return Fit(network, ModelEMA(network, tau=settings.average_updates), optimizer, scaler)


def _build_optimizer(network: DetectionModel, plan: Plan, steps: int, settings: TrainSettings) -> torch.optim.Optimizer:
    """Ultralytics' parameter groups: no decay on biases and norms, Muon for matrices where MuSGD is chosen."""
    accumulate = _accumulate(plan, settings)
    decay = settings.weight_decay * plan.batch_size * accumulate / settings.effective_batch_size
    place = SimpleNamespace(data={"nc": len(network.names)}, args=SimpleNamespace(lr0=plan.learning_rate))
    optimizer = BaseTrainer.build_optimizer(
        place,
        network,
        name=settings.optimizer,
        lr=plan.learning_rate,
        momentum=settings.momentum,
        decay=decay,
        iterations=plan.epochs * steps / accumulate,
    )
    if type(optimizer) is torch.optim.AdamW:
        # One kernel for all parameters, on a CPU too: Ultralytics asks for it on GPUs only.
        return torch.optim.AdamW(optimizer.param_groups, fused=True)
    return optimizer


def _accumulate(plan: Plan, settings: TrainSettings) -> int:
    return max(round(settings.effective_batch_size / plan.batch_size), 1)


def run_epochs(
    fit: Fit,
    images: LabeledImages,
    repeats: list[int],
    val: LabeledImages | None,
    plan: Plan,
    settings: TrainSettings,
    machine: Machine,
    keep: Callable[[Fit], None],
) -> None:
    """Train from `fit.epochs_done` to the planned end, calling `keep` after every epoch.

    Raises:
        InvalidInput: the loss became NaN; says where. What `keep` last saw is still good.
    """
    while fit.epochs_done < plan.epochs and not _worn_out(fit, settings):
        epoch = fit.epochs_done
        started = time.monotonic()
        _seed(settings.seed, epoch)
        mosaic_on = epoch < plan.epochs - settings.mosaic_off_epochs
        _set_mosaic(images, settings, mosaic_on)
        losses = _run_epoch(fit, Epoch(images, repeats, settings.seed, epoch), plan, settings, machine)
        fit.epochs_done += 1
        entry = {"epoch": fit.epochs_done, **losses}
        if val is not None and _measured_now(fit.epochs_done, plan, settings):
            entry |= measure(fit.average.ema, val, plan.batch_size * 2, machine)
            _note_best(fit, entry, settings)
        entry["seconds"] = round(time.monotonic() - started, 2)
        fit.history.append(entry)
        logger.info("epoch=%d/%d %s", fit.epochs_done, plan.epochs, _line(entry))
        keep(fit)
    if fit.epochs_done < plan.epochs:
        logger.info("stopped early epoch=%d best_epoch=%d", fit.epochs_done, fit.best["epoch"])


def _seed(seed: int, epoch: int) -> None:
    """Start every generator anew, so that an epoch does not depend on whether the one before ran in this process."""
    draw = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(draw)
    np.random.seed(draw)
    torch.manual_seed(draw)


def _set_mosaic(images: LabeledImages, settings: TrainSettings, on: bool) -> None:
    hyperparameters = images.hyperparameters(settings.mosaic if on else 0.0, settings.mixup if on else 0.0)
    images.transforms = images.build_transforms(hyperparameters)


def _run_epoch(fit: Fit, epoch: Epoch, plan: Plan, settings: TrainSettings, machine: Machine) -> dict[str, float]:
    steps = count_steps(len(epoch), plan.batch_size)
    accumulate = _accumulate(plan, settings)
    _align_criterion(fit, epoch.epoch)
    fit.network.train()
    fit.optimizer.zero_grad()
    sums: dict[str, torch.Tensor] = {}
    for step, batch in enumerate(batches(epoch, plan.batch_size, machine.workers, machine.rank, machine.world_size)):
        done = epoch.epoch * steps + step
        pace = _set_rates(fit.optimizer, done, steps, plan, settings)
        loss, parts = _loss(fit.network, batch, machine)
        if not torch.isfinite(loss):
            raise InvalidInput(
                f"training: loss became {float(loss.detach())} in epoch {epoch.epoch + 1}, step {step + 1} of {steps} "
                f"(rate {pace:.2g}, images {[name[-24:] for name in batch['im_file'][:4]]}...); the state of the "
                "epoch before is kept; expected a finite loss: lower train.learning_rate or train.precision='fp32'"
            )
        fit.scaler.scale(loss).backward()
        if (step + 1) % accumulate == 0 or step + 1 == steps:
            _update(fit)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0) + value.detach()
    return {name: round(float(total) / steps, 5) for name, total in sums.items()}


def count_steps(images: int, batch_size: int) -> int:
    """Batches an epoch: the rest counts as one where it fills at least a quarter of a batch."""
    full, rest = divmod(images, batch_size)
    return full + 1 if rest * 4 >= batch_size or not full else full


def _align_criterion(fit: Fit, epochs_done: int) -> None:
    """Give the two-headed loss of NMS-free networks the balance of this epoch, resumed or not."""
    fit.network.criterion = fit.network.init_criterion()
    if hasattr(fit.network.criterion, "update"):
        for _ in range(epochs_done):
            fit.network.criterion.update()


def _loss(
    network: DetectionModel, batch: dict[str, Any], machine: Machine
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    pixels = batch["img"].to(machine.device, non_blocking=True).float().div_(255)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(machine.device.type, machine.dtype, enabled=machine.dtype is not torch.float32):
        found = network(pixels)
    loss, parts = network.loss(batch | {"img": pixels}, _in_float32(found))
    return loss.sum(), parts


def _in_float32(found: Any) -> Any:
    """Head outputs as float32: box decoding and the assignment of targets need its digits."""
    if isinstance(found, dict):
        return {name: _in_float32(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(_in_float32(value) for value in found)
    return found.float() if torch.is_tensor(found) else found


def _update(fit: Fit) -> None:
    fit.scaler.unscale_(fit.optimizer)
    torch.nn.utils.clip_grad_norm_(fit.network.parameters(), max_norm=10.0)
    fit.scaler.step(fit.optimizer)
    fit.scaler.update()
    fit.optimizer.zero_grad()
    fit.average.update(fit.network)


def _set_rates(optimizer: torch.optim.Optimizer, done: int, steps: int, plan: Plan, settings: TrainSettings) -> float:
    """Set every group's rate from the number of steps done alone: nothing to save, nothing to restore."""
    share = learning_rate_share(done / steps, plan.epochs, settings)
    warmup = min(settings.warmup_epochs, max(plan.epochs - 1, 0)) * steps
    warm = min((done + 1) / warmup, 1.0) if warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share * warm if "initial_lr" in group else _first_rate(group) * share * warm
        if "momentum" in group:
            group["momentum"] = settings.momentum * warm + 0.8 * (1 - warm)
    return optimizer.param_groups[0]["lr"]


def _first_rate(group: dict[str, Any]) -> float:
    group["initial_lr"] = group["lr"]
    return group["lr"]


def learning_rate_share(epochs_done: float, epochs: int, settings: TrainSettings) -> float:
    """The rate after `epochs_done` of `epochs` as a share of the peak."""
    way = min(epochs_done / epochs, 1.0)
    fall = (1 - math.cos(math.pi * way)) / 2 if settings.schedule == "cosine" else way
    return 1 - fall * (1 - settings.final_learning_rate_share)


def _measured_now(epochs_done: int, plan: Plan, settings: TrainSettings) -> bool:
    every = settings.validate_every_epochs
    return epochs_done == plan.epochs or bool(every and epochs_done % every == 0)


def _note_best(fit: Fit, entry: dict[str, float], settings: TrainSettings) -> None:
    if fit.best and fit.best["map"] >= entry["map_50_95"]:
        return
    fit.best = {"map": entry["map_50_95"], "epoch": fit.epochs_done}
    if settings.keep == "best":
        weights = fit.average.ema.state_dict()
        fit.best["weights"] = {name: value.detach().cpu().clone() for name, value in weights.items()}


def _worn_out(fit: Fit, settings: TrainSettings) -> bool:
    return bool(
        settings.patience_epochs and fit.best and fit.epochs_done - fit.best["epoch"] >= settings.patience_epochs
    )


def _line(entry: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in entry.items() if name != "epoch")
