"""Which groups train, watch and judge: by salted hash, assigned once, kept for ever."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from components.intake.settings import IntakeSettings
from components.shared.dataset import SPLITS
from components.shared.errors import InvalidInput

_LONE = "image="


def group_of(tags: Mapping[str, str], image_sha256: str, group_by: tuple[str, ...]) -> str:
    """The scene that an image belongs to: its `group_by` tags, or the image alone when it lacks one of them."""
    if not group_by or any(not tags.get(key) for key in group_by):
        return f"{_LONE}{image_sha256}"
    return "|".join(f"{key}={tags[key]}" for key in group_by)


def is_lone(group: str) -> bool:
    """Whether a group is one image that carries no tags to group it by."""
    return group.startswith(_LONE)


def name_tags(source: str, pattern: str) -> dict[str, str]:
    """Tags in an image's name, by the pattern's named groups.

    Raises:
        InvalidInput: the pattern is no regular expression.
    """
    if not pattern:
        return {}
    try:
        match = re.search(pattern, source)
    except re.error as fault:
        raise InvalidInput(f"intake.name_pattern {pattern!r}: {fault}, expected a regular expression") from fault
    return {key: value for key, value in match.groupdict().items() if value} if match else {}


def place(group: str, salt: str) -> float:
    """Where a group falls in [0, 1): the same for ever, whatever else is in the data set."""
    return int.from_bytes(hashlib.sha256(f"{salt}|{group}".encode()).digest()[:8], "big") / 2**64


def assign(new_groups: Iterable[str], known: Mapping[str, str], settings: IntakeSettings) -> dict[str, str]:
    """The split of each new group.

    A pure function of the group while every split has one. While a split has none (a first, small version) and at
    least three groups exist, it gets the new group of lowest hash that no needier split took: test first, then val,
    then train gets the highest. A larger first version never needs this.
    """
    by_hash = sorted(set(new_groups) - known.keys(), key=lambda group: place(group, settings.split_salt))
    assigned = {group: _by_threshold(place(group, settings.split_salt), settings) for group in by_hash}
    if not settings.fill_empty_splits or len(by_hash) + len(known) < len(SPLITS):
        return assigned
    taken: set[str] = set()
    for split, queue in (("test", by_hash), ("val", by_hash), ("train", by_hash[::-1])):
        if split in known.values() or split in assigned.values() or not _share(split, settings):
            taken |= _only_one(split, assigned, known)
            continue
        free = next((group for group in queue if group not in taken), None)
        if free is not None:
            assigned[free] = split
            taken.add(free)
    return assigned


def _by_threshold(u: float, settings: IntakeSettings) -> str:
    if u < settings.test_share:
        return "test"
    return "val" if u < settings.test_share + settings.val_share else "train"


def _share(split: str, settings: IntakeSettings) -> float:
    shares = {"test": settings.test_share, "val": settings.val_share}
    return shares.get(split, 1.0 - sum(shares.values()))


def _only_one(split: str, assigned: Mapping[str, str], known: Mapping[str, str]) -> set[str]:
    """The new group that alone stands for a split, which must not be taken from it."""
    groups = [group for group, its in assigned.items() if its == split]
    return set(groups) if len(groups) == 1 and split not in known.values() else set()
