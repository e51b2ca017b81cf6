"""yanshan run, show, compile: the DAG here, in words, and as a file."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import click

from components.shared.errors import InvalidInput, Refused

changes_option = click.option(
    "--set", "changes", multiple=True, metavar="STEP.FIELD=VALUE", help="Change one setting; may be repeated."
)


@click.command()
@click.argument("recipe")
@click.option("--inbox", required=True, help="Folder of labeling exports, or its URI.")
@click.option("--store", default="", help="Store URI; default: a folder in the workspace.")
@click.option("--workspace", default=".yanshan", show_default=True, help="Folder for everything a laptop keeps.")
@click.option(
    "--set", "changes", multiple=True, metavar="STEP.FIELD=VALUE", help="Change one setting; may be repeated."
)
@click.option("--reason", default="", help="Why this run is started; recorded.")
@click.option("--quiet", is_flag=True, help="No lines about the steps.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def run(
    recipe: str,
    inbox: str,
    store: str,
    workspace: str,
    changes: tuple[str, ...],
    reason: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the DAG here with the settings of RECIPE (production, demo, smoke)."""
    from pipelines.local import open_workspace, run_night
    from pipelines.recipes import find_recipe

    chosen = find_recipe(recipe, read_changes(changes))
    outcome = run_night(chosen, inbox_uri(inbox), open_workspace(Path(workspace)), store, reason, quiet)
    if as_json:
        click.echo(json.dumps(outcome.as_json(), indent=2))
    else:
        click.echo(_summary(outcome.as_json()))
    if outcome.ended == "refused":
        raise Refused("refused by the release gate: " + "; ".join(outcome.reasons))
    if outcome.ended == "undecided":
        told = f"undecided, version {outcome.version} needs a reviewer's waiver (`yanshan review {outcome.version}`): "
        raise Refused(told + "; ".join(outcome.reasons))


@click.command()
@click.argument("recipe", default="production")
@click.option("--settings", is_flag=True, help="Print every setting of the recipe instead.")
@click.option("--placement", is_flag=True, help="Print what each step asks of the cluster instead.")
def show(recipe: str, settings: bool, placement: bool) -> None:
    """Print the DAG, one line a step."""
    import tempfile

    from pipelines.dag import compile_pipeline, describe, read_ir
    from pipelines.placement import PLACEMENTS, describe_placement
    from pipelines.recipes import find_recipe

    chosen = find_recipe(recipe)
    if settings:
        click.echo(json.dumps(chosen.as_parameters(), indent=2))
        return
    if placement:
        click.echo(describe_placement(PLACEMENTS[recipe]()), nl=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        compile_pipeline(chosen, Path(folder) / "pipeline.yaml")
        click.echo(describe(read_ir(Path(folder) / "pipeline.yaml")), nl=False)


@click.command("compile")
@click.argument("recipe")
@click.option("-o", "--output", default="pipeline.yaml", show_default=True, help="File to write.")
@click.option(
    "--set", "changes", multiple=True, metavar="STEP.FIELD=VALUE", help="Change one setting; may be repeated."
)
def compile_(recipe: str, output: str, changes: tuple[str, ...]) -> None:
    """Write the DAG with the settings and the placement of RECIPE as Kubeflow IR YAML."""
    from pipelines.commands.cluster import compile_placed
    from pipelines.recipes import find_recipe

    compile_placed(recipe, find_recipe(recipe, read_changes(changes)), Path(output))
    click.echo(output)


def read_changes(changes: tuple[str, ...]) -> dict[str, Any]:
    """Values of `--set a.b=value` options; a value is JSON where it reads as JSON, else text.

    Raises:
        InvalidInput: an option without `=`.
    """
    values = {}
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise InvalidInput(f"--set {change!r}: expected STEP.FIELD=VALUE, such as train.epochs=3")
        try:
            values[path] = json.loads(text)
        except json.JSONDecodeError:
            values[path] = text
    return values


def inbox_uri(inbox: str) -> str:
    """A folder or file name as a URI; a URI as it is.

    Raises:
        InvalidInput: there is no such folder.
    """
    if urlparse(inbox).scheme in ("file", "s3"):
        return inbox
    path = Path(inbox).expanduser().absolute()
    if not path.exists():
        raise InvalidInput(f"--inbox {inbox}: no such folder; expected one with labeling exports")
    return path.as_uri()


def _summary(outcome: dict[str, Any]) -> str:
    lines = [f"{outcome['model_name']}: {outcome['ended']}"]
    if outcome["version"]:
        lines[0] += f", version {outcome['version']} waits for a reviewer"
    lines += [f"  {reason}" for reason in outcome["reasons"]]
    if "evaluation_report" in outcome["artifacts"]:
        lines.append(f"  report: {Path(outcome['folder']) / 'evaluation_report.html'}")
    lines.append(f"  run: {outcome['folder']} ({sum(outcome['seconds'].values()):.0f} s)")
    return "\n".join(lines)
