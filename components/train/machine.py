"""What this machine trains with: device, precision, threads, and its place among the ranks."""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from components.shared.errors import MissingCapability
from components.train.settings import TrainSettings

logger = logging.getLogger(__name__)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class OutOfMemory(Exception):
    """A rank's share of a batch did not fit; all ranks must halve together."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(f"a batch of {batch_size} images does not fit into a rank's memory")
        self.batch_size = batch_size


def is_out_of_memory(fault: RuntimeError) -> bool:
    """Whether torch says so, on a GPU or a CPU."""
    return any(sign in str(fault) for sign in OUT_OF_MEMORY)


@dataclass(frozen=True)
class Machine:
    """Where one rank runs and how it multiplies."""

    device: torch.device
    dtype: torch.dtype
    """Of convolutions and matrix products; weights, losses and updates are float32."""
    workers: int
    rank: int = 0
    world_size: int = 1


def pick_machine(settings: TrainSettings) -> Machine:
    """The machine that `settings` asks for, with every core of a CPU put to work.

    Raises:
        MissingCapability: it asks for a GPU and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MissingCapability("device: got no CUDA GPU, expected one because train.device is 'cuda'")
    cuda = settings.device != "cpu" and torch.cuda.is_available()
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not cuda:
        # Ultralytics leaves one core idle; at night there is nothing else to do with it.
        torch.set_num_threads(max(_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1))
        return Machine(torch.device("cpu"), _dtype(settings.precision, False), 0, rank, world_size)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return Machine(device, _dtype(settings.precision, True), _workers(settings), rank, world_size)


def _workers(settings: TrainSettings) -> int:
    """Data processes that shared memory has room for: without it they die with a bus error in the first batch."""
    shared = Path("/dev/shm")
    batch_size = settings.batch_size or settings.effective_batch_size
    needed = settings.workers * 4 * batch_size * 3 * settings.image_size_px**2
    if not settings.workers or not shared.is_dir() or shutil.disk_usage(shared).free > needed:
        return min(settings.workers, _cores())
    free_mb = shutil.disk_usage(shared).free // 2**20
    logger.warning("shared memory: %d MB free, %d MB wanted: images are loaded in process", free_mb, needed // 2**20)
    return 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dtype(precision: str, cuda: bool) -> torch.dtype:
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if cuda else _cpu_multiplies_bf16()
        precision = "bf16" if native else "fp16" if cuda else "fp32"
    if precision == "fp16" and not cuda:
        raise MissingCapability("precision: got fp16 on a CPU, expected fp32 or bf16 there")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _cpu_multiplies_bf16() -> bool:
    """Whether the CPU has bfloat16 dot products (AVX512-BF16 or AMX): without them bf16 is slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
