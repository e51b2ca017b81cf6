"""Ten training steps on as many ranks as torchrun starts; rank 0 writes the weights after each one.

Run by test_train_ranks.py: `python -m torch.distributed.run ... rank_program.py WORKSPACE`.
"""

import sys
from pathlib import Path

import torch

from components.shared.dataset import bring_images
from components.shared.store import FolderStore
from components.train.machine import Machine
from components.train.network import build_network, read_architecture
from components.train.pictures import Epoch, LabeledImages, batches
from components.train.settings import TrainSettings
from components.train.step import Fit, Plan, add_gradients, compute_loss, set_rates, start_fit, update
from tests.training_sets import CLASS_NAMES, shape_rows

SETTINGS = TrainSettings(
    architecture="pico",
    image_size_px=64,
    batch_size=4,
    effective_batch_size=4,
    optimizer="SGD",
    learning_rate=0.001,
    warmup_epochs=0.0,
    precision="fp32",
)
PLAN = Plan(epochs=1, learning_rate=0.001, batch_size=4)
STEPS = 10


def prepare(folder: Path, machine: Machine) -> tuple[Fit, Epoch]:
    """The same network and images in every process."""
    store = FolderStore(folder / "store")
    rows = shape_rows(store, train=4 * STEPS, val=0, side_px=64)
    files = bring_images(store, rows, folder / f"images-{machine.rank}")
    images = LabeledImages(rows, files, CLASS_NAMES, SETTINGS, augment=True)
    torch.manual_seed(0)
    network = build_network(read_architecture("pico"), CLASS_NAMES)
    network.args = images.hyperparameters(1.0, 0.0)
    fit = start_fit(network, PLAN, STEPS, SETTINGS, machine)
    network.criterion = network.init_criterion()
    network.train()
    return fit, Epoch(images, [1] * len(images), 0, 0)


def weights(fit: Fit) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in fit.network.parameters()])


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    machine = Machine(torch.device("cpu"), torch.float32, 0, rank, world_size)
    fit, epoch = prepare(folder, machine)
    seen = []
    for step, batch in enumerate(batches(epoch, 4, 0, rank, world_size)):
        set_rates(fit.optimizer, step, STEPS, PLAN, SETTINGS)
        add_gradients(fit, compute_loss(fit, batch, SETTINGS, machine)[0], machine)
        update(fit, machine)
        seen.append(weights(fit))
    if rank == 0:
        torch.save(torch.stack(seen), folder / "ranks.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
