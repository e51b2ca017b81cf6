"""Choose and weigh the training images of a data set version."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.augment.balance import class_balance, made_here, repeats, replayed
from components.augment.report import write_report
from components.augment.settings import AugmentSettings
from components.augment.variants import make_variants, plan_variants, table_of
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
        rows = read_rows(store, version)
        train = _enriched(_train_rows(rows, digest, settings), version, store, settings)
        weighed = pa.concat_tables([train, _once(_val_rows(rows))]).sort_by("image_sha256")
        _write(training_set_folder, weighed, version, store)
        write_report(report_path, weighed, version, store, settings)

    inputs = {"dataset": digest, "settings": settings.model_dump(mode="json")}
    outputs = {"training_set": training_set_folder, "augment_report": report_path}
    once(store, "augment", inputs=inputs, outputs=outputs, work=work)
    counts = json.loads((training_set_folder / "training_set.json").read_bytes())["counts"]
    return {name: value for name, value in counts.items() if not isinstance(value, dict)}


def _train_rows(rows: pa.Table, digest: str, settings: AugmentSettings) -> pa.Table:
    """Train rows, of earlier batches as many as are replayed.

    Raises:
        InvalidInput: none of them has a box.
    """
    train = rows.filter(pc.equal(rows["split"], "train"))
    if not pc.any(pc.greater(pc.list_value_length(train["class_ids"]), 0)).as_py():
        raise InvalidInput(f"data set {digest[:12]}: {len(train)} train images without a box, expected labelled ones")
    return train.take(replayed(train.to_pylist(), settings, digest))


def _val_rows(rows: pa.Table) -> pa.Table:
    """Val rows; labels that a machine made never judge, so they stand in train or nowhere."""
    return rows.filter(pc.and_(pc.equal(rows["split"], "val"), pc.not_equal(rows["origin"], "teacher")))


def _enriched(train: pa.Table, version: DatasetVersion, store: Store, settings: AugmentSettings) -> pa.Table:
    """`train` and the images made of it, with the column `repeat`."""
    if unknown := set(settings.key_classes) - set(version.class_names):
        raise InvalidInput(f"augment.key_classes: got {sorted(unknown)}, expected some of {list(version.class_names)}")
    key_class_ids = [version.class_names.index(name) for name in settings.key_classes]
    rows = train.to_pylist()
    times = repeats(rows, len(version.class_names), settings, version.digest, key_class_ids)
    weighed = train.append_column("repeat", pa.array(times, pa.int32()))
    variants = plan_variants(rows, settings, len(version.class_names), key_class_ids, version.digest)
    if not variants:
        return weighed
    return pa.concat_tables([weighed, _once(table_of(list(make_variants(store, rows, variants)), train.schema))])


def _once(rows: pa.Table) -> pa.Table:
    return rows.append_column("repeat", pa.array([1] * len(rows), pa.int32()))


def _write(folder: Path, rows: pa.Table, version: DatasetVersion, store: Store) -> None:
    train = rows.filter(pc.equal(rows["split"], "train"))
    counts = {
        "train_images": len(train),
        "train_images_made": sum(made_here(flags) for flags in train["flags"].to_pylist()),
        "train_images_an_epoch": pc.sum(train["repeat"]).as_py(),
        "val_images": len(rows) - len(train),
        "boxes_by_class": class_balance(train, version.class_names),
    }
    facts = {"dataset": version.digest, "store_uri": store.uri, "class_names": list(version.class_names)}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / "rows.parquet")
    (folder / "training_set.json").write_text(json.dumps(facts | {"counts": counts}, indent=1, sort_keys=True))
    logger.info("augment %s", " ".join(f"{name}={value}" for name, value in counts.items() if name != "boxes_by_class"))
