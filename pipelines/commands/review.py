"""yanshan review, promote, history: the reviewer's side."""

import json
from typing import Any

import click

from pipelines.commands.options import Place, place_options


@click.command()
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--open", "open_report", is_flag=True, help="Open the version's evaluation report in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@place_options
def review(place: Place, version: int | None, open_report: bool, as_json: bool) -> None:
    """What waits for a reviewer, or all there is about one VERSION."""
    from components.release.evidence import evidence, versions
    from pipelines.commands.reviewing import list_text, version_text

    if version is None:
        found = versions(place.store, place.model_name)
        click.echo(json.dumps(found, indent=2) if as_json else list_text(place.model_name, found))
        return
    one = evidence(place.store, place.model_name, version)
    report = _bring_report(place, version)
    click.echo(
        json.dumps(one | {"report": report}, indent=2) if as_json else version_text(place.model_name, one, report)
    )
    if open_report:
        click.launch(report)


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--reviewer", required=True, help="Who decides.")
@click.option("--reason", required=True, help="Why; recorded for ever.")
@click.option("--expect-champion", type=click.IntRange(min=0), help="Refuse if the champion is another one (0: none).")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@place_options
def promote(place: Place, version: int, reviewer: str, reason: str, expect_champion: int | None, as_json: bool) -> None:
    """Make VERSION the champion."""
    from components.release.promotion import promote as promote_version

    record = promote_version(
        place.store, place.model_name, version, reviewer, reason, place.tracking_uri, expect_champion
    )
    _told(record, f"{place.model_name}: version {version} is champion, before it {_version(record)}", as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@place_options
def history(place: Place, as_json: bool) -> None:
    """Who promoted what, when and why."""
    from components.shared.ledger import read_ledger
    from pipelines.commands.reviewing import history_text

    records = [record.body | {"digest": record.digest} for record in read_ledger(place.store, place.model_name)]
    click.echo(json.dumps(records, indent=2) if as_json else history_text(place.model_name, records))


def _told(record: dict[str, Any], sentence: str, as_json: bool) -> None:
    click.echo(json.dumps(record, indent=2) if as_json else f"{sentence} (record {record['seq']})")


def _version(record: dict[str, Any]) -> str:
    return f"version {record['champion_before']}" if record["champion_before"] else "none"


def _bring_report(place: Place, version: int) -> str:
    from components.shared.releases import bring_release, read_release

    folder = place.workspace / "reviews" / f"{place.model_name}-{version}"
    release = read_release(place.store, place.model_name, version)
    return str(bring_release(place.store, release, folder, "reports") / "reports" / "evaluation.html")
