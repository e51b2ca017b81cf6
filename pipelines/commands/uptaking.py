"""The loop behind `yanshan registry serve`."""

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import click

from components.shared.errors import MissingCapability, ServiceFault, YanshanError
from pipelines.commands.options import Place


def look(place: Place, audit: Path, service: str, then: str) -> dict[str, Any]:
    """One look at alias and ledger, and the delivery after a new champion.

    Raises:
        ServiceFault: the registry failed, or the command after a promotion did.
    """
    from components.release.uptake import take_up
    from pipelines.commands.regate import ask_gate_again

    done = take_up(place.store, place.model_name, place.tracking_uri, audit, service, ask_gate_again)
    if then and done["did"] == "recorded":
        answer = subprocess.run([*then.split(), str(done["record"]["champion"])], check=False)
        if answer.returncode:
            raise ServiceFault(f"--then {then!r}: exit code {answer.returncode}")
    return done


def serve_for_ever(
    place: Place, audit: Path, service: str, address: tuple[str, int], every_s: float, then: str
) -> None:
    """Look when a webhook wakes, and every `every_s` seconds; a failed look is told and tried again.

    Raises:
        MissingCapability: YANSHAN_WEBHOOK_SECRET is not set.
    """
    from components.release.webhook import Deliveries, start_receiver
    from components.shared.step import start_logging

    secret = os.environ.get("YANSHAN_WEBHOOK_SECRET", "")
    if not secret:
        raise MissingCapability(
            "YANSHAN_WEBHOOK_SECRET is not set: expected the secret that MLflow signs webhooks with"
        )
    start_logging()
    woken = threading.Event()
    server = start_receiver(*address, Deliveries(secret), woken.set)
    click.echo(f"webhooks are received at http://{server.server_address[0]!s}:{server.server_address[1]}", err=True)
    try:
        while True:
            woken.clear()
            try:
                click.echo(json.dumps(look(place, audit, service, then)))
            except YanshanError as fault:
                click.echo(f"yanshan: {fault}", err=True)
            woken.wait(every_s)
    finally:
        server.shutdown()
