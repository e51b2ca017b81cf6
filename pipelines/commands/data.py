"""`yanshan intake` and `yanshan dataset`: labels in, versions to look at."""

import json
import tempfile
from pathlib import Path

import click


@click.command()
@click.option("--inbox", required=True, help="One labeling export, or a folder of exports (path or file:///...).")
@click.option(
    "--store", "store_uri", required=True, help="Where images, rows and versions live (file:///... or s3://...)."
)
@click.option("--report", type=click.Path(path_type=Path), help="Also write the HTML report here.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a setting of intake.")
@click.option("--json", "as_json", is_flag=True, help="Print dataset, counts and findings as JSON.")
def intake(inbox: str, store_uri: str, report: Path | None, changes: tuple[str, ...], as_json: bool) -> None:
    """Take labeling exports into a store as the next version of the data set."""
    from components.intake.findings import read_findings
    from components.intake.intake import take_in
    from components.intake.settings import IntakeSettings
    from components.shared.errors import YanshanError
    from components.shared.settings import read_settings
    from components.shared.store import open_store

    settings = read_settings(IntakeSettings, dict(_setting(change) for change in changes))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "dataset")
        page = report or Path(scratch, "report.html")
        try:
            taken = take_in(inbox, open_store(_as_uri(store_uri)), settings, folder, page)
        except YanshanError as refusal:
            if as_json and (folder / "findings.parquet").exists():
                _print_refused(refusal, read_findings((folder / "findings.parquet").read_bytes()))
            raise
        findings = read_findings((folder / "findings.parquet").read_bytes())
    if as_json:
        counts = {key: taken[key] for key in ("accepted", "repaired", "quarantined", "new_images")}
        listed = [vars(finding) for finding in findings]
        click.echo(json.dumps({"dataset": taken["digest"], **counts, "findings": listed}, indent=1))
        return
    for key, value in taken.items():
        click.echo(f"{key:>12}  {value}")
    for finding in findings:
        click.echo(f"{finding.action:>12}  {finding.code}  {finding.image} {finding.row}: {finding.message}")


def _print_refused(refusal: Exception, findings: list) -> None:
    """The findings of a refused batch; the error itself follows on standard error."""
    counts = {action: sum(found.action == action for found in findings) for action in ("repaired", "quarantined")}
    listed = [vars(finding) for finding in findings]
    click.echo(json.dumps({"dataset": "", "accepted": 0, **counts, "findings": listed, "error": str(refusal)}))


def _setting(change: str) -> tuple[str, object]:
    """NAME=VALUE with the value as JSON, or as text where it is none."""
    name, _, value = change.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _as_uri(store: str) -> str:
    return store if "://" in store else Path(store).resolve().as_uri()
