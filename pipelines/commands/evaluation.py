"""`yanshan evaluate` and `yanshan judge`: the measuring and the deciding steps, alone."""

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--model", "model", required=True, type=click.Path(path_type=Path), help="Detector: .onnx or OpenVINO .xml."
)
@click.option("--champion", type=click.Path(path_type=Path), help="A second detector to compare with.")
@click.option("--dataset", required=True, help="COCO JSON file, or the digest of a data set version (with --store).")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the COCO file's images.")
@click.option("--store", "store_uri", default="", help="Store of the data set version, file:///... or s3://...")
@click.option("--threads", default=0, show_default=True, help="Images at once; 0: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    model: Path, champion: Path | None, dataset: str, images: Path | None, store_uri: str, threads: int, as_json: bool
) -> None:
    """COCO mAP of any ONNX YOLO on any COCO file; classes are matched by name."""
    from components.evaluate.alone import evaluate_file
    from components.evaluate.settings import EvaluateSettings

    settings = EvaluateSettings(threads=threads)
    result = evaluate_file(model, champion, dataset, images, store_uri, settings)
    click.echo(json.dumps(result) if as_json else _table(result))


@click.command()
@click.option("--scores", required=True, type=click.Path(path_type=Path), help="scores.json, or the folder it lies in.")
@click.option("--recipe", default="production", show_default=True, help="Whose rules decide.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Another rule: judge.map_margin=0.02")
@click.option("--comparison", default=1, show_default=True, help="How many challengers this test set has met.")
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
def judge(scores: Path, recipe: str, changes: tuple[str, ...], comparison: int, as_json: bool) -> None:
    """Explain a decision again, or see what other rules would have said. Nothing is recorded."""
    from components.judge.evidence import read_evidence
    from components.judge.judge import decide
    from components.judge.words import verdict_markdown
    from pipelines.commands.run import read_changes
    from pipelines.recipes import find_recipe

    settings = find_recipe(recipe, read_changes(changes)).judge
    decision = decide(read_evidence(scores, settings), settings, comparison)
    click.echo(json.dumps(decision) if as_json else verdict_markdown(decision | {"model_name": str(scores)}))


def _table(result: dict[str, Any]) -> str:
    columns = [("model", result)] + ([("champion", result["champion"])] if "champion" in result else [])
    names = list(result["per_class"])
    width = max(map(len, [*names, "mAP 50:95"])) + 2
    lines = ["".ljust(width) + "".join(title.rjust(10) for title, _ in columns)]
    for key, label in (("map_50_95", "mAP 50:95"), ("map_50", "mAP 50")):
        lines.append(label.ljust(width) + "".join(f"{column[key]:10.4f}" for _, column in columns))
    for name in names:
        cells = "".join(f"{column['per_class'][name]['ap_50_95']:10.4f}" for _, column in columns)
        lines.append(name.ljust(width) + cells)
    if "difference" in result:
        gain = result["difference"]
        lines.append(f"model minus champion: {gain['value']:+.4f} ({gain['low']:+.4f} .. {gain['high']:+.4f})")
    return "\n".join(lines)
