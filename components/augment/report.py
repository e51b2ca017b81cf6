"""The augmentation report: class balance before and after, and a contact sheet with boxes."""

import html
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.augment.balance import class_balance, made_here
from components.augment.settings import AugmentSettings
from components.shared.dataset import DatasetVersion, read_images
from components.shared.report import PALETTE, figure, page, picture, start_figure
from components.shared.store import Store


def write_report(path: Path, rows: pa.Table, version: DatasetVersion, store: Store, settings: AugmentSettings) -> None:
    """Write the HTML report of a training set."""
    train = rows.filter(pc.equal(rows["split"], "train"))
    balance = class_balance(train, version.class_names)
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td class='num'>{labelled}</td><td class='num'>{shown}</td></tr>"
        for name, (labelled, shown) in balance.items()
    )
    sheet = _sheet(train, version, store, settings.pictured_images)
    body = (
        f"<h1>Augmentation</h1><p>Data set <code>{version.digest[:12]}</code>: {len(train)} train images "
        f"({sum(made_here(flags) for flags in train['flags'].to_pylist())} of them made here), counted as "
        f"{pc.sum(train['repeat']).as_py()} an epoch; {len(rows) - len(train)} val images as they are.</p>"
        f"<h2>Class balance</h2><div class='figures'>{_bars(balance)}<div class='scroll'><table><tr><th>class</th>"
        f"<th class='num'>boxes labelled</th><th class='num'>boxes an epoch</th></tr>{lines}</table></div></div>"
        f"<h2>Images that count most</h2><div class='gallery'>{sheet}</div>"
        f"<h2>Before and after</h2><div class='gallery'>{_pairs(train, store, settings.pictured_images)}</div>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page("Augmentation", body))


def _bars(balance: dict[str, list[int]]) -> str:
    fig, axes = start_figure()
    places = np.arange(len(balance))
    for shift, column, label in ((-0.2, 0, "labelled"), (0.2, 1, "an epoch")):
        heights = [counts[column] for counts in balance.values()]
        axes.bar(places + shift, heights, 0.4, label=label, color=PALETTE[column])
    axes.set_xticks(places, list(balance), rotation=30 if len(balance) > 5 else 0)
    axes.set_ylabel("boxes")
    axes.legend()
    return figure(fig)


def _sheet(train: pa.Table, version: DatasetVersion, store: Store, count: int) -> str:
    """The labelled images that count most."""
    rows = [row for row in train.to_pylist() if not made_here(row["flags"])]
    rows = sorted(rows, key=lambda row: -row["repeat"])[:count]
    return "".join(
        picture(drawn, f"{row['repeat']}x {', '.join(sorted({version.class_names[one] for one in row['class_ids']}))}")
        for row, drawn in zip(rows, _drawn(rows, store), strict=True)
    )


def _pairs(train: pa.Table, store: Store, count: int) -> str:
    """Images before and after, a few of every kind."""
    rows = train.to_pylist()
    before = {row["source"]: row for row in rows if not made_here(row["flags"])}
    by_kind: dict[str, list[dict]] = {}
    for row in rows:
        if made_here(row["flags"]):
            by_kind.setdefault(row["source"].rpartition("+")[2], []).append(row)
    each = max(1, count // max(len(by_kind), 1))
    after = [row for kind in sorted(by_kind) for row in by_kind[kind][:each]]
    sources = [before[row["source"].rpartition("+")[0]] for row in after]
    pictures = []
    for row, first, second in zip(after, _drawn(sources, store), _drawn(after, store), strict=True):
        high = min(first.shape[0], second.shape[0])
        pair = [cv2.resize(image, (round(image.shape[1] * high / image.shape[0]), high)) for image in (first, second)]
        pictures.append(picture(np.hstack(pair), row["source"].rpartition("+")[2]))
    return "".join(pictures)


def _drawn(rows: list[dict], store: Store) -> Iterator[np.ndarray]:
    for row, data in zip(rows, read_images(store, [row["image_sha256"] for row in rows]), strict=True):
        image = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
        yield draw_boxes(image, row["boxes"], row["class_ids"])


def draw_boxes(image: np.ndarray, boxes: list, class_ids: list[int], side_px: int = 320) -> np.ndarray:
    """A copy of `image`, its long side brought to `side_px`, with each box in its class's colour."""
    scale = side_px / max(image.shape[:2])
    drawn = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for box, class_id in zip(boxes, class_ids, strict=True):
        x0, y0, x1, y1 = (round(float(edge) * scale) for edge in box)
        red, green, blue = (int(PALETTE[class_id % len(PALETTE)][place : place + 2], 16) for place in (1, 3, 5))
        cv2.rectangle(drawn, (x0, y0), (x1, y1), (blue, green, red), 2)
    return drawn
