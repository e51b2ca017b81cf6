"""A night with nothing new against the full smoke night before it, on the sample parts."""

import tempfile
import time
from pathlib import Path

from pipelines.local import open_workspace, run_night
from pipelines.recipes import find_recipe
from pipelines.sample.factory import write_shift


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder) / "inbox"
        write_shift(inbox / "day", "day", 400, seed=1)
        workspace = open_workspace(Path(folder) / "workspace")
        seconds = {}
        for name in ("full", "nothing new"):
            started = time.perf_counter()
            outcome = run_night(find_recipe("smoke"), inbox.as_uri(), workspace, quiet=True)
            seconds[name] = time.perf_counter() - started
            print(f"{name} night: {outcome.ended} in {seconds[name]:.1f} s")
        ratio = seconds["nothing new"] / seconds["full"]
        print(f"a night with nothing new costs {ratio:.3f} of a full smoke night (aim: under 15 s)")


if __name__ == "__main__":
    main()
