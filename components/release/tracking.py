"""One MLflow run a night: what went in, what came out, and the pages about it."""

import logging
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.release.registry import experiment_of
from components.shared import images
from components.shared.digests import canonical_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset

logger = logging.getLogger(__name__)
RUN_KEY = "yanshan.run_key"
CODE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Night:
    """What the release step read from the artifacts of one night."""

    model_name: str
    run_key: str
    author: str
    dataset: dict[str, Any]
    """dataset.json of the data set version."""
    model: dict[str, Any]
    """model.json of the checkpoint."""
    scores: dict[str, Any]
    decision: dict[str, Any]


def find_run(client: "MlflowClient", tracking_uri: str, night: Night) -> str:
    """Id of the night's run: the one that Kubeflow opened, the one that an interrupted release left, or a new one."""
    experiment = experiment_of(client, tracking_uri, night.model_name)
    if opened := os.environ.get("MLFLOW_RUN_ID"):
        return opened
    left = client.search_runs([experiment], f"tags.`{RUN_KEY}` = '{night.run_key}'", max_results=1)
    if left:
        return str(left[0].info.run_id)
    tags = {RUN_KEY: night.run_key, "mlflow.user": night.author, "mlflow.source.type": "JOB"}
    tags |= {"mlflow.source.name": "nightly-retrain", "mlflow.source.git.commit": code_version()}
    name = f"{time.strftime('%Y-%m-%d')} {night.run_key[:8]}"
    return str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)


def log_night(client: "MlflowClient", run_id: str, night: Night, pages: Path) -> None:
    """Params, tags, metrics, curves and the data set of a night, and everything below `pages` as artifacts."""
    from mlflow.entities import DatasetInput, InputTag, Param, RunTag

    params = [Param(key[:250], str(value)[:6000]) for key, value in flat(night.model.get("settings", {}), "train")]
    tags = [RunTag(key, value) for key, value in provenance(night).items()]
    client.log_batch(run_id, metrics=[*_metrics(night), *_curves(night)], params=params[:100], tags=tags)
    client.log_inputs(run_id, [DatasetInput(dataset_of(night), [InputTag("mlflow.data.context", "training")])])
    client.log_text(run_id, environment(), "environment/requirements.txt")
    client.log_artifacts(run_id, str(pages))


def close_run(client: "MlflowClient", run_id: str) -> None:
    """Mark the run finished, unless it is Kubeflow's own."""
    if os.environ.get("MLFLOW_RUN_ID") != run_id:
        client.set_terminated(run_id)


def dataset_of(night: Night) -> "Dataset":
    """The data set version as MLflow knows data sets."""
    from mlflow.entities import Dataset

    digest = night.dataset["digest"]
    source = {"uri": f"{night.dataset.get('store_uri', '')}/datasets/{digest}.json"}
    profile = {"classes": len(night.dataset["class_names"]), **night.dataset.get("counts", {})}
    # MLflow shows a digest of at most 36 characters; the whole one is a tag of the run.
    return Dataset(
        night.model_name,
        digest[:36],
        "local" if source["uri"].startswith("file") else "s3",
        canonical_json(source).decode(),
        profile=canonical_json(profile).decode(),
    )


def gate_tags(night: Night) -> dict[str, str]:
    """One tag a rule of the gate, with its verdict."""
    rules = night.decision.get("rules", [])
    return {metric_name(f"gate/{rule['rule']}"): str(rule["verdict"]) for rule in rules}


def provenance(night: Night) -> dict[str, str]:
    """Tags that say what made the model: data, code, images, author."""
    return {
        RUN_KEY: night.run_key,
        "yanshan.author": night.author,
        "yanshan.dataset": night.dataset["digest"],
        "yanshan.code": code_version(),
        "yanshan.images": " ".join((images.DATA, images.TRAINING, images.ENGINE, images.RELEASE)),
        "yanshan.python": sys.version.split()[0],
        "yanshan.verdict": str(night.decision["verdict"]),
        "yanshan.checkpoint": str(night.model.get("digest", "")),
        "yanshan.test_set": str(night.scores.get("test_set", "")),
    }


def code_version() -> str:
    """Git commit of the code, or the image tag that stands for it."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CODE, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return images.TAG
    return answer.stdout.strip() if answer.returncode == 0 else images.TAG


def environment() -> str:
    """Every installed package with its version, one a line."""
    # Names of the folders that hold the metadata: reading the metadata of 200 packages takes seconds.
    folders = {info.stem for place in sys.path for info in Path(place).glob("*.dist-info")}
    return "\n".join(sorted((name.replace("-", "==", 1) for name in folders), key=str.lower)) + "\n"


def flat(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Leaves of nested dicts as dotted names and values."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from flat(value, f"{prefix}.{key}")
    else:
        yield prefix, values


def measures(models: dict[str, Any] | None) -> Iterator[tuple[str, float]]:
    """Every finite number of one version's scores, under names such as `float/map_50_95` and `int8/recall/bolt`."""
    for precision, scores in (models or {}).items():
        for key in ("map_50_95", "map_50", "map_75", "ar_100", "size_bytes", "latency_ms"):
            yield f"{precision}/{key}", scores.get(key)
        for name, one in scores.get("per_class", {}).items():
            for key in ("ap_50_95", "ap_50", "recall", "precision"):
                yield f"{precision}/{key}/{name}", one.get(key)
        for group, slices in scores.get("slices", {}).items():
            for value, one in slices.items():
                yield f"{precision}/map_50_95/{group}={value}", one.get("map_50_95")


def metric_name(name: str) -> str:
    """`name` in the letters that MLflow allows for a metric."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def _metrics(night: Night) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    found = list(measures(night.scores["challenger"]))
    found += [(f"champion/{name}", value) for name, value in measures(night.scores.get("champion"))]
    return [Metric(metric_name(name), float(value), now, 0) for name, value in found if _is_number(value)]


def _curves(night: Night) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    curve = night.model.get("curve", [])
    return [
        Metric(metric_name(f"training/{key}"), float(value), now, int(point.get("epoch", step)))
        for step, point in enumerate(curve)
        for key, value in point.items()
        if key != "epoch" and _is_number(value)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
