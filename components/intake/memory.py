"""Batches seen before: what became of them is remembered by their content, so a night pays for what is new."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from components.intake.findings import Finding, findings_bytes, read_findings
from components.intake.outcomes import Outcomes
from components.intake.report import Exhibit, chosen
from components.intake.settings import IntakeSettings
from components.intake.sources import Export, content_digest
from components.shared.dataset import DatasetVersion
from components.shared.digests import digest_json
from components.shared.store import Store

READERS = 8
NOT_READING = {
    "bump_test_set", "val_share", "test_share", "split_salt", "fill_empty_splits",
    "max_quarantined_share", "max_quarantined_share_of_one", "min_rows_to_judge",
}  # fmt: skip
"""Settings that change nothing about how a batch reads: with them changed it is still the same batch."""


@dataclass(frozen=True)
class Batch:
    """An export with the print of each of its files; `key` names what it is recalled by.

    Prints are cheap to get (a bucket's entity tags, an archive's digest), so one content may have several keys.
    """

    export: Export
    prints: dict[str, str]
    key: str

    def sha256(self, name: str) -> str:
        """Digest of a file where it is known without reading it again; empty elsewhere."""
        return self.prints[name] if len(self.prints[name]) == 64 else ""


def identify(export: Export, settings: IntakeSettings, store: Store) -> Batch:
    """What tells this batch from any other: every byte counts, names, sizes and times alone prove nothing."""
    prints = export.prints(store)
    return Batch(export, prints, _key(prints, settings))


def content_key(batch: Batch, read: Mapping[str, str], settings: IntakeSettings) -> str:
    """Name of a batch's content and of how it is read: the same from a folder, a bucket or a zip.

    Args:
        batch: With the prints of its files.
        read: SHA-256 of the files that were read already, by name; the others are read here.
        settings: Of intake.
    """

    digests = {name: batch.sha256(name) or read.get(name, "") for name in batch.prints}
    unread = [name for name, digest in digests.items() if not digest]
    with ThreadPoolExecutor(READERS) as pool:
        digests |= zip(unread, pool.map(batch.export.digest, unread), strict=True)
    return _key(digests, settings)


def _key(prints: dict[str, str], settings: IntakeSettings) -> str:
    reading = settings.model_dump(mode="json", exclude=NOT_READING)
    return digest_json([content_digest(prints), reading])


def remember(
    store: Store, name: str, batch: Batch, content: str, outcomes: Outcomes, added: int, exhibits: Sequence[Exhibit]
) -> None:
    """Write down what became of a batch; the record comes last and makes it count."""
    store.put(f"batches/{name}/{batch.key}/findings.parquet", findings_bytes(outcomes.findings))
    shown = [asdict(one) for one in chosen(exhibits)]
    record = {"batch": batch.export.name, "content": content, "rows": dict(outcomes.rows), "added": added}
    record |= {"exhibits": shown}
    store.put(f"batches/{name}/{batch.key}/record.json", json.dumps(record, sort_keys=True).encode())


@dataclass(frozen=True)
class Recalled:
    """What became of a batch when it was taken in."""

    rows: dict[str, int]
    findings: list[Finding]
    exhibits: list[Exhibit]


def recall(store: Store, name: str, batch: Batch, head: DatasetVersion | None) -> Recalled | None:
    """What is remembered of a batch that is in the data set already.

    A record alone is no proof: intake may have been killed before the version that holds the batch counted.
    """
    folder = f"batches/{name}/{batch.key}"
    if head is None or not store.exists(f"{folder}/record.json"):
        return None
    record = json.loads(store.get(f"{folder}/record.json"))
    if record["added"] and record.get("content", batch.key) not in head.batches:
        return None
    exhibits = [
        Exhibit(Finding(**one["finding"]), one["image_sha256"], tuple(one["box"])) for one in record["exhibits"]
    ]
    return Recalled(record["rows"], read_findings(store.get(f"{folder}/findings.parquet")), exhibits)
