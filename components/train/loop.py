"""The training loop: Ultralytics' network, loss and augmentation, driven epoch by epoch from a kept state."""

import logging
import random
import time
from collections.abc import Callable

import numpy as np
import torch

from components.shared.errors import InvalidInput
from components.train.load import Load
from components.train.machine import Machine
from components.train.measure import measure
from components.train.pictures import Epoch, LabeledImages, batches
from components.train.settings import TrainSettings
from components.train.step import Fit, Plan, add_gradients, compute_loss, set_rates, update
from components.train.stop import check_not_told_to_stop
from components.train.tracking import log_epoch

logger = logging.getLogger(__name__)


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
        ServiceFault: the process was told to stop; what `keep` last saw carries on.
    """
    while fit.epochs_done < plan.epochs and not _worn_out(fit, settings):
        epoch = fit.epochs_done
        started = time.monotonic()
        _seed(settings.seed, epoch)
        _set_mosaic(images, settings, epoch < plan.epochs - settings.mosaic_off_epochs)
        order = Epoch(images, repeats, settings.seed, epoch)
        load = Load()
        losses = _run_epoch(fit, order, plan, settings, machine, load)
        fit.epochs_done += 1
        entry = {"epoch": fit.epochs_done, **losses, **load.summary(len(order))}
        if val is not None and machine.rank == 0 and _measured_now(fit.epochs_done, plan, settings):
            entry |= measure(fit.average.ema, val, plan.batch_size * 2, machine)
            _note_best(fit, entry, settings)
        entry["seconds"] = round(time.monotonic() - started, 2)
        fit.history.append(entry)
        logger.info("epoch=%d/%d %s", fit.epochs_done, plan.epochs, _line(entry))
        if machine.rank == 0:
            log_epoch(entry | {"finished_at": time.time()})
        keep(fit)
        _agree_on_best(fit, settings, machine)
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


def _run_epoch(
    fit: Fit, epoch: Epoch, plan: Plan, settings: TrainSettings, machine: Machine, load: Load
) -> dict[str, float]:
    steps = count_steps(len(epoch), plan.batch_size)
    accumulate = plan.accumulate(settings)
    _align_criterion(fit, epoch.epoch)
    fit.network.train()
    fit.optimizer.zero_grad()
    sums: dict[str, torch.Tensor] = {}
    drawn = batches(epoch, plan.batch_size, machine.workers, machine.rank, machine.world_size)
    for step, batch in enumerate(load.waiting(drawn)):
        check_not_told_to_stop(fit.epochs_done)
        pace = set_rates(fit.optimizer, epoch.epoch * steps + step, steps, plan, settings)
        loss, parts = compute_loss(fit, batch, settings, machine)
        if not torch.isfinite(loss):
            raise InvalidInput(
                f"training: loss became {float(loss.detach())} in epoch {epoch.epoch + 1}, step {step + 1} of {steps} "
                f"(rate {pace:.2g}, images {[name[-24:] for name in batch['im_file'][:4]]}...); the state of the "
                "epoch before is kept; expected a finite loss: lower train.learning_rate or train.precision='fp32'"
            )
        add_gradients(fit, loss, machine)
        if (step + 1) % accumulate == 0 or step + 1 == steps:
            update(fit, machine)
        for name, value in parts.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
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


def _agree_on_best(fit: Fit, settings: TrainSettings, machine: Machine) -> None:
    """Tell every rank what rank 0 measured, so that all stop early together."""
    if machine.world_size == 1 or not settings.patience_epochs:
        return
    told = [{name: value for name, value in fit.best.items() if name != "weights"}]
    torch.distributed.broadcast_object_list(told, src=0)
    fit.best |= told[0]


def _worn_out(fit: Fit, settings: TrainSettings) -> bool:
    return bool(
        settings.patience_epochs and fit.best and fit.epochs_done - fit.best["epoch"] >= settings.patience_epochs
    )


def _line(entry: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in entry.items() if name != "epoch")
