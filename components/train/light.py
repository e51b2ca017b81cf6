"""The light architectures, and what their networks weigh."""

from dataclasses import dataclass

import torch

from components.train.network import build_network, read_architecture

LIGHT_ARCHITECTURES = (
    "yolo26n",
    "yolo11n",
    "yolov8n",
    "yolov8n-ghost",
    "efficientlite",
    "mobilenetv3",
    "one-stride",
    "pico",
)
MOST_PARAMETERS = 10e6
MOST_GFLOPS = 8.0


@dataclass(frozen=True)
class Weight:
    """What one architecture costs."""

    architecture: str
    parameters: int
    gflops: float
    """Of one image: two a multiplication and addition in convolutions, with the many-boxes head alone."""

    @property
    def light(self) -> bool:
        """Whether it keeps within what this project calls light."""
        return self.parameters <= MOST_PARAMETERS and self.gflops <= MOST_GFLOPS


def weigh(architecture: str, image_size_px: int, num_classes: int) -> Weight:
    """Count parameters and operations at a network input of `image_size_px`.

    Raises:
        InvalidInput: nobody knows the architecture.
    """
    network = build_network(read_architecture(architecture), [f"class {place}" for place in range(num_classes)])
    network.eval()
    network.end2end = False
    operations = 0

    def count(module: torch.nn.Module, _: tuple, output: torch.Tensor) -> None:
        nonlocal operations
        operations += 2 * module.weight[0].numel() * output.numel()  # type: ignore[index, operator]

    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, image_size_px, image_size_px))
    for hook in hooks:
        hook.remove()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Weight(architecture, parameters, round(operations / 1e9, 3))
