"""The registry's own copy of a version's models: is it still what was released?"""

import tempfile
from pathlib import Path

from components.shared.digests import digest_file
from components.shared.errors import InvalidInput
from components.shared.releases import Release

MODELS = {"model.onnx": "models/model.onnx", "model.int8.qdq.onnx": "models/model.int8.qdq.onnx"}


def check_registered(release: Release) -> None:
    """Fetch the models that the open registry serves for this version, and compare them with the bundle's digests.

    Raises:
        InvalidInput: one of them was overwritten, or is gone.
    """
    import mlflow

    expected = {file["path"]: file["sha256"] for file in release.record["files"]}
    where = f"models:/{release.model_name}/{release.version}"
    with tempfile.TemporaryDirectory(prefix="yanshan-registered-") as scratch:
        for name, path in MODELS.items():
            try:
                got = digest_file(Path(mlflow.artifacts.download_artifacts(f"{where}/{name}", dst_path=scratch)))
            except (mlflow.exceptions.MlflowException, OSError) as fault:
                raise InvalidInput(f"{where}/{name}: the registry does not serve it ({fault})") from fault
            if got != expected[path]:
                raise InvalidInput(f"{where}/{name}: got SHA-256 {got}, released was {expected[path]}: overwritten")
