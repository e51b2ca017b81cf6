"""Which candidates become rows: exact duplicates, replaced labels, machine labels, groups and splits."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from components.intake.batch import Candidate, Examined
from components.intake.findings import ACCEPTED, QUARANTINED, Code, Finding
from components.intake.known import Known, KnownImage
from components.intake.settings import IntakeSettings
from components.intake.splits import assign, group_of


@dataclass(frozen=True, slots=True)
class Admitted:
    """The verdict about a candidate: whether it becomes a row, of which group and split, and what is to be said."""

    enters: bool
    group: str
    split: str
    findings: tuple[Finding, ...] = ()

    @property
    def quarantined(self) -> bool:
        """Whether all its rows are."""
        return any(finding.action == QUARANTINED for finding in self.findings)


def admit(examined: Sequence[Examined], known: Known, settings: IntakeSettings) -> Iterator[Admitted | None]:
    """Decide about every examined image of all new batches, in order; None for those quarantined before."""
    groups = {id(one): _group(one.candidate, settings) for one in examined if one.candidate}
    splits = known.groups | _new_splits(groups.values(), known, settings)
    first: dict[str, Examined] = {}
    for one in examined:
        if one.candidate is None:
            yield None
            continue
        place = (groups[id(one)], splits[groups[id(one)]])
        earlier = first.setdefault(one.candidate.image_sha256, one)
        if earlier is not one:
            yield Admitted(False, *place, _again(one, earlier))
        else:
            yield _decide(one.source, one.candidate, place, settings.origin)


def _group(one: Candidate, settings: IntakeSettings) -> str:
    return one.known.group if one.known else group_of(one.tags, one.image_sha256, settings.group_by)


def _new_splits(groups: Iterable[str], known: Known, settings: IntakeSettings) -> dict[str, str]:
    """A machine's labels never judge: groups that only machines labeled train."""
    new = set(groups) - known.groups.keys()
    return dict.fromkeys(new, "train") if settings.origin == "teacher" else assign(new, known.groups, settings)


def _decide(source: str, one: Candidate, place: tuple[str, str], origin: str) -> Admitted:
    by_human = one.known is not None and one.known.origin != "teacher"
    if origin == "teacher" and (place[1] != "train" or by_human):
        message = f"a teacher's labels, but a human labeled this image or it judges (split {place[1]})"
        return Admitted(False, *place, (Finding(source, "", Code.ORIGIN_TEACHER, QUARANTINED, message),))
    if one.known is None:
        return Admitted(True, *place)
    if one.known.origin == origin and _same_labels(one, one.known):
        message = "already in the data set with these labels"
        return Admitted(False, *place, (Finding(source, "", Code.DUP_EXACT, ACCEPTED, message),))
    message = f"replaces the labels of batch {one.known.batch!r}; the old row stays in the history"
    return Admitted(True, *place, (Finding(source, "", Code.LBL_REPLACED, ACCEPTED, message),))


def _again(one: Examined, earlier: Examined) -> tuple[Finding, ...]:
    assert one.candidate and earlier.candidate
    same = _same_labels(one.candidate, earlier.candidate)
    message = f"the same picture as {earlier.source}, " + ("labeled the same" if same else "labeled differently")
    return (Finding(one.source, "", Code.DUP_EXACT, ACCEPTED if same else QUARANTINED, message),)


def _same_labels(first: Candidate | KnownImage, second: Candidate | KnownImage) -> bool:
    return first.class_ids == second.class_ids and np.array_equal(first.boxes, second.boxes)
