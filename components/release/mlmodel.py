"""The model as MLflow holds it: a LoggedModel with an MLmodel by hand, so that the ONNX bytes stay as judged."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.release.bundle import link_or_copy
from components.release.tracking import RUN_KEY, Night, dataset_of, measures, metric_name, provenance

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

LOADER = "components.release.predict"
REQUIREMENTS = "numpy\nopencv-python-headless\nonnxruntime\nyanshan[release]\n"


def log_model(client: "MlflowClient", run_id: str, night: Night, bundle: Path, scratch: Path) -> str:
    """Id of the night's LoggedModel; one that an interrupted release finished is taken as it is."""
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    left = client.search_logged_models([experiment], f"tags.`{RUN_KEY}` = '{night.run_key}'")
    for model in left:
        if model.status == "READY" and model.source_run_id == run_id:
            return str(model.model_id)
    model = client.create_logged_model(
        experiment, "detector", run_id, tags=provenance(night), model_type="object-detector"
    )
    write_model_folder(scratch, bundle, model.model_id, run_id)
    client.log_model_artifacts(model.model_id, str(scratch))
    _log_measures(client, run_id, model.model_id, night)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def write_model_folder(folder: Path, bundle: Path, model_id: str, run_id: str) -> None:
    """An MLflow model folder: MLmodel, the two ONNX files as they are, what an environment for it needs, a card."""
    import onnx
    from mlflow.models import Model
    from mlflow.models.utils import _save_example

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "model.int8.qdq.onnx"):
        link_or_copy(bundle / "models" / name, folder / name)
    shutil.copyfile(bundle / "MODEL_CARD.md", folder / "README.md")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    (folder / "python_env.yaml").write_text("python: '3.11'\ndependencies:\n- -r requirements.txt\n")
    description = Model(signature=_signature(), model_id=model_id, run_id=run_id, metadata={"task": "detect"})
    environment = {"virtualenv": "python_env.yaml"}
    description.add_flavor("python_function", loader_module=LOADER, env=environment, python_version="3.11")
    description.add_flavor(
        "onnx",
        onnx_version=onnx.__version__,
        data="model.onnx",
        providers=["CPUExecutionProvider"],
        code=None,
    )
    # MLflow offers no public call that saves an example for a model it does not pickle.
    _save_example(description, _example(), str(folder))
    description.save(str(folder / "MLmodel"))


def _example() -> np.ndarray:
    """(32, 32, 3) uint8: a ramp, to show the form."""
    ramp = np.arange(32, dtype=np.uint8) * 8
    return np.stack([np.tile(ramp, (32, 1))] * 3, axis=-1)


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    image = Schema([TensorSpec(np.dtype("uint8"), (-1, -1, 3))])
    numbers = [ColSpec("double", name) for name in ("x0_px", "y0_px", "x1_px", "y1_px", "score")]
    boxes = Schema([*numbers, ColSpec("long", "class_id"), ColSpec("string", "class_name")])
    params = [
        ParamSpec("precision", "string", "float"),
        ParamSpec("min_score", "double", 0.001),
        ParamSpec("iou", "double", 0.7),
        ParamSpec("max_detections", "long", 300),
    ]
    return ModelSignature(inputs=image, outputs=boxes, params=ParamSchema(params))


def _log_measures(client: "MlflowClient", run_id: str, model_id: str, night: Night) -> None:
    from mlflow.entities import Metric

    dataset, now = dataset_of(night), int(time.time() * 1000)
    metrics = [
        Metric(metric_name(name), float(value), now, 0, model_id, dataset.name, dataset.digest, run_id)
        for name, value in measures(night.scores["challenger"])
        if value is not None
    ]
    client.log_batch(run_id, metrics=metrics)
