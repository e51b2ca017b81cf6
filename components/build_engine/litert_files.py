"""LiteRT (TensorFlow Lite) for phones: converted by onnx2tf from the FP32 ONNX, without TensorFlow.

onnx2tf stands in an environment of its own, because it pins other releases of numpy and onnx than the rest needs.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.shared.errors import InvalidInput, MissingCapability

CONVERTER = "onnx2tf==2.6.9"
TIMEOUT_S = 600
FILE = "model.tflite"


def write_litert(model: Path, folder: Path) -> Path:
    """Write `folder`/model.tflite: pixels in as (1, H, W, 3), boxes out as the ONNX file gives them.

    Raises:
        InvalidInput: onnx2tf refuses the graph.
        MissingCapability: onnx2tf is not on the PATH.
    """
    program = shutil.which("onnx2tf")
    if program is None:
        raise MissingCapability(
            f"the target litert needs the program onnx2tf, which is not on the PATH: uv tool install --python 3.12 "
            f"{CONVERTER}"
        )
    with tempfile.TemporaryDirectory() as work:
        shutil.copyfile(model, Path(work) / "model.onnx")
        command = [program, "-i", "model.onnx", "-o", "made", "-n"]
        try:
            answer = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as late:
            raise InvalidInput(f"{model}: onnx2tf did not end within {TIMEOUT_S} s") from late
        made = Path(work) / "made" / "model_float32.tflite"
        if answer.returncode or not made.is_file():
            told = (answer.stderr.strip() or answer.stdout.strip())[-300:]
            raise InvalidInput(f"{model}: onnx2tf ended with {answer.returncode}: {told}")
        return Path(shutil.copyfile(made, folder / FILE))


def load_litert(file: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """(B, 3, H, W) float32 in, (B, 4 + classes, N) float32 out.

    Raises:
        InvalidInput: LiteRT refuses the file.
        MissingCapability: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as missing:
        raise MissingCapability(
            "the target litert needs the package ai-edge-litert (extra `edge`), which is not installed"
        ) from missing

    try:
        interpreter = Interpreter(str(file), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as refusal:
        raise InvalidInput(f"{file}: LiteRT refuses it: {str(refusal).strip().splitlines()[0]}") from refusal
    source, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def infer(pixels: np.ndarray) -> np.ndarray:
        answers = []
        for image in pixels:
            interpreter.set_tensor(source, np.ascontiguousarray(image.transpose(1, 2, 0))[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(answer)[0])
        return np.stack(answers)

    return infer
