"""Progress that suits a terminal and a pod."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def progress(items: Iterable[Item], label: str, total: int, every_s: float = 30.0) -> Iterator[Item]:
    """Yield `items` unchanged: a bar on a terminal, a log line every `every_s` seconds elsewhere.

    Only rank 0 of a multi-GPU job speaks.
    """
    if os.environ.get("RANK", "0") != "0":
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total)
        return
    started = spoke = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - spoke >= every_s:
            spoke = now
            logger.info("progress label=%r done=%d total=%d per_s=%.1f", label, done, total, done / (now - started))
