"""yanshan models: what each light architecture weighs and how fast it is."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

COLUMNS = {
    "architecture": "{}",
    "parameters": "{:,}",
    "gflops": "{:.2f}",
    "onnx_mb": "{:.2f}",
    "int8_mb": "{:.2f}",
    "fp32_ms": "{:.1f}",
    "int8_ms": "{:.1f}",
    "light": "{}",
}


@click.command()
@click.argument("architectures", nargs=-1)
@click.option("--size", default=640, show_default=True, type=click.IntRange(32), help="Network input in pixels.")
@click.option("--classes", default=4, show_default=True, type=click.IntRange(1), help="Classes of the head.")
@click.option("--measure/--no-measure", default=True, help="Also export, quantize and time each (OpenVINO, this CPU).")
@click.option("--runs", default=50, show_default=True, type=click.IntRange(3), help="Timed calls of each.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def models(architectures: tuple[str, ...], size: int, classes: int, measure: bool, runs: int, as_json: bool) -> None:
    """The light architectures: parameters, GFLOPs, file sizes and latency. Weights are random: this is not accuracy."""
    with tempfile.TemporaryDirectory(prefix="yanshan-models-") as scratch:
        rows = list(_rows(architectures, size, classes, runs if measure else 0, Path(scratch)))
    if as_json:
        click.echo(json.dumps({"image_size_px": size, "classes": classes, "models": rows}, indent=2))
        return
    shown = {name: form for name, form in COLUMNS.items() if name in rows[0]}
    lines = [[form.format(row[name]) for name, form in shown.items()] for row in rows]
    widths = [max(len(line[place]) for line in [list(shown), *lines]) for place in range(len(shown))]
    for line in [list(shown), *lines]:
        click.echo("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def _rows(
    architectures: tuple[str, ...], size: int, classes: int, runs: int, scratch: Path
) -> Iterator[dict[str, Any]]:
    from components.train.quiet import quieten_ultralytics

    quieten_ultralytics(scratch)
    from components.train.light import LIGHT_ARCHITECTURES, weigh
    from pipelines.weighing import weigh_files

    for name in architectures or LIGHT_ARCHITECTURES:
        weight = weigh(name, size, classes)
        row: dict[str, Any] = {"architecture": name, "parameters": weight.parameters, "gflops": weight.gflops}
        if runs:
            row |= weigh_files(name, size, classes, runs, scratch / name)
        yield row | {"light": "yes" if weight.light else "not light"}
