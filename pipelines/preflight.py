"""What a run needs, looked at before anything is paid for: one line a thing, all of them, not the first that fails."""

import email.utils
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlparse

from components.shared.errors import InvalidInput, MissingCapability, ServiceFault, YanshanError
from pipelines.recipes import Recipe

MAX_CLOCK_SKEW_S = 300
"""S3 servers refuse signatures from 15 minutes on."""
MIN_FREE_GIB = 5.0
Verdict = Literal["ok", "unknown", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        code: Exit code that a failure stands for, 0 otherwise.
    """

    what: str
    verdict: Verdict
    told: str
    code: int = 0


class Unknown(Exception):
    """A thing that cannot be looked at from here; the message says why."""


def look(what: str, check: Callable[[], str]) -> Finding:
    """Run `check`, which tells what it found or raises."""
    try:
        return Finding(what, "ok", check())
    except Unknown as why:
        return Finding(what, "unknown", str(why))
    except YanshanError as failure:
        return Finding(what, "fail", " ".join(str(failure).split()), failure.exit_code)


def look_here(recipe: Recipe, inbox_uri: str, store_uri: str, tracking_uri: str, workspace: Path) -> Iterator[Finding]:
    """What every run needs, on a laptop as on a cluster."""
    yield Finding("settings", "ok", f"{recipe.model_name}: {len(recipe.as_parameters()) - 1} steps")
    yield look("disk", lambda: free_disk(workspace))
    yield look("inbox", lambda: inbox(inbox_uri))
    yield look("store", lambda: store(store_uri))
    yield look("test set", lambda: test_set(recipe, store_uri))
    yield look("registry", lambda: registry(tracking_uri))
    servers = [os.environ.get("AWS_ENDPOINT_URL_S3", "") if store_uri.startswith("s3:") else "", tracking_uri]
    for server in servers:
        if server.startswith("http"):
            yield look(f"clock against {urlparse(server).netloc}", lambda server=server: clock(server))  # type: ignore[misc]


def look_at_pipeline(path: Path, pinned: bool) -> Iterator[Finding]:
    """The compiled and placed pipeline: every problem of it is a line of its own."""
    from pipelines.ir_lint import lint

    problems = list(lint(path, pinned=pinned, placed=True))
    if not problems:
        yield Finding("pipeline", "ok", "parses, is wired, placed and bounded")
    for problem in problems:
        yield Finding("pipeline", "fail", problem, InvalidInput.exit_code)


def free_disk(workspace: Path) -> str:
    """Room in the workspace.

    Raises:
        MissingCapability: less than a small run needs.
    """
    folder = workspace.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < MIN_FREE_GIB:
        raise MissingCapability(f"{folder}: {free_gib:.1f} GiB free, expected {MIN_FREE_GIB:g} GiB")
    return f"{free_gib:.0f} GiB free in {folder}"


def inbox(uri: str) -> str:
    """Something lies in the inbox.

    Raises:
        InvalidInput: it is missing or empty.
    """
    if not uri:
        raise Unknown("no --inbox given")
    from components.shared.store import open_store

    parts = urlparse(uri)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        empty = not folder.is_dir() or not any(folder.iterdir())
    else:
        empty = next(iter(open_store(uri).list("")), None) is None
    if empty:
        raise InvalidInput(f"{uri}: nothing there; expected labeling exports")
    return uri


def store(uri: str) -> str:
    """The store takes a write, keeps its word about create-only ones, and gives back what it took.

    Raises:
        InvalidInput: it refuses us.
        ServiceFault: it does not answer, or not what it was given.
    """
    if not uri:
        raise Unknown("no --store given")
    from components.shared.store import open_store

    opened = open_store(uri)
    opened.put("preflight/probe", b"probe")
    if opened.put_new("preflight/probe", b"other") or opened.get("preflight/probe") != b"probe":
        raise ServiceFault(f"{uri}: overwrote an object that was to be written once")
    return f"{opened.uri} takes and gives"


def test_set(recipe: Recipe, store_uri: str) -> str:
    """What the gate can decide with the test set there is.

    Raises:
        Unknown: no data set yet.
    """
    from pipelines.resolution import what_the_gate_can_decide

    if not store_uri:
        raise Unknown("no store given")
    if told := what_the_gate_can_decide(recipe, store_uri):
        return told
    raise Unknown("no data set in the store yet: intake makes the test set")


def registry(tracking_uri: str) -> str:
    """The registry answers and takes a write.

    Raises:
        ServiceFault: it does neither.
    """
    if not tracking_uri:
        raise Unknown("no MLFLOW_TRACKING_URI")
    if tracking_uri.startswith("sqlite:///"):
        database = Path(tracking_uri.removeprefix("sqlite:///"))
        return f"{database} {'is there' if database.exists() else 'will be made'}"
    from components.release.registry import open_registry

    with open_registry(tracking_uri) as client:
        probe = client.get_experiment_by_name("preflight")
        probe_id = probe.experiment_id if probe else client.create_experiment("preflight")
        client.set_experiment_tag(probe_id, "looked_at", str(int(time.time())))
    return f"{tracking_uri} answers and writes"


def clock(server: str) -> str:
    """This machine's clock agrees with the server's.

    Raises:
        ServiceFault: the server does not answer.
        MissingCapability: the clocks differ by more than signatures bear.
    """
    request = urllib.request.Request(server, method="HEAD")
    try:
        date = urllib.request.urlopen(request, timeout=10).headers.get("Date")
    except urllib.error.HTTPError as answered:
        date = answered.headers.get("Date")
    except OSError as fault:
        raise ServiceFault(f"{server}: {fault}") from fault
    if not date:
        raise Unknown(f"{server} does not tell the time")
    skew_s = time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    if abs(skew_s) > MAX_CLOCK_SKEW_S:
        raise MissingCapability(f"this clock is {skew_s:+.0f} s off {server}, expected at most {MAX_CLOCK_SKEW_S} s")
    return f"{skew_s:+.0f} s"


def table(findings: Iterable[Finding]) -> str:
    """One line a finding."""
    return "\n".join(f"{it.verdict:<8} {it.what:<34} {it.told}" for it in findings)


def end_with(findings: list[Finding]) -> None:
    """Raise what the failures come to: bad input first, then a missing capability, then a failed service.

    Raises:
        InvalidInput, MissingCapability, ServiceFault: at least one thing failed.
    """
    failed = [it for it in findings if it.verdict == "fail"]
    for kind in (InvalidInput, MissingCapability, ServiceFault):
        if any(it.code == kind.exit_code for it in failed):
            raise kind(
                f"{len(failed)} of {len(findings)} checks failed: {', '.join(dict.fromkeys(it.what for it in failed))}"
            )
