"""yanshan review, promote, reject, waive, rollback, history, registry: the reviewer's side."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.shared.errors import Refused
from pipelines.commands.options import Place, place_options

if TYPE_CHECKING:
    from components.release.promotion import Reviewer


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


def decision_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --reviewer, --reason, --key, --yes, --json and the place; the command gets the reviewer as one `who`."""

    @click.option("--reviewer", required=True, help="Who decides.")
    @click.option("--reason", required=True, help="Why; recorded for ever.")
    @click.option("--key", default="", help="Reviewer's key: PEM file or exec:COMMAND; default: YANSHAN_REVIEWER_KEY.")
    @click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
    @click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
    @place_options
    @functools.wraps(command)
    def with_reviewer(reviewer: str, reason: str, key: str, **rest: Any) -> Any:
        from components.release.promotion import Reviewer

        return command(who=Reviewer(reviewer, reason, key), **rest)

    return with_reviewer


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--expect-champion", type=click.IntRange(min=0), help="Refuse if the champion is another one (0: none).")
@decision_options
def promote(place: Place, version: int, expect_champion: int | None, who: "Reviewer", yes: bool, as_json: bool) -> None:
    """Make VERSION the champion."""
    from components.release.promotion import promote_as
    from pipelines.commands.regate import ask_gate_again

    expected = _confirm(place, yes, f"make version {version} champion of {place.model_name}")
    expected = expect_champion if expect_champion is not None else expected
    record = promote_as(place.store, place.model_name, version, who, place.tracking_uri, expected, ask_gate_again)
    if record["kind"] == "approve":
        _told(record, f"{place.model_name}: version {version} approved; the policy asks for another reviewer", as_json)
    else:
        _told(record, f"{place.model_name}: version {version} is champion, before it {_version(record)}", as_json)


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@decision_options
def reject(place: Place, version: int, who: "Reviewer", yes: bool, as_json: bool) -> None:
    """Turn VERSION down for good."""
    from components.release.decisions import reject as reject_version

    _confirm(place, yes, f"reject version {version} of {place.model_name} for good")
    record = reject_version(place.store, place.model_name, version, who, place.tracking_uri)
    _told(record, f"{place.model_name}: version {version} is rejected", as_json)


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@click.argument("gate")
@decision_options
def waive(place: Place, version: int, gate: str, who: "Reviewer", yes: bool, as_json: bool) -> None:
    """Let GATE not count against VERSION."""
    from components.release.decisions import waive as waive_gate

    _confirm(place, yes, f"waive gate {gate} of version {version} of {place.model_name}")
    record = waive_gate(place.store, place.model_name, version, gate, who, place.tracking_uri)
    _told(record, f"{place.model_name}: gate {gate} of version {version} is waived", as_json)


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--expect-champion", type=click.IntRange(min=0), help="Refuse if the champion is another one.")
@decision_options
def rollback(
    place: Place, version: int, expect_champion: int | None, who: "Reviewer", yes: bool, as_json: bool
) -> None:
    """Return to VERSION, which was champion before."""
    from components.release.decisions import rollback as roll_back

    expected = _confirm(place, yes, f"return to version {version} of {place.model_name}")
    expected = expect_champion if expect_champion is not None else expected
    record = roll_back(place.store, place.model_name, version, who, place.tracking_uri, expected)
    _told(record, f"{place.model_name}: version {version} is champion again, before it {_version(record)}", as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@place_options
def history(place: Place, as_json: bool) -> None:
    """Who promoted what, when and why."""
    from components.shared.ledger import read_ledger
    from pipelines.commands.reviewing import history_text

    records = [record.body | {"digest": record.digest} for record in read_ledger(place.store, place.model_name)]
    click.echo(json.dumps(records, indent=2) if as_json else history_text(place.model_name, records))


@click.group()
def registry() -> None:
    """Does the registry still show what the ledger says?"""


@registry.command()
@click.option("--bundles/--no-bundles", default=True, show_default=True, help="Also fetch and check every bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@place_options
def verify(place: Place, bundles: bool, as_json: bool) -> None:
    """Check ledger, bundles and registry against each other; changes nothing."""
    from components.release.verification import verify as find_drift

    found = [finding.as_json() for finding in find_drift(place.store, place.model_name, place.tracking_uri, bundles)]
    _told_findings(place, found, as_json)
    if found:
        raise Refused(f"{place.model_name}: {len(found)} findings; `yanshan registry reconcile` mends what it can")


@registry.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@place_options
def reconcile(place: Place, as_json: bool) -> None:
    """Write the registry's aliases and tags anew from the ledger."""
    from components.release.verification import reconcile as mend

    found = [finding.as_json() for finding in mend(place.store, place.model_name, place.tracking_uri)]
    _told_findings(place, found, as_json)
    if left := [one for one in found if not one["mended"]]:
        raise Refused(f"{place.model_name}: {len(left)} findings need a person")


@registry.command()
@click.option(
    "--audit", required=True, type=click.Path(path_type=Path), help="Audit file of the MLflow server's guard."
)
@click.option("--service", default="registry", show_default=True, help="Name of this service's key, of role registry.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where webhooks are received.")
@click.option("--port", default=8700, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--every", "every_s", default=900.0, show_default=True, help="Seconds between two looks unasked.")
@click.option("--then", default="", metavar="COMMAND", help="Run after a new champion, with its version appended.")
@click.option("--once", is_flag=True, help="Look once and end.")
@place_options
def serve(place: Place, audit: Path, service: str, host: str, port: int, every_s: float, then: str, once: bool) -> None:
    """Record what reviewers do in MLflow, and put back what others do; woken by webhooks, else every few minutes."""
    from pipelines.commands.uptaking import look, serve_for_ever

    if once:
        click.echo(json.dumps(look(place, audit, service, then)))
    else:
        serve_for_ever(place, audit, service, (host, port), every_s, then)


def _told_findings(place: Place, found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        click.echo(f"{one['what']}{' (mended)' if one['mended'] else ''}: {one['message']}")
    if not found:
        click.echo(f"{place.model_name}: ledger, bundles and registry agree")


def _told(record: dict[str, Any], sentence: str, as_json: bool) -> None:
    click.echo(json.dumps(record, indent=2) if as_json else f"{sentence} (record {record['seq']})")


def _confirm(place: Place, yes: bool, what: str) -> int | None:
    """Ask on a terminal, and return the champion that the reviewer was shown."""
    if yes or not sys.stdin.isatty():
        return None
    from components.shared.ledger import head

    newest = head(place.store, place.model_name)
    champion = newest.body["champion"] if newest else 0
    click.confirm(f"The champion is {champion or 'none'}. Shall we {what}?", abort=True, err=True)
    return int(champion)


def _version(record: dict[str, Any]) -> str:
    return f"version {record['champion_before']}" if record["champion_before"] else "none"


def _bring_report(place: Place, version: int) -> str:
    from components.shared.releases import bring_release, read_release

    folder = place.workspace / "reviews" / f"{place.model_name}-{version}"
    release = read_release(place.store, place.model_name, version)
    verdict_on_top, page = "decision/report.html", "reports/evaluation.html"
    if any(file["path"] == verdict_on_top for file in release.record["files"]):
        page = verdict_on_top
    return str(bring_release(place.store, release, folder, page) / page)
