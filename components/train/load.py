"""What an epoch asked of the machine: time waiting for images, busy cores, memory."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import psutil
import torch

Item = TypeVar("Item")


class Load:
    """Watches one epoch from its creation on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cpu = _cpu_seconds()
        self._waited = 0.0

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield `items`, timing how long each took to come."""
        iterator = iter(items)
        while True:
            asked = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.monotonic() - asked
            yield item

    def summary(self, images: int) -> dict[str, float]:
        """Images a second, share of the time spent waiting for images, busy cores, memory in GB."""
        seconds = time.monotonic() - self._started
        told = {
            "images_per_s": images / seconds,
            "data_share": self._waited / seconds,
            "busy_cores": (_cpu_seconds() - self._cpu) / seconds,
            "memory_gb": psutil.Process().memory_info().rss / 1e9,
        }
        if torch.cuda.is_available():
            told["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        return {name: round(value, 3) for name, value in told.items()}


def _cpu_seconds() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system
