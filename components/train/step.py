"""One training step: rates, loss, gradients, update."""

import math
import shutil
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import ModelEMA

from components.shared.errors import MissingCapability
from components.train.distill import Teacher, distance
from components.train.machine import Machine
from components.train.settings import TrainSettings

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """The numbers of this fit that settings alone do not say."""

    epochs: int
    learning_rate: float
    batch_size: int

    def accumulate(self, settings: TrainSettings) -> int:
        """Steps whose gradients are summed before an update."""
        return max(round(settings.effective_batch_size / self.batch_size), 1)


@dataclass
class Fit:
    """Everything that changes while training, and the teacher that does not."""

    network: DetectionModel
    average: ModelEMA
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    teacher: Teacher | None = None
    epochs_done: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    """`map`, `epoch` and `weights` of the best average on val; empty until val was measured."""


def start_fit(
    network: DetectionModel,
    plan: Plan,
    steps: int,
    settings: TrainSettings,
    machine: Machine,
    teacher: Teacher | None = None,
) -> Fit:
    """Place the network and build its optimizer and weight average.

    Args:
        network: With starting weights; its `args` hold the loss gains.
        plan: Of this fit.
        steps: Batches an epoch.
        settings: Of the step.
        machine: Of this rank.
        teacher: To learn from beside the labels.

    Raises:
        MissingCapability: the settings ask for what only GPUs or a compiler give.
    """
    network.to(machine.device)
    if settings.sync_batch_norm and machine.world_size > 1:
        if machine.device.type != "cuda":
            raise MissingCapability("train.sync_batch_norm: got CPU ranks, expected GPUs: it exists on those alone")
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    cast(torch.nn.Module, network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".dfl." not in name
    optimizer = _build_optimizer(network, plan, steps, settings)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype is torch.float16)
    average = ModelEMA(network, tau=settings.average_updates)  # a copy of its own, which is not compiled
    if settings.compile:
        if not shutil.which("g++"):
            raise MissingCapability("train.compile: no g++ here, and torch.compile needs a C++ compiler")
        cast(torch.nn.Module, network).compile()
    return Fit(network, average, optimizer, scaler, teacher)


def _build_optimizer(network: DetectionModel, plan: Plan, steps: int, settings: TrainSettings) -> torch.optim.Optimizer:
    """Ultralytics' parameter groups: no decay on biases and norms, Muon for matrices where MuSGD is chosen."""
    accumulate = plan.accumulate(settings)
    decay = settings.weight_decay * plan.batch_size * accumulate / settings.effective_batch_size
    # All that the method reads of a trainer.
    place = SimpleNamespace(data={"nc": len(network.names)}, args=SimpleNamespace(lr0=plan.learning_rate))
    optimizer = BaseTrainer.build_optimizer(
        cast(BaseTrainer, place),
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


def compute_loss(
    fit: Fit, batch: dict[str, Any], settings: TrainSettings, machine: Machine
) -> tuple[torch.Tensor, Losses]:
    """Loss of one batch, summed over its images, and its parts to show."""
    pixels = batch["img"].to(machine.device, non_blocking=True).float().div_(255)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(machine.device.type, machine.dtype, enabled=machine.dtype is not torch.float32):
        found = _in_float32(fit.network(pixels))
        taught = fit.teacher.answer(pixels) if fit.teacher else {}
    loss, parts = fit.network.loss(batch | {"img": pixels}, found)
    total = loss.sum()
    if fit.teacher:
        gap = distance(found, _in_float32(taught), fit.teacher) * settings.distill_gain
        total, parts = total + gap * len(pixels), parts | {"distill_loss": gap.detach()}
    return total, parts


def _in_float32(found: Any) -> Any:
    """Head outputs as float32: box decoding and the assignment of targets need its digits."""
    if isinstance(found, dict):
        return {name: _in_float32(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(_in_float32(value) for value in found)
    return found.float() if torch.is_tensor(found) else found


def add_gradients(fit: Fit, loss: torch.Tensor, machine: Machine) -> None:
    """Back-propagate; every rank counts for its whole batch, so that the mean over ranks is one batch's gradient."""
    fit.scaler.scale(loss * machine.world_size).backward()


def update(fit: Fit, machine: Machine) -> None:
    """Step the optimizer with the mean of all ranks' gradients, and move the weight average."""
    if machine.world_size > 1:
        _mean_over_ranks(fit.network, machine.world_size)
    fit.scaler.unscale_(fit.optimizer)
    torch.nn.utils.clip_grad_norm_(fit.network.parameters(), max_norm=10.0)
    fit.scaler.step(fit.optimizer)
    fit.scaler.update()
    fit.optimizer.zero_grad()
    fit.average.update(fit.network)


def _mean_over_ranks(network: torch.nn.Module, world_size: int) -> None:
    """One message for all gradients: they are a few MB, there is nothing to gain from sending them in pieces."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = [one.grad if one.grad is not None else torch.zeros_like(one) for one in trained]
    message = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(message)
    message /= world_size
    for parameter, part in zip(trained, message.split([one.numel() for one in trained]), strict=True):
        parameter.grad = part.view_as(parameter).clone(memory_format=torch.preserve_format)


def set_rates(optimizer: torch.optim.Optimizer, done: int, steps: int, plan: Plan, settings: TrainSettings) -> float:
    """Set every group's rate from the number of steps done alone: nothing to save, nothing to restore.

    Returns:
        The first group's rate.
    """
    share = learning_rate_share(done / steps, plan.epochs, settings)
    warmup = min(settings.warmup_epochs, max(plan.epochs - 1, 0)) * steps
    warm = min((done + 1) / warmup, 1.0) if warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share * warm
        if "momentum" in group:
            group["momentum"] = settings.momentum * warm + 0.8 * (1 - warm)
    return float(optimizer.param_groups[0]["lr"])


def learning_rate_share(epochs_done: float, epochs: int, settings: TrainSettings) -> float:
    """The rate after `epochs_done` of `epochs` as a share of the peak."""
    way = min(epochs_done / epochs, 1.0)
    fall = (1 - math.cos(math.pi * way)) / 2 if settings.schedule == "cosine" else way
    return 1 - fall * (1 - settings.final_learning_rate_share)
