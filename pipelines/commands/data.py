"""`yanshan intake` and `yanshan dataset`: labels in, versions to look at."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from components.shared.dataset import DatasetVersion
    from components.shared.store import Store


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
                raise SystemExit(refusal.exit_code) from refusal
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
    """The findings of a refused batch with the error in one JSON value, and the error for people."""
    counts = {action: sum(found.action == action for found in findings) for action in ("repaired", "quarantined")}
    listed = [vars(finding) for finding in findings]
    click.echo(json.dumps({"dataset": "", "accepted": 0, **counts, "findings": listed, "error": str(refusal)}))
    click.echo(f"yanshan: {refusal}", err=True)


def _setting(change: str) -> tuple[str, object]:
    """NAME=VALUE with the value as JSON, or as text where it is none."""
    name, _, value = change.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _as_uri(store: str) -> str:
    return store if "://" in store else Path(store).resolve().as_uri()


@click.group()
def dataset() -> None:
    """Look at data set versions: log, show, diff, verify, export."""


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """Options that every `dataset` command has."""
    options = (
        click.option("--store", "store_uri", required=True, help="Where the data set lives (file:///... or s3://...)."),
        click.option("--name", default="main", show_default=True, help="Which data set of the store."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in options:
        command = option(command)
    return command


@dataset.command("log")
@_common
def show_log(store_uri: str, name: str, as_json: bool) -> None:
    """All versions, oldest first."""
    from components.intake.history import log

    entries = log(_open(store_uri), name)
    if as_json:
        listed = [{"number": one.number, "written_at": one.written_at, **_facts(one.version)} for one in entries]
        click.echo(json.dumps(listed, indent=1))
        return
    keys = ("images", "boxes", "train", "val", "test")
    click.echo(f"{'':>4}  {'version':<12}  {'written':<25}" + "".join(f"{key:>9}" for key in keys) + "  test set")
    for one in entries:
        columns = "".join(f"{one.version.counts[key]:>9}" for key in keys)
        click.echo(f"{one.number:>4}  {one.version.digest[:12]}  {one.written_at:<25}{columns}  {one.version.test_set}")


@dataset.command()
@click.argument("version", default="newest")
@_common
def show(version: str, store_uri: str, name: str, as_json: bool) -> None:
    """One version in full: `newest`, its number in the log, or the beginning of its digest."""
    from components.intake.history import find_version

    facts = _facts(find_version(_open(store_uri), name, version))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{one} {count}" for one, count in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        click.echo(f"{key:>12}  {value}")


@dataset.command()
@click.argument("old")
@click.argument("new", default="newest")
@_common
def diff(old: str, new: str, store_uri: str, name: str, as_json: bool) -> None:
    """What changed between two versions."""
    from components.intake.history import difference, find_version

    store = _open(store_uri)
    changes = difference(store, *(find_version(store, name, one) for one in (old, new)))
    if as_json:
        click.echo(json.dumps(changes, indent=1))
        return
    for key in ("added", "removed", "relabeled"):
        click.echo(f"{key:>12}  {len(changes[key])} images")
    for key, (before, after) in {**changes["counts"], **changes["boxes_by_class"]}.items():
        click.echo(f"{key:>12}  {before} -> {after}" + ("" if before == after else f"  ({after - before:+d})"))
    click.echo(f"{'test set':>12}  {' -> '.join(changes['test_set'])}")


@dataset.command()
@click.argument("version", default="newest")
@_common
def verify(version: str, store_uri: str, name: str, as_json: bool) -> None:
    """Read everything again and compare with the digests; ends with 2 when something changed."""
    from components.intake.history import find_version, problems
    from components.shared.errors import InvalidInput

    store = _open(store_uri)
    chosen = find_version(store, name, version)
    found = list(problems(store, chosen))
    if as_json:
        click.echo(json.dumps({"dataset": chosen.digest, "problems": found}, indent=1))
    else:
        for problem in found:
            click.echo(problem)
        click.echo(f"{chosen.digest}: {len(found) or 'no'} problems in {chosen.counts['images']} images")
    if found and as_json:
        raise SystemExit(InvalidInput.exit_code)
    if found:
        raise InvalidInput(f"data set {chosen.digest[:12]}: {len(found)} problems; restore these objects from a copy")


@dataset.command()
@click.argument("version", default="newest")
@click.option(
    "--format", "export_format", type=click.Choice(["coco", "yolo", "voc"]), default="coco", show_default=True
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
@_common
def export(
    version: str, export_format: str, split: str | None, output: Path, store_uri: str, name: str, as_json: bool
) -> None:
    """Write a version as a labeling export: the same bytes every time."""
    from components.intake.exporting import export_version
    from components.intake.history import find_version

    store = _open(store_uri)
    chosen = find_version(store, name, version)
    count = export_version(store, chosen, export_format, split or "", output)  # type: ignore[arg-type]
    told = {"dataset": chosen.digest, "images": count, "folder": str(output)}
    click.echo(json.dumps(told) if as_json else f"{count} images of {chosen.digest[:12]} in {output}")


def _facts(version: DatasetVersion) -> dict[str, Any]:
    """A version as plain values."""
    return {
        "dataset": version.digest,
        "parent": version.parent,
        "test_set": version.test_set,
        "class_names": list(version.class_names),
        "segments": len(version.segments),
        "batches": len(version.batches),
        **version.counts,
    }


def _open(store: str) -> Store:
    from components.shared.store import open_store

    return open_store(_as_uri(store))


@dataset.command("review-queue")
@click.argument("version", default="newest")
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="Instead of the champion: .onnx or .xml.")
@click.option("--model-name", default="parts-detector", show_default=True, help="Whose champion doubts the labels.")
@click.option("--key-class", "key_classes", multiple=True, help="A class that must not be missed; may be repeated.")
@click.option("--limit", default=200, show_default=True, help="Images at most.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
@_common
def review_queue(
    version: str,
    model: Path | None,
    model_name: str,
    key_classes: tuple[str, ...],
    limit: int,
    output: Path,
    store_uri: str,
    name: str,
    as_json: bool,
) -> None:
    """Labels that the champion doubts, for people to look at: Label Studio tasks and CVAT XML."""
    from components.intake.history import find_version
    from components.intake.review_queue import write_queue

    store = _open(store_uri)
    chosen = find_version(store, name, version)
    with tempfile.TemporaryDirectory() as scratch:
        detector = model or _champion(store, model_name, Path(scratch))
        count = write_queue(store, chosen, detector, key_classes, limit, output)
    told = {"dataset": chosen.digest, "images": count, "folder": str(output)}
    click.echo(json.dumps(told) if as_json else f"{count} images to look at in {output}")


def _champion(store: Store, model_name: str, folder: Path) -> Path:
    from components.shared.errors import InvalidInput
    from components.shared.releases import bring_release, champion

    release = champion(store, model_name)
    if release is None:
        raise InvalidInput(f"{store.uri}: {model_name!r} has no champion yet; promote a version or name a --model")
    return bring_release(store, release, folder, "models") / "models" / "model.onnx"
