"""Labeling intake on one page: exports in, one immutable data set version and a finding for every row out."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.intake.admission import Admitted, admit
from components.intake.batch import Examined, examine_batch
from components.intake.classes import agree, first_classes, registry
from components.intake.findings import ACCEPTED, QUARANTINED, REPAIRED, Finding, findings_bytes
from components.intake.formats import is_export, parse
from components.intake.known import Known
from components.intake.labels import Parsed
from components.intake.memory import Batch, content_key, identify, recall, remember
from components.intake.outcomes import Outcomes, shortfalls
from components.intake.report import Exhibit, write_report
from components.intake.rows import Row, rows_table
from components.intake.settings import IntakeSettings
from components.intake.sources import find_exports
from components.intake.versions import commit
from components.shared.dataset import DatasetVersion, newest
from components.shared.errors import InvalidInput
from components.shared.progress import progress
from components.shared.store import Store

logger = logging.getLogger(__name__)


@dataclass
class Taken:
    """What one intake found, over all its batches."""

    rows: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    new_images: int = 0

    def add(self, rows: Mapping[str, int], findings: Sequence[Finding], exhibits: Sequence[Exhibit]) -> None:
        """One batch more."""
        self.rows.update(rows)
        self.findings += findings
        self.exhibits += exhibits


@dataclass
class Settled:
    """One new batch after every verdict."""

    batch: Batch
    content: str
    """Names what the batch holds, wherever it lies."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    rows: list[Row] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)


def take_in(
    inbox_uri: str, store: Store, settings: IntakeSettings, dataset_folder: Path, report_path: Path
) -> dict[str, str | int]:
    """Take every new batch of the inbox into the store as the next version of the data set.

    Args:
        inbox_uri: One export, or a folder of exports.
        store: Where images, rows and versions live.
        settings: What the night varies.
        dataset_folder: Gets dataset.json and findings.parquet; emptied first.
        report_path: Gets the HTML report.

    Returns:
        Digest and counts.

    Raises:
        InvalidInput: no export, wrong classes, or too many quarantined rows (report and findings are written).
    """
    exports = find_exports(inbox_uri, is_export)
    head = newest(store, settings.dataset_name)
    if not exports and head is None:
        raise InvalidInput(f"inbox {inbox_uri}: empty, and the store has no data set yet; expected an export")
    taken = Taken()
    batches = _recall_known(store, head, [identify(export, settings, store) for export in exports], settings, taken)
    if head and not batches and not settings.bump_test_set and not settings.class_names:
        version = head
    else:
        known = Known(store, head)
        class_names, opened = _open(batches, registry(head.class_names if head else (), settings), settings)
        settled = _settle_all(opened, known, store, class_names, settings)
        for one in settled:
            taken.add(one.outcomes.rows, one.outcomes.findings, one.exhibits)
        if reasons := [reason for one in settled for reason in _refusal(one, settings)]:
            _write(dataset_folder, report_path, store, None, taken, reasons)
            raise InvalidInput("batch refused, nothing entered: " + "; ".join(reasons))
        taken.new_images = sum(row.candidate.known is None for one in settled for row in one.rows)
        version = _commit(store, head, known, class_names, settled, settings)
    summary = _write(dataset_folder, report_path, store, version, taken, [])
    logger.info("intake %s", " ".join(f"{key}={value}" for key, value in summary.items()))
    return summary


def _recall_known(
    store: Store, head: DatasetVersion | None, batches: Iterable[Batch], settings: IntakeSettings, taken: Taken
) -> list[Batch]:
    """Batches not seen before; what became of the others is told again."""
    new: dict[str, Batch] = {}
    for batch in batches:
        recalled = recall(store, settings.dataset_name, batch, head)
        if recalled is None:
            new.setdefault(batch.key, batch)
        else:
            taken.add(recalled.rows, recalled.findings, recalled.exhibits)
    return list(new.values())


def _open(
    batches: list[Batch], class_names: tuple[str, ...], settings: IntakeSettings
) -> tuple[tuple[str, ...], list[tuple[Batch, Parsed]]]:
    """Open every export and check its classes before any image is read; the first to declare some registers them."""
    opened = [(batch, parse(batch.export, settings)) for batch in batches]
    class_names = class_names or first_classes([parsed for _, parsed in opened], settings.class_aliases)
    for batch, parsed in opened:
        agree(batch.export.where, parsed.class_names, parsed.by_index, class_names, settings.class_aliases)
    return class_names, opened


def _settle_all(
    opened: list[tuple[Batch, Parsed]],
    known: Known,
    store: Store,
    class_names: tuple[str, ...],
    settings: IntakeSettings,
) -> list[Settled]:
    """Examine the images of all batches, decide about them together, and settle each batch."""
    class_ids = {name: index for index, name in enumerate(class_names)}
    examined = []
    for batch, parsed in opened:
        results = examine_batch(batch, parsed.images, store, known, class_ids, settings)
        examined.append(list(progress(results, f"intake {batch.export.name}", total=len(batch.prints))))
        if not any(one.rows for one in examined[-1]):
            raise InvalidInput(f"{batch.export.where}: an export without images, expected at least one")
    verdicts = admit([one for images in examined for one in images], known, store, settings)
    settled = [
        Settled(batch, content_key(batch, {one.file: one.sha256 for one in images}, settings))
        for (batch, _), images in zip(opened, examined, strict=True)
    ]
    for batch_settled, images in zip(settled, examined, strict=True):
        for one in images:
            _settle(one, next(verdicts), batch_settled)
    return settled


def _settle(one: Examined, verdict: Admitted | None, into: Settled) -> None:
    """Count one image, and let it in where the verdict says so."""
    if one.candidate is None or verdict is None:
        into.outcomes.add(one.rows, one.camera, one.findings)
        return
    findings = (*one.findings, *verdict.findings)
    into.outcomes.add(one.rows, one.camera, findings, verdict.quarantined)
    lost = (finding for finding in findings if finding.action == QUARANTINED)
    into.exhibits += [Exhibit(told, one.candidate.image_sha256, one.lost.get(told.row, ())) for told in lost]
    if verdict.enters:
        flags = sorted({*one.candidate.flags, *(str(finding.code) for finding in verdict.findings)})
        name = into.batch.export.name
        into.rows.append(Row(one.candidate, flags, verdict.group, verdict.split, one.source, name))


def _refusal(one: Settled, settings: IntakeSettings) -> list[str]:
    codes = Counter(finding.code for finding in one.outcomes.findings if finding.action == QUARANTINED)
    told = ", ".join(f"{code} {count}" for code, count in codes.most_common(5))
    return [f"{one.batch.export.where}: {reason} ({told})" for reason in shortfalls(one.outcomes, settings)]


def _commit(
    store: Store,
    head: DatasetVersion | None,
    known: Known,
    class_names: tuple[str, ...],
    settled: list[Settled],
    settings: IntakeSettings,
) -> DatasetVersion:
    for one in settled:
        remember(store, settings.dataset_name, one.batch, one.content, one.outcomes, len(one.rows), one.exhibits)
    rows = [row for one in settled for row in one.rows]
    new_rows = rows_table(rows, settings.origin, datetime.now(UTC).isoformat(timespec="seconds"))
    keys = [one.content for one in settled if one.rows]
    place = (store, head, settings.dataset_name, class_names)
    return commit(*place, new_rows, known.with_rows(new_rows), keys, settings.bump_test_set)


def _write(
    folder: Path, report_path: Path, store: Store, version: DatasetVersion | None, taken: Taken, reasons: list[str]
) -> dict[str, str | int]:
    """Write dataset.json (only when a version stands), findings.parquet and the report into an emptied folder."""
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "findings.parquet").write_bytes(findings_bytes(taken.findings))
    summary: dict[str, Any] = {action: taken.rows[action] for action in (ACCEPTED, REPAIRED, QUARANTINED)}
    summary["new_images"] = taken.new_images
    report_path.parent.mkdir(parents=True, exist_ok=True)
    write_report(report_path, store, version, summary, taken.findings, taken.exhibits, reasons)
    if version is None:
        return summary
    dataset = {
        "digest": version.digest,
        "store_uri": store.uri,
        "class_names": list(version.class_names),
        **summary,
        "counts": version.counts,
    }
    beside = folder / "dataset.json.writing"
    beside.write_text(json.dumps(dataset, indent=1))
    beside.replace(folder / "dataset.json")
    flat = {key: version.counts[key] for key in ("images", "boxes", "train", "val", "test")}
    return {"digest": version.digest, **summary, **flat, "test_set": version.test_set}
