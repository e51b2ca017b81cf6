"""Options that several commands share: where the store and the registry are, and which model is meant."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from components.shared.errors import InvalidInput
from components.shared.store import Store, open_store

DEFAULT_MODEL = "parts-detector"


@dataclass(frozen=True)
class Place:
    """What a command works on."""

    store: Store
    model_name: str
    tracking_uri: str
    workspace: Path


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --workspace, --store and --model; the command gets them as one `place`.

    Raises:
        InvalidInput: there is no such workspace.
    """

    @click.option("--workspace", default=".yanshan", show_default=True, help="Folder for everything a laptop keeps.")
    @click.option("--store", "store_uri", default="", help="Store URI; default: the folder `store` in the workspace.")
    @click.option("--model", "model_name", default=DEFAULT_MODEL, show_default=True, help="Registered model.")
    @functools.wraps(command)
    def with_place(workspace: str, store_uri: str, model_name: str, **rest: Any) -> Any:
        return command(place=open_place(Path(workspace), store_uri, model_name), **rest)

    return with_place


def open_place(workspace: Path, store_uri: str, model_name: str) -> Place:
    """The place that the options name; MLFLOW_TRACKING_URI wins over the workspace's database.

    Raises:
        InvalidInput: no store was named and the workspace has none.
    """
    root = workspace.expanduser().absolute()
    if not store_uri:
        if not (root / "store").is_dir():
            raise InvalidInput(
                f"workspace {root}: no store in it; expected --workspace of an earlier `yanshan run` or `yanshan demo` "
                "(the demo's is .yanshan/demo), or --store URI"
            )
        store_uri = (root / "store").as_uri()
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
    return Place(open_store(store_uri), model_name, tracking_uri, root)
