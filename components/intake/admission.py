"""Which candidates become rows: exact duplicates, replaced labels, machine labels, groups and splits."""

from collections.abc import Iterable, Iterator
from typing import Any

from components.intake.batch import Candidate
from components.intake.findings import ACCEPTED, QUARANTINED, REPAIRED, Code, Finding
from components.intake.known import Known
from components.intake.settings import IntakeSettings
from components.intake.splits import assign, group_of


def admit(
    candidates: list[Candidate], known: Known, settings: IntakeSettings
) -> Iterator[tuple[Candidate, dict[str, Any] | None, tuple[Finding, ...]]]:
    """Decide about every candidate in order: its row (None: nothing to add) and what is to be said about it.

    Args:
        candidates: Images of all new batches, in order.
        known: The data set so far.
        settings: Groups, shares, salt, origin.
    """
    grouped = [(one, _group(one, settings)) for one in candidates]
    splits = known.groups | _new_splits(grouped, known, settings)
    first: dict[str, Candidate] = {}
    for one, group in grouped:
        image = one.fields["image_sha256"]
        row = one.fields | {"group": group, "split": splits[group]}
        if image in first:
            yield one, None, _again(one, first[image])
            continue
        first[image] = one
        yield one, *_admit_one(one, row)


def _group(one: Candidate, settings: IntakeSettings) -> str:
    if one.known:
        return one.known["group"]
    return group_of(one.fields["tags"], one.fields["image_sha256"], settings.group_by)


def _new_splits(grouped: Iterable[tuple[Candidate, str]], known: Known, settings: IntakeSettings) -> dict[str, str]:
    """A machine's labels never judge: groups that only machines labeled train."""
    groups = {group for _, group in grouped} - known.groups.keys()
    if settings.origin == "teacher":
        return dict.fromkeys(groups, "train")
    return assign(groups, known.groups, settings)


def _admit_one(one: Candidate, row: dict[str, Any]) -> tuple[dict[str, Any] | None, tuple[Finding, ...]]:
    source = one.told.source
    if row["origin"] == "teacher" and (row["split"] != "train" or (one.known and one.known["origin"] != "teacher")):
        what = f"a human labeled this image; split {row['split']}"
        return None, (
            Finding(source, "", Code.ORIGIN_TEACHER, QUARANTINED, f"{what}: a teacher's labels may not enter"),
        )
    if one.known is None:
        return row, ()
    if _says(one.known) == _says(row):
        return None, (Finding(source, "", Code.DUP_EXACT, ACCEPTED, "already in the data set with these labels"),)
    message = f"replaces the labels of batch {one.known['batch']!r}; the old row stays in the history"
    return row, (Finding(source, "", Code.LBL_REPLACED, ACCEPTED, message),)


def _again(one: Candidate, earlier: Candidate) -> tuple[Finding, ...]:
    same = _says(one.fields) == _says(earlier.fields)
    message = f"the same picture as {earlier.told.source}, " + ("labeled the same" if same else "labeled differently")
    return (Finding(one.told.source, "", Code.DUP_EXACT, REPAIRED if same else QUARANTINED, message),)


def _says(row: dict[str, Any]) -> tuple:
    """What a row claims about its image."""
    return row["boxes"], row["class_ids"], row["origin"]
