"""Several ranks on this machine: started by torchrun, each running the same night."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import torch

from components.shared.dataset import bring_images
from components.shared.errors import InvalidInput, MissingCapability, ServiceFault, YanshanError
from components.shared.settings import read_settings
from components.shared.step import start_logging
from components.shared.store import open_store
from components.train.machine import OutOfMemory
from components.train.quiet import quieten_ultralytics
from components.train.settings import TrainSettings

logger = logging.getLogger(__name__)
OUT_OF_MEMORY = "out-of-memory"
"""File in the job's folder that says which batch size did not fit."""


@dataclass(frozen=True)
class Job:
    """A night as one JSON file that every rank reads."""

    training_set: str
    class_names: list[str]
    store_uri: str
    model_name: str
    state_name: str
    settings: dict
    scratch: str
    checkpoint: str
    report: str
    batch_size: int = 0
    """Instead of the settings' where that did not fit into memory."""


def count_ranks(settings: TrainSettings) -> int:
    """Ranks to start on this machine: as many as asked for, or one a GPU.

    Raises:
        MissingCapability: more ranks than GPUs are asked for on a GPU machine.
        InvalidInput: a batch cannot be cut into so many equal parts.
    """
    gpus = torch.cuda.device_count() if settings.device != "cpu" else 0
    ranks = settings.ranks or max(gpus, 1)
    if ranks > gpus and (gpus or settings.device == "cuda"):
        raise MissingCapability(f"train.ranks: got {ranks} on a machine with {gpus} GPUs, expected at most one a GPU")
    if settings.batch_size % ranks:
        raise InvalidInput(f"train.batch_size: got {settings.batch_size}, expected a multiple of {ranks} ranks")
    return ranks


def launch_ranks(job: Job, ranks: int) -> None:
    """Run the night on `ranks` processes and wait; a batch that does not fit into one's memory is halved for all.

    Raises:
        ServiceFault: a rank died; the others were ended and the kept state carries on.
        InvalidInput: a rank refused its input; its log says why.
        MissingCapability: not even one image a rank fits into memory.
    """
    path, full = Path(job.scratch) / "job.json", Path(job.scratch) / OUT_OF_MEMORY
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    while True:
        path.write_text(json.dumps(asdict(job)))
        ended = subprocess.run([*torchrun, "--module", "components.train.ranks", str(path)], check=False)
        if not full.exists():
            break
        job = replace(job, batch_size=halved(int(full.read_text()), ranks))
        full.unlink()
    told = Path(job.scratch) / "refused.json"
    if told.exists():
        raise InvalidInput(json.loads(told.read_text()))
    if ended.returncode:
        raise ServiceFault(f"training: torchrun ended with {ended.returncode}; the last state carries on: run it again")


def halved(batch_size: int, ranks: int) -> int:
    """Half the batch, still the same for every rank.

    Raises:
        MissingCapability: each rank has but one image already.
    """
    smaller = batch_size // ranks // 2 * ranks
    if not smaller:
        raise MissingCapability("memory: not even one image a rank fits, expected a smaller train.image_size_px")
    logger.warning("out_of_memory batch_size=%d halved_to=%d", batch_size, smaller)
    return smaller


def run_rank(job: Job) -> None:
    """One rank's life: RANK, WORLD_SIZE and LOCAL_RANK come from torchrun, on one node or several.

    Raises:
        InvalidInput: what the night refuses.
    """
    scratch = Path(job.scratch)
    quieten_ultralytics(scratch / "ultralytics")
    from components.train.night import Night, train_night
    from components.train.start import find_start

    settings = read_settings(TrainSettings, job.settings)
    store = open_store(job.store_uri)
    rows = pq.read_table(Path(job.training_set) / "rows.parquet")
    cuda = settings.device != "cpu" and torch.cuda.is_available()
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        train_night(
            Night(
                rows,
                bring_images(store, rows, scratch / "images"),
                job.class_names,
                find_start(store, job.model_name, settings, scratch),
                store,
                job.state_name,
                settings,
                Path(job.checkpoint),
                Path(job.report),
                job.batch_size,
            )
        )
    finally:
        torch.distributed.destroy_process_group()


def run_here(path: Path) -> None:
    """A rank of this machine's job."""
    job = Job(**json.loads(path.read_bytes()))
    try:
        run_rank(job)
    except InvalidInput as refusal:
        (Path(job.scratch) / "refused.json").write_text(json.dumps(str(refusal)))
        raise
    except OutOfMemory as full:
        (Path(job.scratch) / OUT_OF_MEMORY).write_text(str(full.batch_size))
        raise


def run_on_node(store_uri: str, folder: str) -> None:
    """A rank of a job that lies in the store."""
    from components.train.nodes import receive_job, send_results

    store = open_store(store_uri)
    job = receive_job(store, folder)
    try:
        run_rank(job)
    except InvalidInput as refusal:
        store.put(f"{folder}/refused.json", json.dumps(str(refusal)).encode())
        raise
    except OutOfMemory as full:
        told = f"{full}: expected a smaller train.batch_size, or 0, which tries out what fits"
        store.put(f"{folder}/refused.json", json.dumps(told).encode())
        raise
    if os.environ.get("RANK", "0") == "0":
        send_results(job, store, folder)


if __name__ == "__main__":
    start_logging()
    try:
        if len(sys.argv) == 3:
            run_on_node(*sys.argv[1:])
        else:
            run_here(Path(sys.argv[1]))
    except YanshanError as fault:
        logger.error("%s", fault)
        sys.exit(fault.exit_code)
