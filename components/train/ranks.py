"""Several ranks on this machine: started by torchrun, each running the same night."""

import json
import logging
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch

from components.shared.dataset import bring_images
from components.shared.errors import InvalidInput, MissingCapability, ServiceFault, YanshanError
from components.shared.settings import read_settings
from components.shared.step import start_logging
from components.shared.store import open_store
from components.train.quiet import quieten_ultralytics
from components.train.settings import TrainSettings

logger = logging.getLogger(__name__)


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
    """Run the night on `ranks` processes and wait.

    Raises:
        ServiceFault: a rank died; the others were ended and the kept state carries on.
        InvalidInput: a rank refused its input; its log says why.
    """
    path = Path(job.scratch) / "job.json"
    path.write_text(json.dumps(asdict(job)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    ended = subprocess.run([*torchrun, "--module", "components.train.ranks", str(path)], check=False)
    told = Path(job.scratch) / "refused.json"
    if told.exists():
        raise InvalidInput(json.loads(told.read_text()))
    if ended.returncode:
        raise ServiceFault(f"training: torchrun ended with {ended.returncode}; the last state carries on: run it again")


def run_rank(path: Path) -> None:
    """One rank's life: RANK, WORLD_SIZE and LOCAL_RANK come from torchrun, on one node or several."""
    job = Job(**json.loads(path.read_bytes()))
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
            )
        )
    except InvalidInput as refusal:
        (scratch / "refused.json").write_text(json.dumps(str(refusal)))
        raise
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    start_logging()
    try:
        run_rank(Path(sys.argv[1]))
    except YanshanError as fault:
        logger.error("%s", fault)
        sys.exit(fault.exit_code)
