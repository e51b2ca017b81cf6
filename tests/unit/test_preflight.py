"""What is looked at before a run is paid for."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from click.testing import CliRunner
from kubernetes import client

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault
from pipelines import preflight
from pipelines.__main__ import yanshan
from pipelines.cluster_objects import CONFIG_MAPS, image, look_at_cluster, wanted_secrets
from pipelines.placement import PLACEMENTS, production
from pipelines.preflight import Finding
from tests.unit.cluster_api import ClusterAPI, serving


@contextmanager
def answering(code: int = 200, **headers: str) -> Iterator[str]:
    """Host and port of a server that gives every request the same answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cluster() -> ClusterAPI:
    """A namespace in which production could run."""
    api = ClusterAPI()
    for name, keys in CONFIG_MAPS.items():
        api.put("configmaps", name, data=dict.fromkeys(keys, "x"))
    for name, keys in wanted_secrets(production()).items():
        api.put("secrets", name, data=dict.fromkeys(keys, "eA=="))
    api.put("serviceaccounts", "yanshan-runner")
    status = {"hard": {"requests.cpu": "160", "requests.nvidia.com/gpu": "8"}, "used": {"requests.cpu": "100"}}
    api.put("resourcequotas", "yanshan", status=status)
    gpu_node = {"labels": {"nvidia.com/gpu.present": "true"}}
    api.put("nodes", "big", metadata=gpu_node, status={"allocatable": {"cpu": "64", "nvidia.com/gpu": "8"}})
    api.put("nodes", "plain", status={"allocatable": {"cpu": "64"}})
    return api


def looked_at(cluster: ClusterAPI, recipe: str = "production") -> dict[str, Finding]:
    with serving(cluster) as connection:
        found = look_at_cluster(client.CoreV1Api(connection), "yanshan", PLACEMENTS[recipe](), "yanshan-runner")
        return {finding.what: finding for finding in found}


def test_a_ready_cluster_passes(cluster: ClusterAPI) -> None:
    found = looked_at(cluster)
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert found["GPUs"].told == "1 nodes have 4 nvidia.com/gpu"
    assert len(found) == 9


def test_what_is_missing_is_named_with_its_keys(cluster: ClusterAPI) -> None:
    del cluster.things["secrets", "yanshan-signing"]
    cluster.things["configmaps", "yanshan"]["data"].pop("YANSHAN_TRUST")
    found = looked_at(cluster)
    assert found["secret yanshan-signing"].told.startswith("yanshan-signing: not in the cluster; kubectl apply")
    assert found["config map yanshan"].told.startswith("yanshan: no YANSHAN_TRUST in namespace yanshan")
    assert {finding.code for finding in found.values() if finding.verdict == "fail"} == {2}


def test_a_step_that_would_wait_for_ever_is_found(cluster: ClusterAPI) -> None:
    cluster.things["resourcequotas", "yanshan"]["status"]["used"]["requests.cpu"] = "150"
    cluster.things["nodes", "big"]["status"]["allocatable"]["nvidia.com/gpu"] = "2"
    found = looked_at(cluster)
    assert found["quota"].told == "yanshan: 10 requests.cpu left, the largest step asks 32"
    assert found["GPUs"].told == "nodes with nvidia.com/gpu.present=true have [2], expected one with 4 nvidia.com/gpu"
    assert found["quota"].code == found["GPUs"].code == 3


def test_a_small_placement_needs_no_gpu(cluster: ClusterAPI) -> None:
    del cluster.things["nodes", "big"]
    assert looked_at(cluster, "smoke")["GPUs"].told == "none asked for"


def test_what_may_not_be_looked_at_is_unknown_and_no_failure(cluster: ClusterAPI) -> None:
    cluster.forbidden = {"nodes", "secrets"}
    found = looked_at(cluster)
    assert found["GPUs"].verdict == found["secret yanshan-store"].verdict == "unknown"
    preflight.end_with(list(found.values()))


def test_a_cluster_that_does_not_answer_is_a_fault(cluster: ClusterAPI) -> None:
    cluster.fail = [500]
    assert looked_at(cluster)["config map yanshan"].code == 4


DIGEST = "sha256:" + "a" * 64


def test_an_image_is_looked_up_by_its_digest() -> None:
    with answering(200) as host:
        assert image(f"{host}/yanshan/data@{DIGEST}").endswith(DIGEST)


def test_an_image_that_is_not_there_or_names_no_registry_is_refused() -> None:
    with answering(404) as host, pytest.raises(InvalidInput, match="not in the registry"):
        image(f"{host}/yanshan/data@{DIGEST}")
    with pytest.raises(InvalidInput, match="names no registry"):
        image("yanshan/data:0.1.0")
    with answering(503) as host, pytest.raises(ServiceFault, match="answered 503"):
        image(f"{host}/yanshan/data:1")


def test_a_registry_that_asks_for_a_login_leaves_the_image_unknown() -> None:
    with answering(401) as host:
        assert preflight.look("image", lambda: image(f"{host}/yanshan/data:1")).verdict == "unknown"


def test_a_clock_that_runs_ahead_is_found() -> None:
    with answering(200, Date=formatdate(usegmt=True)) as host:
        assert preflight.clock(f"http://{host}").endswith("s")
    late = formatdate(time.time() - 1000, usegmt=True)
    with answering(403, Date=late) as host, pytest.raises(MissingCapability, match=r"clock is \+(1000|1001) s off"):
        preflight.clock(f"http://{host}")


def test_a_store_that_overwrites_is_found(tmp_path: Path) -> None:
    assert preflight.store((tmp_path / "store").as_uri()).endswith("takes and gives")
    assert preflight.store((tmp_path / "store").as_uri()).endswith("takes and gives")
    with pytest.raises(InvalidInput):
        preflight.store("ftp://somewhere")


def test_an_empty_inbox_is_found(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing there"):
        preflight.inbox(tmp_path.as_uri())
    (tmp_path / "export.zip").write_bytes(b"x")
    assert preflight.inbox(tmp_path.as_uri()) == tmp_path.as_uri()


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GiB free" in preflight.free_disk(tmp_path / "not" / "yet" / "made")
    monkeypatch.setattr(preflight, "MIN_FREE_GIB", 1e9)
    with pytest.raises(MissingCapability, match="expected 1e"):
        preflight.free_disk(tmp_path)


def test_the_worst_of_all_failures_decides_the_exit_code() -> None:
    failures = [Finding("a", "fail", "", 4), Finding("b", "fail", "", 3), Finding("c", "ok", "")]
    with pytest.raises(MissingCapability, match="2 of 3 checks failed: a, b"):
        preflight.end_with(failures)
    preflight.end_with([Finding("c", "ok", ""), Finding("d", "unknown", "")])


def test_the_command_prints_every_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(yanshan, ["check", "smoke", "--workspace", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    verdicts = {finding["what"]: finding["verdict"] for finding in json.loads(done.output)}
    assert verdicts == {
        "settings": "ok",
        "disk": "ok",
        "inbox": "unknown",
        "store": "ok",
        "test set": "unknown",
        "registry": "ok",
        "pipeline": "ok",
    }


def test_the_command_lints_a_compiled_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a: 1\n")
    done = CliRunner().invoke(yanshan, ["check", "--ir", str(tmp_path / "p.yaml")])
    assert isinstance(done.exception, InvalidInput) and "not a compiled pipeline" in str(done.exception)
