"""yanshan demo: the whole loop on the sample data."""

import json
from pathlib import Path

import click


@click.command()
@click.option("--workspace", default=".yanshan", show_default=True, help="Folder for everything a laptop keeps.")
@click.option("--day-images", default=520, show_default=True, help="Images of the day shift.")
@click.option("--night-images", default=420, show_default=True, help="Images of the night shift.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def demo(workspace: str, day_images: int, night_images: int, as_json: bool) -> None:
    """Night 1 learns the day shift and is promoted; night 2 learns the night shift and is compared with it."""
    from pipelines.demo import demo_table, farewell, run_demo
    from pipelines.local import open_workspace

    place = open_workspace(Path(workspace) / "demo")
    numbers = run_demo(place, day_images, night_images)
    click.echo(json.dumps(numbers, indent=2) if as_json else f"\n{demo_table(numbers)}\n{farewell(place, numbers)}")
