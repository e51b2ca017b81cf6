"""Ultralytics as a plain library: no telemetry, no downloads, no installs, no files outside our scratch folder."""

import logging
import os
from pathlib import Path


def quieten_ultralytics(folder: Path) -> None:
    """Import Ultralytics under our terms; call it before anything else imports it.

    Our own loop drives its model, loss and augmentation, so that its trainer's callbacks (events, HUB, MLflow) and
    its AMP check, which downloads a model, never run.

    Args:
        folder: Where its settings file may lie.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(YOLO_CONFIG_DIR=str(folder), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    # Threads that spin while they wait for each other starve everybody else on the machine, and themselves.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import ultralytics.utils as library

    library.VERBOSE = False
    library.LOGGER.setLevel(logging.ERROR)
