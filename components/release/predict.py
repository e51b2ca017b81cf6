"""`mlflow.pyfunc.load_model(...)` for our detectors: an image in, boxes out, through the code that judged the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.shared.detection import load_detector
from components.shared.errors import InvalidInput

if TYPE_CHECKING:
    import pandas

FILES = {"float": "model.onnx", "int8": "model.int8.qdq.onnx"}


class BoxPredictor:
    """Loads a precision when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, Any] = {}

    def predict(self, image: np.ndarray, params: dict[str, Any] | None = None) -> "pandas.DataFrame":
        """Boxes in one image, best score first.

        Args:
            image: (H, W, 3) uint8, blue first as `cv2.imread` reads it.
            params: precision ("float" or "int8"), min_score, iou, max_detections.

        Raises:
            InvalidInput: not such an image, or a precision that the model does not have.
        """
        import pandas

        choice = {"precision": "float", "min_score": 0.001, "iou": 0.7, "max_detections": 300, **(params or {})}
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InvalidInput(f"image: got {image.dtype} {image.shape}, expected uint8 (height, width, 3), blue first")
        detector = self._detector(str(choice.pop("precision")))
        (found,) = detector.detect([image], **choice)
        table = pandas.DataFrame(found.xyxy_px.astype(float), columns=["x0_px", "y0_px", "x1_px", "y1_px"])
        names = [detector.class_names[index] for index in found.class_ids]
        return table.assign(score=found.scores.astype(float), class_id=found.class_ids.astype(int), class_name=names)

    def _detector(self, precision: str) -> Any:
        if precision not in FILES:
            raise InvalidInput(f"precision: got {precision!r}, expected one of {sorted(FILES)}")
        if precision not in self._loaded:
            self._loaded[precision] = load_detector(self.folder / FILES[precision])
        return self._loaded[precision]


def _load_pyfunc(path: str) -> BoxPredictor:
    """Where MLflow begins: `path` is the model folder."""
    return BoxPredictor(Path(path))
