"""What the DAG adds to a step: a no-op component through the local runner, against the function called directly."""

import contextlib
import io
import statistics
import tempfile
import time
import warnings

from kfp import dsl, local

REPEATS = 10


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def answer(word: str) -> str:
    """Return the word."""
    return word


def main() -> None:
    warnings.simplefilter("ignore")
    direct, through = [], []
    with tempfile.TemporaryDirectory() as root:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
        for _ in range(REPEATS):
            started = time.perf_counter()
            answer.python_func("yes")
            direct.append(time.perf_counter() - started)
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                answer(word="yes")
            through.append(time.perf_counter() - started)
    overhead = statistics.median(through) - statistics.median(direct)
    print(f"step overhead: median {overhead:.3f} s a step over the plain function (aim: under 1 s)")


if __name__ == "__main__":
    main()
