"""A night on two nodes: a small Trainer behind an API server starts torchrun once a node, as Kubeflow's would."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kubernetes import client

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault
from components.shared.store import FolderStore
from components.train import nodes
from components.train.nodes import ranks_per_node
from components.train.settings import TrainSettings
from tests.integration.test_train import SMALL, fit
from tests.servers import _free_ports
from tests.training_sets import shape_rows, write_training_set
from tests.unit.cluster_api import ClusterAPI, serving

ROOT = Path(__file__).parents[2]
TWO_NODES = SMALL.changed(epochs=1, nodes=2, ranks=1, device="cpu", precision="fp32", optimizer="SGD")


class Trainer:
    """Runs the TrainJobs of `cluster` as processes, a group a node, with the variables that Trainer sets."""

    def __init__(self, cluster: ClusterAPI, scratch: Path) -> None:
        self.cluster, self.scratch, self.commands, self.sabotaged = cluster, scratch, [], False
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        done: set[str] = set()
        while True:
            jobs = [dict(thing) for (kind, _), thing in list(self.cluster.things.items()) if kind == "trainjobs"]
            for job in jobs:
                if job["metadata"]["uid"] not in done:
                    done.add(job["metadata"]["uid"])
                    self._run(job["metadata"]["name"], job["spec"]["trainer"])
            time.sleep(0.05)

    def _run(self, name: str, trainer: dict) -> None:
        self.commands.append(trainer["command"])
        port, processes, failed = _free_ports(1), [], False
        for rank in range(trainer["numNodes"]):
            node = self.scratch / f"node-{rank}"
            node.mkdir(exist_ok=True)
            pet = {"NNODES": trainer["numNodes"], "NPROC_PER_NODE": trainer["numProcPerNode"], "NODE_RANK": rank}
            pet |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            told = {f"PET_{key}": str(value) for key, value in pet.items()}
            environment = os.environ | told | {"PYTHONPATH": str(ROOT), "TMPDIR": str(node), "OMP_NUM_THREADS": "1"}
            processes.append(subprocess.Popen(trainer["command"], env=environment))
        if self.sabotaged:
            processes[1].kill()
        while (codes := [process.poll() for process in processes]).count(0) < len(codes):
            if failed := any(codes):
                break  # as a JobSet does: one node's end is everybody's
            time.sleep(0.05)
        for process in processes:
            process.kill()
            process.wait()
        condition = {"type": "Failed" if failed else "Complete", "status": "True", "reason": "PodsEnded"}
        if ("trainjobs", name) in self.cluster.things:
            self.cluster.things["trainjobs", name]["status"] = {"conditions": [condition]}


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    cluster = ClusterAPI()
    pod = {"containers": [{"name": "main", "image": "registry.example.com/yanshan/training:1"}]}
    cluster.put("pods", "launcher", spec=pod)
    monkeypatch.setenv("HOSTNAME", "launcher")
    real = nodes.train_on_nodes
    monkeypatch.setattr(nodes, "train_on_nodes", lambda jobs, core, job, every_s: real(jobs, core, job, 0.2))
    with serving(cluster) as connection:
        monkeypatch.setattr(
            nodes, "cluster", lambda: (client.CustomObjectsApi(connection), client.CoreV1Api(connection))
        )
        yield Trainer(cluster, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def training_set(tmp_path: Path, store: FolderStore) -> Path:
    return write_training_set(tmp_path / "set", store, shape_rows(store, train=16, val=4, side_px=96))


@pytest.mark.slow
def test_two_nodes_make_the_checkpoint_that_two_ranks_of_one_machine_make(
    trainer: Trainer, tmp_path: Path, store: FolderStore, training_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = fit(training_set, store, TWO_NODES, tmp_path / "apart")
    assert apart["epochs"] == 1 and trainer.commands[0][:3] == ["torchrun", "--module", "components.train.ranks"]
    assert (tmp_path / "apart" / "report.html").stat().st_size > 1000
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fit(training_set, store, TWO_NODES.changed(nodes=1, ranks=2), tmp_path / "together")
    one, other = (
        torch.load(tmp_path / name / "checkpoint" / "model.pt", weights_only=True) for name in ("apart", "together")
    )
    assert one["ranks"] == other["ranks"] == 2
    assert all(torch.allclose(value, other["state_dict"][name], atol=1e-5) for name, value in one["state_dict"].items())


@pytest.mark.slow
def test_what_a_node_refuses_is_told_by_the_step(
    trainer: Trainer, tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    for name in list(store.list("objects"))[:1]:
        (store.root / name).write_bytes(b"no image")
    with pytest.raises(InvalidInput, match="bytes do not match the name"):
        fit(training_set, store, TWO_NODES, tmp_path / "out")


@pytest.mark.slow
def test_a_job_whose_nodes_die_is_worth_a_retry(
    trainer: Trainer, tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    trainer.sabotaged = True
    with pytest.raises(ServiceFault, match="run it again"):
        fit(training_set, store, TWO_NODES, tmp_path / "out")
    trainer.sabotaged = False
    assert fit(training_set, store, TWO_NODES, tmp_path / "out")["epochs"] == 1


@pytest.mark.parametrize(
    "settings, told",
    [(TrainSettings(nodes=2), "expected the GPUs of a node"), (TrainSettings(nodes=3, ranks=2), "3 nodes x 2 ranks")],
)
def test_nodes_share_a_batch_evenly(settings: TrainSettings, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        ranks_per_node(settings)


def test_outside_a_cluster_several_nodes_are_a_missing_capability(
    tmp_path: Path, store: FolderStore, training_set: Path
) -> None:
    with pytest.raises(MissingCapability, match="Kubeflow Trainer"):
        fit(training_set, store, TWO_NODES, tmp_path / "out")
