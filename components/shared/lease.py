"""One at a time across machines, by create-only writes to the store: what a lock file is on one machine."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator

from components.shared.errors import ServiceFault
from components.shared.store import Store

logger = logging.getLogger(__name__)
LEASE_S = 120.0
"""A holder that was killed is waited for this long. Who works longer risks company, so keep what is held short."""
LOOK_EVERY_S = 1.0


@contextlib.contextmanager
def leased(store: Store, name: str, lease_s: float = LEASE_S, patience_s: float = 900.0) -> Iterator[None]:
    """Hold the lease `name`, after whoever holds it now; given back at the end, or overdue `lease_s` later.

    Raises:
        ServiceFault: others held it for `patience_s`.
    """
    number = _take(store, f"leases/{name}", lease_s, time.monotonic() + patience_s)
    try:
        yield
    finally:
        store.put_new(f"leases/{name}/{number:08d}.done", b"")


def _take(store: Store, folder: str, lease_s: float, give_up: float) -> int:
    said = False
    while True:
        names = list(store.list(folder))
        number = sum(name.endswith(".json") for name in names)
        free = f"{folder}/{number:08d}.done" in names or not number or _overdue(store, f"{folder}/{number:08d}.json")
        holder = {"host": socket.gethostname(), "until": time.time() + lease_s}
        if free and store.put_new(f"{folder}/{number + 1:08d}.json", json.dumps(holder).encode()):
            return number + 1
        if time.monotonic() > give_up:
            raise ServiceFault(f"{store.uri}/{folder}: held by others all the time; run it again")
        if not said:
            logger.info("waiting lease=%s", folder)
            said = True
        time.sleep(LOOK_EVERY_S)


def _overdue(store: Store, name: str) -> bool:
    return bool(json.loads(store.get(name))["until"] < time.time())
