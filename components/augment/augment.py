"""Choose and weigh the training images of a data set version."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.augment.balance import class_balance, repeats
from components.augment.report import write_report
from components.augment.settings import AugmentSettings
from components.shared.dataset import DatasetVersion, digest_of, read_dataset, read_rows
from components.shared.errors import InvalidInput
from components.shared.memory import once
from components.shared.store import Store

logger = logging.getLogger(__name__)


def augment(
    dataset_folder: Path, store: Store, settings: AugmentSettings, training_set_folder: Path, report_path: Path
) -> dict[str, Any]:
    """Write the training set of a data set version: its train rows with their repeats, its val rows as they are.

    Args:
        dataset_folder: With dataset.json.
        store: Holds rows and images.
        settings: Of the step.
        training_set_folder: Receives training_set.json and rows.parquet.
        report_path: Receives the HTML report.

    Returns:
        Plain counts worth showing beside the artifact.

    Raises:
        InvalidInput: there is no train image with a box.
    """
    digest = digest_of(dataset_folder)

    def work() -> None:
        version = read_dataset(store, digest)
        rows = _weighed(_trainable(read_rows(store, version)), len(version.class_names), settings, digest)
        _write(training_set_folder, rows, version, store)
        write_report(report_path, rows, version, store, settings)

    inputs = {"dataset": digest, "settings": settings.model_dump(mode="json")}
    outputs = {"training_set": training_set_folder, "augment_report": report_path}
    once(store, "augment", inputs=inputs, outputs=outputs, work=work)
    counts = json.loads((training_set_folder / "training_set.json").read_bytes())["counts"]
    return {name: value for name, value in counts.items() if not isinstance(value, dict)}


def _trainable(rows: pa.Table) -> pa.Table:
    """Train and val rows; labels that a machine made never judge, so they stand in train or nowhere."""
    train = pc.equal(rows["split"], "train")
    val = pc.and_(pc.equal(rows["split"], "val"), pc.not_equal(rows["origin"], "teacher"))
    return rows.filter(pc.or_(train, val))


def _weighed(rows: pa.Table, num_classes: int, settings: AugmentSettings, digest: str) -> pa.Table:
    """`rows` with the column `repeat`, 1 for val.

    Raises:
        InvalidInput: no train row has a box.
    """
    splits = rows["split"].to_pylist()
    classes = rows["class_ids"].to_pylist()
    train = [place for place, split in enumerate(splits) if split == "train"]
    if not any(classes[place] for place in train):
        raise InvalidInput(
            f"data set {digest[:12]}: got {len(train)} train images without a box, expected labelled ones"
        )
    column = [1] * len(rows)
    chosen = repeats([classes[place] for place in train], num_classes, settings, digest)
    for place, times in zip(train, chosen, strict=True):
        column[place] = times
    return rows.append_column("repeat", pa.array(column, pa.int32()))


def _write(folder: Path, rows: pa.Table, version: DatasetVersion, store: Store) -> None:
    train = rows.filter(pc.equal(rows["split"], "train"))
    counts = {
        "train_images": len(train),
        "train_images_an_epoch": pc.sum(train["repeat"]).as_py(),
        "val_images": len(rows) - len(train),
        "boxes_by_class": class_balance(train, version.class_names),
    }
    facts = {"dataset": version.digest, "store_uri": store.uri, "class_names": list(version.class_names)}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / "rows.parquet")
    (folder / "training_set.json").write_text(json.dumps(facts | {"counts": counts}, indent=1, sort_keys=True))
    logger.info("augment train=%d an_epoch=%d", counts["train_images"], counts["train_images_an_epoch"])
