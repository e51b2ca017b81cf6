"""What a person sees of a running night: the local runner's output becomes one short story a step."""

import json
import re
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from components.shared import errors

STARTED = re.compile(r"Executing task .*?'(?P<task>[\w-]+)'")
ENDED = re.compile(r"Task .*?'(?P<task>[\w-]+)'.* finished with status .*?(?P<status>SUCCESS|FAILURE)")
EVENT = re.compile(r"^\s+\d\d:\d\d:\d\d (?P<level>INFO|WARNING|ERROR) components\.[\w.]+ (?P<text>.*)$")
RAISED = re.compile(r"^\s*(?:components\.shared\.errors\.)(?P<kind>\w+): (?P<text>.*)$")
TRACEBACK = re.compile(r"^\s*(?P<text>[\w.]+(?:Error|Exception|Interrupt)\b.*)$")


class StepLog:
    """Takes the runner's standard output, keeps all of it in a file and tells the story on standard error.

    Attributes:
        seconds: Duration of every step that ran, by task name.
        failed: Name of the first task that failed, or "".
    """

    def __init__(self, path: Path, names: dict[str, str], quiet: bool) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        self.failed = ""
        self._names, self._quiet = names, quiet
        self._pending, self._started, self._why = "", 0.0, ""
        self._kind: type[errors.YanshanError] = errors.YanshanError
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def write(self, text: str) -> int:
        """Take a piece of output, as a text stream does."""
        self._file.write(text)
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._read(line)
        self._file.flush()
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def error(self) -> errors.YanshanError:
        """The failed step's own error, with where to read more and how to carry on."""
        called = self._names.get(self.failed, self.failed)
        return self._kind(
            f"step {self.failed} ({called}): {self._why or 'ended without a message'}\n"
            f"  log: {self.path}\n"
            "  carry on: the same command; steps that finished are not paid for again"
        )

    def _read(self, line: str) -> None:
        if match := STARTED.search(line):
            self._started = time.monotonic()
            if not self.failed:
                self._why = ""
            self._say(f"> {self._names.get(match['task'], match['task'])} ({match['task']})")
        elif match := ENDED.search(line):
            self._end(match["task"], match["status"] == "SUCCESS")
        elif match := EVENT.match(line):
            if " settings={" not in match["text"]:
                self._say(f"    {match['text']}")
        elif not self.failed:
            self._remember_error(line)

    def _end(self, task: str, well: bool) -> None:
        self.seconds[task] = round(time.monotonic() - self._started, 2)
        if not well and not self.failed:
            self.failed = task
        self._say(f"  {'done' if well else 'FAILED'} in {self.seconds[task]:.1f} s{self._outputs(task)}")

    def _outputs(self, task: str) -> str:
        """Where the step's outputs lie, and what it says of them."""
        files = sorted(self.path.parent.glob(f"nightly-retrain-*/{task}/executor_output.json"))
        if not files:
            return ""
        output = json.loads(files[-1].read_text() or "{}")
        values = [f"answer {value!r}" for value in output.get("parameterValues", {}).values()]
        places = [item["artifacts"][0]["uri"] for item in output.get("artifacts", {}).values()]
        return "".join(f"\n      {text}" for text in [*values, *places])

    def _remember_error(self, line: str) -> None:
        if match := RAISED.match(line):
            self._kind, self._why = getattr(errors, match["kind"], errors.YanshanError), match["text"]
        elif match := TRACEBACK.match(line):
            self._kind, self._why = errors.YanshanError, match["text"]

    def _say(self, text: str) -> None:
        if not self._quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
