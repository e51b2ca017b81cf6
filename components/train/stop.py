"""A polite end: SIGTERM stops training at the next step, and the kept state carries on later."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from components.shared.errors import ServiceFault

_told = threading.Event()


@contextlib.contextmanager
def listen_for_sigterm() -> Iterator[None]:
    """While it is entered, SIGTERM asks training to end instead of ending the process at once.

    The epoch under way is dropped: a state inside an epoch could not be carried on bit by bit.
    """
    _told.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _note(number: int, frame: FrameType | None) -> None:
    _told.set()


def check_not_told_to_stop(epochs_done: int) -> None:
    """Do nothing, unless SIGTERM came.

    Raises:
        ServiceFault: it came; a retry carries on.
    """
    if _told.is_set():
        raise ServiceFault(f"training: told to stop (SIGTERM) after epoch {epochs_done}; run again to carry on there")
