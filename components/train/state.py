"""The full state of a fit in the store, so that a killed night carries on where it was."""

import io
import logging

import torch

from components.shared.errors import InvalidInput
from components.shared.store import Store
from components.train.step import Fit

logger = logging.getLogger(__name__)


def keep_state(store: Store, name: str, fit: Fit) -> None:
    """Replace the state at `name` in one step.

    No generator is in it: each epoch and each image seeds its own from (seed, epoch, place).
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "network": fit.network.state_dict(),
            "average": fit.average.ema.state_dict(),
            "average_updates": fit.average.updates,
            "optimizer": fit.optimizer.state_dict(),
            "scaler": fit.scaler.state_dict(),
            "epochs_done": fit.epochs_done,
            "history": fit.history,
            "best": fit.best,
        },
        buffer,
    )
    store.put(name, buffer.getvalue())


def resume_state(store: Store, name: str, fit: Fit) -> bool:
    """Fill `fit` from the state at `name`; False where there is none.

    Raises:
        InvalidInput: the state does not fit the network.
    """
    if not store.exists(name) or not (data := store.get(name)):
        return False
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        fit.network.load_state_dict(state["network"])
        fit.average.ema.load_state_dict(state["average"])
        fit.optimizer.load_state_dict(state["optimizer"])
        fit.scaler.load_state_dict(state["scaler"])
    except (RuntimeError, KeyError, ValueError) as misfit:
        raise InvalidInput(
            f"{store.uri}/{name}: does not fit this network ({misfit}); expected its own state"
        ) from misfit
    fit.average.updates = state["average_updates"]
    fit.epochs_done, fit.history, fit.best = state["epochs_done"], state["history"], state["best"]
    logger.info("resumed epochs_done=%d", fit.epochs_done)
    return True
