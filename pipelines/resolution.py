"""What the gate can decide with the test set there is: said before the night, not after it."""

from collections import Counter

from pipelines.recipes import Recipe


def what_the_gate_can_decide(recipe: Recipe, store_uri: str) -> str:
    """One line about each key class: its labelled test boxes, and the recall margin they can hold.

    Returns:
        An empty text where there is no data set yet.
    """
    import pyarrow.compute as pc

    from components.judge.resolution import what_boxes_decide
    from components.shared.dataset import newest, read_test_rows
    from components.shared.store import open_store

    store = open_store(store_uri)
    version = newest(store, recipe.intake.dataset_name)
    if version is None or not version.test_set:
        return ""
    counted = Counter(pc.list_flatten(read_test_rows(store, version)["class_ids"]).to_pylist())
    boxes = {name: counted.get(number, 0) for number, name in enumerate(version.class_names)}
    wanted = {name: boxes.get(name, 0) for name in recipe.judge.key_classes or boxes}
    short = {name: recipe.judge.min_key_boxes - number for name, number in wanted.items()}
    missing = [
        f"need {number} more boxes of class {name} to judge at all" for name, number in short.items() if number > 0
    ]
    return "; ".join([*missing, *what_boxes_decide(wanted, recipe.judge.recall_margin, recipe.judge.alpha)])
