"""yanshan ui: MLflow and the reports in a browser."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import click

from components.shared.errors import InvalidInput, ServiceFault
from pipelines.commands.options import Place, place_options

START_S = 120


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Where MLflow listens.")
@click.option("--browser/--no-browser", default=True, help="Open the pages in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as JSON.")
@place_options
def ui(place: Place, port: int, browser: bool, as_json: bool) -> None:
    """Start MLflow on the workspace and write an index of the reports; ends with Ctrl-C."""
    from pipelines.reports import write_index

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager ends it as Ctrl-C does
    index = write_index(place.store, place.model_name, place.workspace / "reviews")
    remote = place.tracking_uri.startswith("http")
    server = None if remote else _start(place, port)
    try:
        mlflow = place.tracking_uri if remote else f"http://127.0.0.1:{port}"
        addresses = {"mlflow": f"{mlflow}/#/models/{place.model_name}", "reports": index.as_uri()}
        click.echo(json.dumps(addresses) if as_json else f"MLflow   {addresses['mlflow']}\nreports  {index.as_uri()}")
        if browser:
            click.launch(addresses["mlflow"])
            click.launch(addresses["reports"])
        if server:
            server.wait()
    finally:
        if server:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and the workers that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


def _start(place: Place, port: int) -> subprocess.Popen[bytes]:
    """MLflow's own server on the workspace's database, ready to answer.

    Raises:
        InvalidInput: the port is taken.
        ServiceFault: the server ended or did not answer in time; its log says why.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as taken:
            raise InvalidInput(f"--port {port}: {taken.strerror}; expected a free port") from taken
    log = place.workspace / "mlflow-server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", place.tracking_uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=place.workspace, env=environment, process_group=0
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        if _answers(port):
            return server
        time.sleep(0.3)
    _end(server)
    raise ServiceFault(f"MLflow on port {port}: ended or silent for {START_S} s, expected an answer; see {log}")


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
