"""MLflow as the model registry: opened safely, and its failures told as ours."""

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from components.shared.errors import InvalidInput, ServiceFault
from components.shared.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}


def tracking_uri_for(store: Store) -> str:
    """`MLFLOW_TRACKING_URI`, or the database beside a store that is a folder.

    Raises:
        InvalidInput: neither is there.
    """
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        return named
    if urlparse(store.uri).scheme != "file":
        raise InvalidInput(f"MLFLOW_TRACKING_URI is not set: expected the registry that goes with {store.uri}")
    return f"sqlite:///{Path(unquote(urlparse(store.uri).path)).parent / 'mlflow.db'}"


@contextlib.contextmanager
def open_registry(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of the registry; whatever fails inside is a fault of that service.

    Raises:
        ServiceFault: the server or the database did not do what was asked.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow
    import requests
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        # The store behind a client asks the process-wide address again when it resolves models:/ addresses.
        mlflow.set_tracking_uri(tracking_uri)
        with alone(tracking_uri, "init"):  # fresh SQLite opened by several at once is lost: mlflow#19943, #23819
            client = MlflowClient(tracking_uri, tracking_uri)
            client.search_experiments(max_results=1)
        yield client
    except (MlflowException, requests.RequestException, SQLAlchemyError) as fault:
        told = str(fault).strip().splitlines() or [type(fault).__name__]
        raise ServiceFault(f"MLflow at {without_password(tracking_uri)}: {told[0]}") from fault
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


def without_password(uri: str) -> str:
    """`uri` fit for a message."""
    return re.sub(r"//[^/@]*@", "//", uri)


def database_file(tracking_uri: str) -> Path | None:
    """The SQLite file behind `tracking_uri`; None for a server."""
    return Path(unquote(tracking_uri.removeprefix("sqlite:///"))) if tracking_uri.startswith("sqlite:///") else None


@contextlib.contextmanager
def alone(tracking_uri: str, what: str) -> Iterator[None]:
    """Hold a local registry's lock called `what`; released by the kernel when the process dies. A server has none."""
    database = database_file(tracking_uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def experiment_of(client: "MlflowClient", tracking_uri: str, model_name: str) -> str:
    """Id of the model's experiment, made on first use; beside a local database its artifacts get an absolute place."""
    known = client.get_experiment_by_name(model_name)
    if known is not None:
        return str(known.experiment_id)
    database = database_file(tracking_uri)
    place = (database.parent.resolve() / "mlflow-artifacts" / model_name).as_uri() if database else None
    tags = {
        "mlflow.experimentKind": "custom_model_development"
    }  # else its pages guess that runs are of language models
    return str(client.create_experiment(model_name, artifact_location=place, tags=tags))
