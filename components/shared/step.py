"""How every step begins: logging on, settings checked and written down."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.settings import Kind, read_settings

logger = logging.getLogger(__name__)


def start_step(step: str, kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Start logging, read the step's settings and log them first.

    Raises:
        InvalidInput: the settings do not fit `kind`.
    """
    start_logging()
    _end_with_the_run()
    settings = read_settings(kind, values)
    logger.info("step=%s settings=%s", step, json.dumps(settings.model_dump(mode="json"), sort_keys=True))
    return settings


def start_logging(level: int = logging.INFO) -> None:
    """One line an event on standard error: time, level, module, message."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    for chatty in ("alembic", "mlflow.store", "urllib3", "numexpr", "nncf", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _end_with_the_run() -> None:
    """A step on a laptop must not outlive a killed run: the next run would meet a second writer."""
    run_pid = os.environ.get("YANSHAN_RUN_PID")
    if not run_pid:
        return

    def watch() -> None:
        while Path("/proc", run_pid).exists():
            time.sleep(0.5)
        os._exit(75)

    if Path("/proc/self").exists():
        threading.Thread(target=watch, daemon=True, name="end-with-the-run").start()
