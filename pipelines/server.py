"""Hand the compiled pipeline to a Kubeflow Pipelines server, once or every night, through its official client.

Every function may be called twice: versions are named by what they hold, schedules by their model.
"""

import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from components.shared.digests import digest_file
from components.shared.errors import InvalidInput, Refused, ServiceFault

if TYPE_CHECKING:
    from kfp import Client

PIPELINE = "nightly-retrain"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
CRON_FIELDS = "second minute hour day month weekday"


@dataclass(frozen=True)
class Schedule:
    """A recurring run as people see it."""

    name: str
    recurring_run_id: str
    cron: str
    version_id: str
    enabled: bool
    max_concurrency: int
    no_catchup: bool
    service_account: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a server is to run.

    Attributes:
        pipeline_id: From `upload`.
        version_id: From `upload`; a run never follows "the latest".
        parameters: Values of the pipeline's parameters; the rest keep their compiled defaults.
        service_account: Of the run's pods; "" leaves it to the server.
    """

    pipeline_id: str
    version_id: str
    parameters: Mapping[str, Any]
    experiment: str
    service_account: str = ""
    description: str = ""


@contextlib.contextmanager
def server_faults(what: str) -> Iterator[None]:
    """Turn what the client raises into our errors.

    Raises:
        InvalidInput: the server refused the request (400 to 499, but for 408 and 429).
        ServiceFault: it failed or could not be reached: retry.
    """
    import kfp_server_api
    import urllib3

    try:
        with contextlib.redirect_stdout(sys.stderr):  # the client prints what it made; results are ours to print
            yield
    except kfp_server_api.ApiException as fault:
        message = f"{what}: server answered {fault.status} {fault.reason} {(fault.body or '')[:500]}".rstrip()
        if 400 <= (fault.status or 500) < 500 and fault.status not in (408, 429):
            raise InvalidInput(message) from fault
        raise ServiceFault(message) from fault
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        raise ServiceFault(f"{what}: {fault}") from fault


def connect(host: str = "", namespace: str = "kubeflow", token_file: str = "", ca_file: str = "") -> "Client":
    """The official client, once the server has answered.

    Args:
        host: Address; "" takes KF_PIPELINES_ENDPOINT.
        namespace: Of the runs.
        token_file: Service account token or other bearer token; "" takes KF_PIPELINES_SA_TOKEN_PATH, or none.
        ca_file: Certificates that sign the server's.

    Raises:
        InvalidInput: no host is known, or the token cannot be read.
        ServiceFault: nothing answers there.
    """
    host = host or os.environ.get("KF_PIPELINES_ENDPOINT", "")
    if not re.match(r"https?://", host):
        raise InvalidInput(f"--host: got {host!r}, expected http(s)://... here or in KF_PIPELINES_ENDPOINT")
    token_file = token_file or os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "")
    if token_file and not Path(token_file).is_file():
        raise InvalidInput(f"token file {token_file}: no such file")
    import kfp
    from kfp.client import ServiceAccountTokenVolumeCredentials

    credentials = ServiceAccountTokenVolumeCredentials(path=token_file) if token_file else None
    with server_faults(host), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about servers before 2.0
        _greet(host, token_file, ca_file)
        return kfp.Client(host=host, namespace=namespace, credentials=credentials, ssl_ca_cert=ca_file or None)


def _greet(host: str, token_file: str, ca_file: str) -> None:
    """One short call: the client itself would knock for half a minute, at a closed door as at a locked one."""
    import kfp_server_api

    configuration = kfp_server_api.Configuration(host=host)
    configuration.ssl_ca_cert = ca_file or None
    configuration.retries = False
    if token_file:
        configuration.api_key = {"authorization": Path(token_file).read_text().strip()}
        configuration.api_key_prefix = {"authorization": "Bearer"}
    with kfp_server_api.ApiClient(configuration) as plain:
        kfp_server_api.HealthzServiceApi(plain).healthz_service_get_healthz(_request_timeout=10)


def upload(client: "Client", package: Path, pipeline: str = PIPELINE) -> tuple[str, str]:
    """Ids of the pipeline and of the version that holds exactly `package`; uploaded only where it is not there yet."""
    version_name = digest_file(package)[:16]
    with server_faults(f"upload of {package.name}"):
        pipeline_id = client.get_pipeline_id(pipeline)
        if pipeline_id is None:
            pipeline_id = client.upload_pipeline(str(package), pipeline_name=pipeline).pipeline_id
        for version in _pages(
            lambda token: client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100)
        ):
            if version_name in (version.display_name, version.name):
                return pipeline_id, version.pipeline_version_id
        version = client.upload_pipeline_version(str(package), version_name, pipeline_id=pipeline_id)
    return pipeline_id, version.pipeline_version_id


def submit(client: "Client", order: Order, name: str) -> str:
    """Start one run; its id."""
    with server_faults(f"run {name}"):
        experiment = client.create_experiment(order.experiment)
        run = client.run_pipeline(
            experiment.experiment_id,
            name,
            params=dict(order.parameters),
            pipeline_id=order.pipeline_id,
            version_id=order.version_id,
            service_account=order.service_account or None,
        )
    return str(run.run_id)


def follow(
    client: "Client",
    run_id: str,
    tell: Callable[[str], None],
    every_s: float = 5.0,
    logs: Callable[[], Iterable[str]] = tuple,
) -> str:
    """Tell every change of a step's state, and what `logs` has new, until the run has ended; its final state.

    Raises:
        ServiceFault: the server does not answer for ten polls in a row.
    """
    told: dict[str, str] = {}
    unanswered = 0
    while True:
        try:
            with server_faults(f"run {run_id}"):
                run = client.get_run(run_id)
            unanswered = 0
        except ServiceFault:
            unanswered += 1
            if unanswered >= 10:
                raise
            time.sleep(every_s)
            continue
        for line in (*logs(), *_changes(run, told)):
            tell(line)
        if run.state in ENDED:
            return str(run.state)
        time.sleep(every_s)


def schedule(client: "Client", order: Order, name: str, cron: str, max_concurrency: int = 1) -> Schedule:
    """The recurring run called `name`, as ordered: kept when it is that already, else replaced.

    A recurring run cannot be changed, and deleting one ends the run that it started: the old one is switched off
    first, and deleted only when nothing of it runs.
    """
    check_cron(cron)
    present = [found for found in schedules(client, order.experiment) if found.name == name]
    wanted = (cron, order.version_id, dict(order.parameters), order.service_account, True, max_concurrency)
    for found in present:
        if wanted == (
            found.cron,
            found.version_id,
            found.parameters,
            found.service_account,
            found.enabled,
            found.max_concurrency,
        ):
            return found
    with server_faults(f"schedule {name}"):
        for found in present:
            client.disable_recurring_run(found.recurring_run_id)
        client.create_recurring_run(
            client.create_experiment(order.experiment).experiment_id,
            name,
            description=order.description,
            cron_expression=cron,
            max_concurrency=max_concurrency,
            # Without it the server makes up for every night that it missed.
            no_catchup=True,
            params=dict(order.parameters),
            pipeline_id=order.pipeline_id,
            version_id=order.version_id,
            service_account=order.service_account or None,
        )
        for found in present:
            if not running(client, found.recurring_run_id):
                client.delete_recurring_run(found.recurring_run_id)
    return next(made for made in schedules(client, order.experiment) if made.name == name and made.enabled)


def schedules(client: "Client", experiment: str) -> list[Schedule]:
    """Every recurring run of the experiment."""
    with server_faults("schedules"):
        experiment_id = client.create_experiment(experiment).experiment_id
        found = _pages(
            lambda token: client.list_recurring_runs(page_token=token, page_size=100, experiment_id=experiment_id)
        )
        return [_as_schedule(one) for one in found]


def pause(client: "Client", experiment: str, name: str) -> None:
    """Switch a schedule off; what it started goes on.

    Raises:
        InvalidInput: there is no such schedule.
    """
    for found in _named(client, experiment, name):
        with server_faults(f"schedule {name}"):
            client.disable_recurring_run(found.recurring_run_id)


def delete(client: "Client", experiment: str, name: str, force: bool = False) -> None:
    """Delete a schedule.

    Raises:
        InvalidInput: there is no such schedule.
        Refused: a night that it started is under way, and `force` is not set: deleting would end that night.
    """
    for found in _named(client, experiment, name):
        if (busy := running(client, found.recurring_run_id)) and not force:
            raise Refused(f"schedule {name}: run {busy[0]} is under way and would be ended; pause it, or --force")
        with server_faults(f"schedule {name}"):
            client.delete_recurring_run(found.recurring_run_id)


def running(client: "Client", recurring_run_id: str) -> list[str]:
    """Ids of the runs that a schedule started and that have not ended."""
    with server_faults("runs"):
        runs = _pages(lambda token: client.list_runs(page_token=token, page_size=100, sort_by="created_at desc"))
        return [run.run_id for run in runs if run.recurring_run_id == recurring_run_id and run.state not in ENDED]


def nightly_cron(at: str, timezone: str = "UTC", server_timezone: str = "UTC") -> tuple[str, str]:
    """Six-field cron for `at` (HH:MM) in `timezone`, in the one zone that the server's clock has.

    Returns:
        The cron expression, and a warning or "": a zone with summer time drifts from the server's by an hour.

    Raises:
        InvalidInput: no such time or zone.
    """
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
    if not match:
        raise InvalidInput(f"--at {at!r}: expected HH:MM, such as 02:00")
    try:
        here, there = ZoneInfo(timezone), ZoneInfo(server_timezone)
    except (ZoneInfoNotFoundError, ValueError) as fault:
        raise InvalidInput(
            f"time zone {timezone!r} or {server_timezone!r}: {fault}; expected Europe/Berlin or UTC"
        ) from fault
    today = datetime.now(here).replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    on_server = today.astimezone(there)
    shift = _next_shift(today, there)
    warning = ""
    if shift:
        warning = f"from {shift:%Y-%m-%d} on the night starts an hour off {at} {timezone}: schedule it again then"
    return f"0 {on_server.minute} {on_server.hour} * * *", warning


def check_cron(cron: str) -> None:
    """Refuse a cron expression that the server would read in another way than people do.

    Raises:
        InvalidInput: another number of fields than six.
    """
    fields = cron.split()
    if len(fields) == 5:
        raise InvalidInput(
            f"cron {cron!r}: five fields, which the server reads as seconds first ({CRON_FIELDS.rsplit(' ', 1)[0]}): "
            f"expected six ({CRON_FIELDS}), such as '0 {cron}'"
        )
    if len(fields) != 6 or not all(re.fullmatch(r"[\w*?/,\-]+", field) for field in fields):
        raise InvalidInput(f"cron {cron!r}: expected six fields ({CRON_FIELDS}), such as '0 0 2 * * *'")


def _next_shift(start: datetime, there: ZoneInfo) -> datetime | None:
    """First day within a year on which the wall clock of `start` is at another time on the server."""
    wanted = start.astimezone(there).strftime("%H:%M")
    for days in range(1, 366):
        day = start + timedelta(days=days)
        if day.astimezone(there).strftime("%H:%M") != wanted:
            return day
    return None


def _named(client: "Client", experiment: str, name: str) -> list[Schedule]:
    every = schedules(client, experiment)
    found = [one for one in every if one.name == name]
    if not found:
        known = ", ".join(sorted(one.name for one in every)) or "none"
        raise InvalidInput(f"schedule {name!r}: no such schedule in experiment {experiment!r}; there are: {known}")
    return found


def _as_schedule(found: Any) -> Schedule:
    reference = found.pipeline_version_reference
    trigger = found.trigger.cron_schedule if found.trigger else None
    return Schedule(
        name=found.display_name,
        recurring_run_id=found.recurring_run_id,
        cron=trigger.cron if trigger else "",
        version_id=reference.pipeline_version_id if reference else "",
        enabled=found.mode == "ENABLE" or found.status == "ENABLED",
        max_concurrency=int(found.max_concurrency or 1),
        no_catchup=bool(found.no_catchup),
        service_account=found.service_account or "",
        parameters=dict((found.runtime_config.parameters if found.runtime_config else None) or {}),
    )


def _changes(run: Any, told: dict[str, str]) -> Iterator[str]:
    """Lines for steps whose state is another than `told`, which is brought up to date."""
    details = (run.run_details.task_details if run.run_details else None) or []
    for task in details:
        name, state = task.display_name or task.task_id, task.state or "PENDING"
        if name.endswith("-driver") or told.get(task.task_id) == state:
            continue
        told[task.task_id] = state
        why = f": {task.error.message}" if task.error and task.error.message else ""
        pods = [child.pod_name for child in task.child_tasks or [] if child.pod_name]
        yield f"{name:<24} {state.lower()}{why}{f' (pod {pods[-1]})' if pods and state == 'FAILED' else ''}"


def _pages(page: Callable[[str], Any]) -> Iterator[Any]:
    """Everything that a list call returns, page by page."""
    token = ""
    while True:
        answer = page(token)
        names = ("pipeline_versions", "recurring_runs", "runs")
        yield from next((found for name in names if (found := getattr(answer, name, None))), [])
        token = answer.next_page_token or ""
        if not token:
            return
