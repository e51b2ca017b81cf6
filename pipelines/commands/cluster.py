"""yanshan check, submit, schedule: before and on a cluster."""

import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from components.shared.errors import InvalidInput, YanshanError
from pipelines.commands.run import changes_option, inbox_uri, read_changes

EXPERIMENT = "nights"
Command = Callable[..., Any]


def server_options(command: Command) -> Command:
    """Where the KFP server is and how to enter."""
    for option in (
        click.option("--host", default="", help="KFP server; default: KF_PIPELINES_ENDPOINT."),
        click.option("--namespace", default="kubeflow", show_default=True, help="Namespace of the runs."),
        click.option("--token-file", default="", help="Bearer token; default: KF_PIPELINES_SA_TOKEN_PATH."),
        click.option("--ca-file", default="", help="Certificates that sign the server's."),
        click.option("--experiment", default=EXPERIMENT, show_default=True, help="KFP experiment of the runs."),
    ):
        command = option(command)
    return command


def order_options(command: Command) -> Command:
    """What is to run."""
    for option in (
        click.option("--inbox", required=True, help="s3://... with the labeling exports."),
        click.option("--store", required=True, help="s3://bucket/prefix that all steps share."),
        changes_option,
        click.option("--service-account", default="", help="Of the steps' pods."),
        click.option("--allow-tags", is_flag=True, help="Accept images that are not pinned by digest."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("recipe", default="production")
@click.option("--ir", "ir", default="", help="Only lint this compiled pipeline.")
@click.option("--inbox", default="", help="Folder of labeling exports, or its URI.")
@click.option("--store", default="", help="Store URI.")
@click.option("--workspace", default=".yanshan", show_default=True, help="Folder for everything a laptop keeps.")
@click.option("--cluster", is_flag=True, help="Also look at the cluster of the current kubeconfig.")
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option("--namespace", default="kubeflow", show_default=True, help="Namespace of the runs.")
@click.option("--service-account", default="", help="Of the steps' pods.")
@changes_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(ir: str, as_json: bool, **asked: Any) -> None:
    """Preflight: what a run with RECIPE needs, before it is paid for."""
    from pipelines import preflight

    findings = list(preflight.look_at_pipeline(Path(ir), pinned=False) if ir else _findings(**asked))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        click.echo(preflight.table(findings))
    preflight.end_with(findings)


@click.command()
@click.argument("recipe")
@order_options
@server_options
@click.option("--reason", default="", help="Why this run is started; recorded.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Tell how the steps go until the end.")
@click.option("--logs", is_flag=True, help="Tell what the steps say, too; needs a kubeconfig.")
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
def submit(recipe: str, reason: str, follow: bool, logs: bool, context: str, as_json: bool, **asked: Any) -> None:
    """Hand one run with the settings of RECIPE to a KFP server."""
    from pipelines import server
    from pipelines.cluster_objects import core_api
    from pipelines.pod_logs import PodLogs

    core = core_api(context) if logs else None
    with _order(recipe, asked, {"reason": reason or "submitted by hand"}) as (client, order, name):
        run_id = server.submit(client, order, name)
        click.echo(f"run {run_id} version {order.version_id}", err=True)
        said = PodLogs(core, asked["namespace"], run_id).new_lines if core else tuple
        tell = functools.partial(click.echo, err=True)
        state = server.follow(client, run_id, tell, logs=said) if follow else "PENDING"
    if as_json:
        click.echo(json.dumps({"run_id": run_id, "version_id": order.version_id, "state": state}))
    else:
        click.echo(f"{run_id} {state.lower()}")
    if state not in ("PENDING", "SUCCEEDED"):
        raise YanshanError(f"run {run_id} ended {state.lower()}")


@click.group()
def schedule() -> None:
    """Nightly runs on a KFP server: set, list, pause, delete."""


@schedule.command("set")
@click.argument("recipe")
@click.option("--at", required=True, help="HH:MM.")
@click.option("--timezone", default="UTC", show_default=True, help="Zone of --at.")
@click.option("--server-timezone", default="UTC", show_default=True, help="The server's CRON_SCHEDULE_TIMEZONE.")
@click.option("--cron", default="", help="Six fields, seconds first, on the server's clock; instead of --at.")
@order_options
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the schedule as JSON.")
def set_schedule(
    recipe: str, at: str, timezone: str, server_timezone: str, cron: str, as_json: bool, **asked: Any
) -> None:
    """Run RECIPE every night; the same again changes nothing."""
    from pipelines import server

    if cron:
        server.check_cron(cron)
    else:
        cron, warning = server.nightly_cron(at, timezone, server_timezone)
        if warning:
            click.echo(f"note: {warning}", err=True)
    with _order(recipe, asked, {"reason": "nightly"}) as (client, order, name):
        made = server.schedule(client, order, name, cron)
    click.echo(json.dumps(asdict(made)) if as_json else _line(made))


@schedule.command("list")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the schedules as JSON.")
def list_schedules(experiment: str, as_json: bool, **asked: Any) -> None:
    """Every schedule of the experiment."""
    from pipelines import server

    found = server.schedules(server.connect(**asked), experiment)
    click.echo(json.dumps([asdict(one) for one in found]) if as_json else "\n".join(map(_line, found)) or "none")


@schedule.command("pause")
@click.argument("name")
@server_options
def pause_schedule(name: str, experiment: str, **asked: Any) -> None:
    """Switch a schedule off; what it started goes on."""
    from pipelines import server

    server.pause(server.connect(**asked), experiment, name)
    click.echo(f"{name} paused")


@schedule.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also end the night that is under way.")
@server_options
def delete_schedule(name: str, force: bool, experiment: str, **asked: Any) -> None:
    """Delete a schedule; refused while a night of it is under way."""
    from pipelines import server

    server.delete(server.connect(**asked), experiment, name, force)
    click.echo(f"{name} deleted")


@contextmanager
def _order(recipe: str, asked: dict[str, Any], more: dict[str, Any]) -> Iterator[tuple[Any, Any, str]]:
    """Compile, place, lint and upload; the client, the order and the model's name."""
    from pipelines import server
    from pipelines.ir_lint import check_ir
    from pipelines.recipes import find_recipe

    parameters = {
        "inbox_uri": _shared(asked["inbox"], "--inbox"),
        "store_uri": _shared(asked["store"], "--store"),
        **more,
    }
    chosen = find_recipe(recipe, read_changes(asked["changes"]))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_placed(recipe, chosen, package)
        check_ir(package, pinned=not asked["allow_tags"], placed=True)
        where = {key: asked[key] for key in ("host", "namespace", "token_file", "ca_file")}
        client = server.connect(**where)
        ids = server.upload(client, package)
        order = server.Order(*ids, parameters, asked["experiment"], asked["service_account"], f"recipe {recipe}")
        yield client, order, chosen.model_name


def compile_placed(recipe: str, chosen: Any, path: Path) -> None:
    """Compile with the recipe's settings and its placement on a cluster."""
    from pipelines.dag import compile_pipeline
    from pipelines.placement import PLACEMENTS, Placement, write_placement

    compile_pipeline(chosen, path)
    places = PLACEMENTS[recipe]()
    if chosen.train.nodes > 1:
        # The step only launches and watches: the nodes have the GPUs.
        places["train-detector"] = Placement(cpu_cores=1, memory_gib=4, timeout_s=places["train-detector"].timeout_s)
    write_placement(path, places)


def _findings(
    recipe: str,
    inbox: str,
    store: str,
    workspace: str,
    cluster: bool,
    context: str,
    namespace: str,
    service_account: str,
    changes: tuple[str, ...],
) -> Iterator[Any]:
    from pipelines import cluster_objects, preflight
    from pipelines.dag import read_ir
    from pipelines.placement import PLACEMENTS
    from pipelines.recipes import find_recipe

    chosen, root = find_recipe(recipe, read_changes(changes)), Path(workspace).expanduser().absolute()
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or ("" if cluster else f"sqlite:///{root / 'mlflow.db'}")
    store = store or ("" if cluster else (root / "store").as_uri())
    yield from preflight.look_here(chosen, inbox_uri(inbox) if inbox else "", store, tracking_uri, root)
    with tempfile.TemporaryDirectory() as folder:
        compile_placed(recipe, chosen, Path(folder) / "pipeline.yaml")
        yield from preflight.look_at_pipeline(Path(folder) / "pipeline.yaml", pinned=cluster)
        executors = read_ir(Path(folder) / "pipeline.yaml")["deploymentSpec"]["executors"]
    if not cluster:
        return
    used = {one["container"]["image"] for one in executors.values()}
    yield from cluster_objects.look_at_images(
        {one.rsplit("/", 1)[-1].split(":")[0].split("@")[0]: one for one in sorted(used)}
    )
    places = PLACEMENTS[recipe]()
    yield from cluster_objects.look_at_cluster(cluster_objects.core_api(context), namespace, places, service_account)


def _shared(uri: str, option: str) -> str:
    if not uri.startswith("s3://"):
        raise InvalidInput(f"{option} {uri!r}: steps on a cluster share no folder; expected s3://bucket/prefix")
    return uri


def _line(one: Any) -> str:
    state = "on" if one.enabled else "off"
    return f"{one.name:<24} {one.cron:<16} {state:<4} version {one.version_id}  {one.parameters.get('inbox_uri', '')}"
