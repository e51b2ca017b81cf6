"""Live curves in the MLflow run that the orchestrator opened for us, if it did."""

import logging
import os
from collections.abc import Mapping

logger = logging.getLogger(__name__)
_broken = False


def log_epoch(entry: Mapping[str, float]) -> None:
    """Send an epoch's numbers to the run named by `MLFLOW_RUN_ID`; without one, nothing is sent.

    A tracking server that fails is said once and then left alone: training goes on.
    """
    global _broken
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    if not run_id or _broken:
        return
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        step = int(entry["epoch"])
        now_ms = int(entry["finished_at"] * 1000)
        told = [Metric(f"train/{name}", value, now_ms, step) for name, value in entry.items() if name != "finished_at"]
        MlflowClient().log_batch(run_id, metrics=told)
    except Exception as fault:  # MLflow raises many unrelated types; none of them is worth a night
        _broken = True
        logger.warning("mlflow run=%s not reachable, live curves end here: %s", run_id, fault)
