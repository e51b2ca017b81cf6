"""Calibration images chosen on purpose: every stratum in turn, and of each the image least like those taken."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.shared.errors import InvalidInput

POOL = 4
"""Images looked at for each that is taken: a night pays for the look, not for the size of the data set."""
STRATUM_TAGS = ("shift", "camera")


def choose_images(
    rows: pa.Table, count: int, held_out: int, seed: int, look: Callable[[pa.Table], np.ndarray]
) -> tuple[pa.Table, pa.Table]:
    """Rows to calibrate on and rows to compare on, without an image in common.

    Strata are rarest class, shift and camera; likeness is judged by brightness, contrast, colour, box sizes and
    their number. The rows to compare on are a plain draw from the others, of those labelled by people where there are.

    Args:
        rows: Rows of the split `train` only.
        count: Images wanted for calibration; all but a fifth where the table is small.
        held_out: Images wanted for the comparison.
        seed: Decides the draw.
        look: (N, F) float, what the pixels of N rows are like.

    Raises:
        InvalidInput: fewer than two rows, or a row of another split.
    """
    if foreign := sorted(set(rows["split"].to_pylist()) - {"train"}):
        raise InvalidInput(f"calibration images: got rows of {foreign}, expected train rows only")
    if rows.num_rows < 2:
        raise InvalidInput(f"calibration images: got {rows.num_rows} train images, expected at least 2")
    count = max(1, min(count, rows.num_rows - min(held_out, max(1, rows.num_rows // 5))))
    random = np.random.default_rng(seed)
    order = _in_turn(_strata(rows), random)
    pool = np.sort(order[: POOL * count])
    candidates = rows.take(pool)
    features = np.hstack([_standard(look(candidates)), _standard(_box_features(candidates))])
    taken = pool[_spread(features, _strata(candidates), count, random)]
    others = np.setdiff1d(random.permutation(rows.num_rows), taken, assume_unique=True)
    by_people = np.array(rows["origin"].to_pylist())[others] != "teacher"
    others = others[by_people] if by_people.any() else others
    return rows.take(taken), rows.take(others[:held_out])


def look_at(images: Sequence[Path]) -> np.ndarray:
    """(N, 3) float: brightness, contrast and saturation of each image, from an eighth of its pixels a side."""
    import cv2

    looks = np.zeros((len(images), 3))
    for place, image in enumerate(images):
        small = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
        if small is not None:
            saturation, value = cv2.split(cv2.cvtColor(small, cv2.COLOR_BGR2HSV))[1:]
            looks[place] = value.mean(), value.std(), saturation.mean()
    return looks


def _strata(rows: pa.Table) -> list[tuple]:
    """Rarest class, shift and camera of each row; images without a box are a stratum of their own."""
    held = [set(ids or ()) for ids in rows["class_ids"].to_pylist()]
    frequency = Counter(number for ids in held for number in ids)
    tags = [dict(entry or ()) for entry in rows["tags"].to_pylist()]
    return [
        (
            min(ids, key=lambda number: (frequency[number], number), default=-1),
            *(tag.get(key, "") for key in STRATUM_TAGS),
        )
        for ids, tag in zip(held, tags, strict=True)
    ]


def _in_turn(strata: Sequence[tuple], random: np.random.Generator) -> np.ndarray:
    """Every place once: one of each stratum, then the next of each."""
    queues: dict[tuple, list[int]] = defaultdict(list)
    for place in random.permutation(len(strata)):
        queues[strata[place]].append(int(place))
    turns = [(turn, place) for key in sorted(queues) for turn, place in enumerate(queues[key])]
    shuffled = [turns[place] for place in random.permutation(len(turns))]
    return np.array([place for _, place in sorted(shuffled, key=lambda entry: entry[0])])


def _spread(features: np.ndarray, strata: Sequence[tuple], count: int, random: np.random.Generator) -> list[int]:
    """Places: the strata in turn, each giving the row that is farthest from all that were taken (greedy k-center).

    Source: T. Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.
    """
    members: dict[tuple, list[int]] = defaultdict(list)
    for place, stratum in enumerate(strata):
        members[stratum].append(place)
    keys = sorted(members)
    keys = [keys[place] for place in random.permutation(len(keys))]
    distance = np.full(len(features), np.inf)
    taken: list[int] = []
    while len(taken) < count:
        for key in keys:
            free = members[key]
            if not free or len(taken) == count:
                continue
            place = free.pop(int(np.argmax(distance[free])) if taken else int(random.integers(len(free))))
            taken.append(place)
            distance = np.minimum(distance, np.linalg.norm(features - features[place], axis=1))
    return taken


def _box_features(rows: pa.Table) -> np.ndarray:
    """(N, 3) float: how many boxes, and the logarithms of the smallest and largest share of the image."""
    features = np.zeros((rows.num_rows, 3))
    columns = (rows[name].to_pylist() for name in ("boxes", "width_px", "height_px"))
    for place, (boxes, width, height) in enumerate(zip(*columns, strict=True)):
        corners = np.asarray(boxes or [], float).reshape(-1, 4)
        if len(corners):
            shares = np.maximum((corners[:, 2:] - corners[:, :2]).prod(axis=1) / (width * height), 1e-6)
            features[place] = len(corners), np.log(shares.min()), np.log(shares.max())
    return features


def _standard(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
