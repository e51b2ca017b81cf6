"""yanshan search: which light architecture at which image size, within a budget."""

import json
from pathlib import Path

import click

from components.shared.errors import InvalidInput
from pipelines.commands.run import changes_option, inbox_uri, read_changes

COLUMNS = ("candidate", "epochs", "mAP50-95", "INT8 ms", "INT8 MB", "")


@click.command()
@click.argument("recipe")
@click.option("--inbox", required=True, help="Folder of labeling exports, or its URI.")
@click.option("--architectures", default="", help="Comma-separated; default: all of `yanshan models`.")
@click.option("--sizes", default="", help="Image sizes in pixels, comma-separated; default: the recipe's.")
@click.option("--max-latency-ms", default=0.0, type=click.FloatRange(0), help="Of the INT8 file on this CPU; 0: any.")
@click.option("--max-size-mb", default=0.0, type=click.FloatRange(0), help="Of the INT8 file; 0: any.")
@click.option("--rungs", default=3, show_default=True, type=click.IntRange(1, 10), help="Halvings, plus one.")
@click.option("--workspace", default=".yanshan", show_default=True, help="Folder for everything a laptop keeps.")
@click.option("--store", default="", help="Store URI; default: a folder in the workspace.")
@changes_option
@click.option("--json", "as_json", is_flag=True, help="Print the candidates as JSON.")
def search(
    recipe: str,
    inbox: str,
    architectures: str,
    sizes: str,
    max_latency_ms: float,
    max_size_mb: float,
    rungs: int,
    workspace: str,
    store: str,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Successive halving over architectures and image sizes, on the labels in the inbox with the settings of RECIPE."""
    from components.shared.step import start_logging
    from components.shared.store import open_store
    from components.train.quiet import quieten_ultralytics
    from pipelines.recipes import find_recipe

    chosen = find_recipe(recipe, read_changes(changes))
    folder = Path(workspace).expanduser().absolute() / "search"
    folder.mkdir(parents=True, exist_ok=True)
    quieten_ultralytics(folder / "ultralytics")
    from components.train.light import LIGHT_ARCHITECTURES
    from pipelines.search import Budget, pairs
    from pipelines.search import as_json as plain
    from pipelines.search import search as find
    from pipelines.search_report import write_report

    start_logging()
    names = tuple(filter(None, architectures.split(","))) or LIGHT_ARCHITECTURES
    field = list(pairs(names, _sizes(sizes) or [chosen.train.image_size_px]))
    budget = Budget(max_latency_ms, max_size_mb)
    opened = open_store(store or (folder.parent / "store").as_uri())
    found = find(chosen, inbox_uri(inbox), opened, folder, field, budget, rungs)
    (folder / "search.json").write_text(json.dumps(plain(found), indent=1))
    write_report(folder / "search.html", found, budget)
    if as_json:
        click.echo(json.dumps({"candidates": plain(found), "report": str(folder / "search.html")}, indent=2))
        return
    for line in _table(found):
        click.echo(line)
    click.echo(
        f"use: --set train.architecture={found[0].architecture} --set train.image_size_px={found[0].image_size_px}"
    )
    click.echo(f"report: {folder / 'search.html'}")


def _sizes(told: str) -> list[int]:
    try:
        sizes = [int(size) for size in told.split(",") if size.strip()]
    except ValueError:
        sizes = [-1]
    if any(size <= 0 or size % 32 for size in sizes):
        raise InvalidInput(f"--sizes {told!r}: expected multiples of 32, such as 192,256")
    return sizes


def _table(found: list) -> list[str]:
    from pipelines.search_report import outcome

    rows = [COLUMNS]
    for one in found:
        score = f"{one.map_50_95:.3f}" if one.epochs else "-"
        rows.append(
            (
                one.name,
                str(one.epochs),
                score,
                f"{one.int8_ms:.2f}",
                f"{one.int8_mb:.2f}",
                outcome(one, found[0].epochs),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    return ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
