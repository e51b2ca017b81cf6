"""How many images a step holds: tried on real images with a copy of the network, once a night."""

import copy
import json
import logging
from collections.abc import Iterator

import torch
from ultralytics.nn.tasks import DetectionModel

from components.shared.errors import MissingCapability
from components.shared.store import Store
from components.train.machine import Machine, is_out_of_memory
from components.train.pictures import LabeledImages
from components.train.settings import TrainSettings
from components.train.step import Plan, add_gradients, compute_loss, start_fit

logger = logging.getLogger(__name__)
MEMORY_SHARE = 0.85
"""Of a GPU that a step may take: what fragments later needs the rest."""


def find_batch_size(
    store: Store,
    name: str,
    network: DetectionModel,
    images: LabeledImages,
    settings: TrainSettings,
    machine: Machine,
) -> int:
    """The largest batch over all ranks that fits, at most `effective_batch_size`; what was found once is kept.

    Args:
        store: Remembers it.
        name: Where.
        network: Left as it is.
        images: To try with.
        settings: Of the step.
        machine: Of this rank.

    Raises:
        MissingCapability: not even one image fits.
    """
    if store.exists(name):
        return int(json.loads(store.get(name)))
    most = max(settings.effective_batch_size // machine.world_size, 1)
    fits = next((size for size in _halves(most) if _fits(network, images, size, settings, machine)), 0)
    if machine.world_size > 1:
        least = torch.tensor([fits], device=machine.device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
        fits = int(least)
    if not fits:
        raise MissingCapability("memory: not even one image fits, expected a smaller train.image_size_px")
    found = fits * machine.world_size
    if machine.rank == 0:
        logger.info("batch_size=%d found by trying, at most %d asked for", found, settings.effective_batch_size)
        store.put_new(name, json.dumps(found).encode())
    return found


def _halves(size: int) -> Iterator[int]:
    while size:
        yield size
        size //= 2


def _fits(network: DetectionModel, images: LabeledImages, size: int, settings: TrainSettings, machine: Machine) -> bool:
    """Whether a step of `size` images runs, and leaves some of a GPU's memory."""
    try:
        plan = Plan(1, settings.learning_rate, size)
        fit = start_fit(copy.deepcopy(network), plan, 1, settings.changed(compile=False), machine)
        fit.network.train()
        fit.network.criterion = fit.network.init_criterion()
        batch = LabeledImages.collate_fn([images[place % len(images)] for place in range(size)])
        add_gradients(fit, compute_loss(fit, batch, settings, machine)[0], machine)
    except RuntimeError as fault:
        if not is_out_of_memory(fault):
            raise
        return False
    if machine.device.type != "cuda":
        return True
    taken = torch.cuda.max_memory_reserved(machine.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(machine.device)
    return taken < MEMORY_SHARE * torch.cuda.get_device_properties(machine.device).total_memory
