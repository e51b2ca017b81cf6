"""ncnn for phones and small ARM boards: converted by pnnx from the FP32 ONNX, weights in FP16."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.shared.errors import InvalidInput, MissingCapability

TIMEOUT_S = 600


def write_ncnn(model: Path, size_px: tuple[int, int], folder: Path) -> tuple[str, str]:
    """Write `folder`/model.ncnn.param and model.ncnn.bin.

    Returns:
        Name of the file to load, and the version of the converter.

    Raises:
        InvalidInput: pnnx refuses the graph.
        MissingCapability: pnnx is not installed.
    """
    program = _find_pnnx()
    with tempfile.TemporaryDirectory() as work:
        shutil.copyfile(model, Path(work) / "model.onnx")  # pnnx writes beside its input.
        shape = f"inputshape=[1,3,{size_px[0]},{size_px[1]}]f32"
        command = [str(program), "model.onnx", shape, "fp16=1"]
        try:
            answer = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as late:
            raise InvalidInput(f"{model}: pnnx did not end within {TIMEOUT_S} s") from late
        made = [Path(work) / f"model.ncnn.{kind}" for kind in ("param", "bin")]
        if answer.returncode or not all(path.is_file() and path.stat().st_size for path in made):
            raise InvalidInput(f"{model}: pnnx ended with {answer.returncode}: {answer.stderr.strip()[-300:]}")
        for path in made:
            shutil.copyfile(path, folder / path.name)
    return "model.ncnn.param", importlib.metadata.version("pnnx")


def _find_pnnx() -> Path:
    """The converter's program inside its package, whose Python side would load torch."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or not spec.origin:
        raise MissingCapability(
            "the target ncnn needs the packages pnnx and ncnn (extra `edge`), which are not installed"
        )
    program = Path(spec.origin).parent / "pnnx"
    if not os.access(program, os.X_OK):
        raise MissingCapability(f"the target ncnn needs {program}, which this build of the package pnnx lacks")
    return program


def load_ncnn(param: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """(B, 3, H, W) float32 in, (B, 4 + classes, N) float32 out.

    Raises:
        InvalidInput: ncnn refuses the files.
        MissingCapability: ncnn is not installed.
    """
    try:
        import ncnn
    except ImportError as missing:
        raise MissingCapability(
            "the target ncnn needs the package ncnn (extra `edge`), which is not installed"
        ) from missing

    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise InvalidInput(f"{param}: ncnn refuses it")

    def infer(pixels: np.ndarray) -> np.ndarray:
        answers = []
        for image in pixels:
            run = net.create_extractor()
            run.input("in0", ncnn.Mat(np.ascontiguousarray(image)))
            answers.append(np.array(run.extract("out0")[1]))
        return np.stack(answers)

    return infer
