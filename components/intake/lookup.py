"""Finding an image in an export by the name that a label file gives it, without ever making a path of that name."""

from collections import defaultdict
from functools import lru_cache
from pathlib import PurePosixPath
from posixpath import basename, splitext

from components.intake.sources import Export, image_names


class ImageLookup:
    """Images of an export by what label files call them: exact first, then under images/, then by bare name."""

    def __init__(self, export: Export) -> None:
        self._names = set(image_names(export))
        self._by_tail: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_bare_stem: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._names):
            stem, tail = splitext(name)[0], basename(name)
            self._by_tail[tail].append(name)
            self._by_stem[stem].append(name)
            self._by_bare_stem[basename(stem)].append(name)

    def find(self, told: str, beside: str = "") -> str:
        """Member name of the image that the label file `beside` calls `told`; empty when none or several fit."""
        path = PurePosixPath(told.replace("\\", "/"))
        for top in _tops(beside):
            if (name := f"{top}{path}") in self._names:
                return name
        same_tail = self._by_tail.get(path.name, [])
        return same_tail[0] if len(same_tail) == 1 else ""

    def with_stem(self, stem: str) -> list[str]:
        """Images whose whole name without suffix is `stem`."""
        return self._by_stem.get(stem, [])

    def find_stem(self, stem: str) -> str:
        """Member name of the one image whose bare name without suffix is `stem`; empty when none or several fit."""
        same = self._by_bare_stem.get(stem, [])
        return same[0] if len(same) == 1 else ""

    def names(self) -> list[str]:
        """All images, in order."""
        return sorted(self._names)


@lru_cache
def _tops(beside: str) -> list[str]:
    """Folders where the images of a label file may lie, the likeliest first, each as the beginning of a name."""
    folder, here = PurePosixPath(beside).parent, PurePosixPath()
    tops = (folder, folder / "images", here, here / "images", folder.parent / "images")
    return ["" if top == here else f"{top}/" for top in tops]
