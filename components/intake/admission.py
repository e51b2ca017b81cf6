"""Which candidates become rows: duplicates, leaks, replaced labels, machine labels, groups and splits."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from components.intake.batch import Candidate, Examined
from components.intake.findings import ACCEPTED, QUARANTINED, Code, Finding
from components.intake.known import Known, KnownImage
from components.intake.links import Links, find_links
from components.intake.settings import IntakeSettings
from components.intake.splits import assign, group_of, is_lone
from components.shared.store import Store


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


def admit(
    examined: Sequence[Examined], known: Known, store: Store, settings: IntakeSettings
) -> Iterator[Admitted | None]:
    """Decide about every examined image of all new batches, in order; None for those quarantined before."""
    candidates = [one.candidate for one in examined if one.candidate]
    groups = {one.image_sha256: _group(one, settings) for one in reversed(candidates)}
    links = find_links(examined, groups, known, store)
    groups = _joined(candidates, groups, links)
    splits = known.groups | _new_splits(groups, links, known, settings)
    first: dict[str, Examined] = {}
    for one in examined:
        if one.candidate is None:
            yield None
            continue
        image = one.candidate.image_sha256
        place = (groups[image], splits[groups[image]])
        earlier = first.setdefault(image, one)
        if earlier is not one:
            yield Admitted(False, *place, _again(one, earlier))
        elif one.candidate.known is None:
            yield _decide_new(one.source, image, place, links, settings.origin)
        else:
            yield _decide_known(one.source, one.candidate, one.candidate.known, place, settings.origin)


def _group(one: Candidate, settings: IntakeSettings) -> str:
    return one.known.group if one.known else group_of(one.tags, one.image_sha256, settings.group_by)


def _joined(candidates: Sequence[Candidate], groups: dict[str, str], links: Links) -> dict[str, str]:
    """Groups after lone images joined the group of the image that they copy."""
    joined = dict(groups)
    for one in candidates:
        image = one.image_sha256
        if is_lone(groups[image]) and image in links.known:
            joined[image] = links.known[image].group
        elif is_lone(groups[image]) and image in links.new:
            joined[image] = joined[links.new[image].image_sha256]
    return joined


def _new_splits(groups: dict[str, str], links: Links, known: Known, settings: IntakeSettings) -> dict[str, str]:
    """Splits of groups not seen before; groups linked by copies get one split together.

    A machine's labels never judge: groups that only machines labeled train.
    """
    new = set(groups.values()) - known.groups.keys()
    if settings.origin == "teacher":
        return dict.fromkeys(new, "train")
    leader = _leaders(new, [(groups[image], groups[other.image_sha256]) for image, other in links.new.items()])
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for image, other in links.known.items():
        if other.split != "test" and groups[image] in new:
            votes[leader[groups[image]]][other.split] += 1
    linked = {group: max(sorted(told), key=lambda split: told[split]) for group, told in votes.items()}
    splits = linked | assign(set(leader.values()) - linked.keys(), known.groups | linked, settings)
    return {group: splits[leader[group]] for group in new}


def _leaders(groups: set[str], pairs: list[tuple[str, str]]) -> dict[str, str]:
    """For every group the least name among the groups that it is linked with, directly or through others."""
    leader = {group: group for group in groups}

    def find(group: str) -> str:
        while leader[group] != group:
            leader[group] = leader[leader[group]]
            group = leader[group]
        return group

    for one, other in pairs:
        if one in leader and other in leader:
            low, high = sorted((find(one), find(other)))
            leader[high] = low
    return {group: find(group) for group in groups}


def _decide_new(source: str, image: str, place: tuple[str, str], links: Links, origin: str) -> Admitted:
    if origin == "teacher" and place[1] != "train":
        return Admitted(False, *place, (_teacher(source, place[1]),))
    copied = links.known.get(image)
    if copied and (copied.split == "test" or copied.split != place[1]):
        message = f"shows a picture of batch {copied.batch!r} that is in {copied.split}, {copied.image_sha256[:12]}"
        return Admitted(False, *place, (Finding(source, "", Code.LEAK, QUARANTINED, message),))
    if copied or image in links.new:
        other = copied.image_sha256 if copied else links.new[image].image_sha256
        message = f"shows the same picture as {other[:12]}: they share a split"
        return Admitted(True, *place, (Finding(source, "", Code.DUP_NEAR, ACCEPTED, message),))
    return Admitted(True, *place)


def _decide_known(source: str, one: Candidate, before: KnownImage, place: tuple[str, str], origin: str) -> Admitted:
    if origin == "teacher" and (place[1] != "train" or before.origin != "teacher"):
        return Admitted(False, *place, (_teacher(source, place[1]),))
    if before.origin == origin and _same_labels(one, before):
        message = "already in the data set with these labels"
        return Admitted(False, *place, (Finding(source, "", Code.DUP_EXACT, ACCEPTED, message),))
    message = f"replaces the labels of batch {before.batch!r}; the old row stays in the history"
    return Admitted(True, *place, (Finding(source, "", Code.LBL_REPLACED, ACCEPTED, message),))


def _teacher(source: str, split: str) -> Finding:
    message = f"a teacher's labels, but a human labeled this image or it judges (split {split})"
    return Finding(source, "", Code.ORIGIN_TEACHER, QUARANTINED, message)


def _again(one: Examined, earlier: Examined) -> tuple[Finding, ...]:
    assert one.candidate and earlier.candidate
    same = _same_labels(one.candidate, earlier.candidate)
    message = f"the same picture as {earlier.source}, " + ("labeled the same" if same else "labeled differently")
    return (Finding(one.source, "", Code.DUP_EXACT, ACCEPTED if same else QUARANTINED, message),)


def _same_labels(first: Candidate | KnownImage, second: Candidate | KnownImage) -> bool:
    return first.class_ids == second.class_ids and np.array_equal(first.boxes, second.boxes)
