"""yanshan quantize, benchmark: INT8 and speed of anybody's YOLO ONNX."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.shared.errors import InvalidInput

if TYPE_CHECKING:
    from components.calibrate.accuracy import Truth

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--images", "folder", required=True, type=click.Path(path_type=Path), help="Folder of images to calibrate on."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="INT8 ONNX file to write.")
@click.option("--count", default=256, show_default=True, help="Images to calibrate on, at most.")
@click.option("--seed", default=0, show_default=True, help="Decides which images.")
@click.option("--method", default="best", show_default=True, help="How ranges are set; best tries all.")
@click.option(
    "--max-loss", default=0.5, show_default=True, help="mAP points that may be lost against FP32's own boxes."
)
@click.option(
    "--weight-bits",
    default="7",
    show_default=True,
    type=click.Choice(["7", "8"]),
    help="8 only where every device is a GPU or a CPU with VNNI: others cut its sums off.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def quantize(
    model: Path,
    folder: Path,
    output: Path,
    count: int,
    seed: int,
    method: str,
    max_loss: float,
    weight_bits: str,
    as_json: bool,
) -> None:
    """Write the INT8 form (explicit Q/DQ) of MODEL, an FP32 ONNX YOLO."""
    from components.calibrate.quantize import quantize_detector
    from components.calibrate.settings import CalibrateSettings
    from components.shared.settings import read_settings

    _refuse_same_file(model, output)
    asked = {"images": count, "seed": seed, "method": method, "max_loss_points": max_loss}
    settings = read_settings(CalibrateSettings, asked | {"weight_bits": int(weight_bits)})
    chosen, held_out = _draw(folder, settings.images, settings.held_out_images, seed)
    record = quantize_detector(model, chosen, output, settings, _truth(model, held_out))
    record |= {"model": str(model), "output": str(output), "images": len(chosen)}
    record["agreement"] = _compare(model, output, held_out or chosen)
    if as_json:
        click.echo(json.dumps(record, indent=2, sort_keys=True))
        return
    click.echo(
        f"{output}: {record['int8_convolutions']} of {record['convolutions']} convolutions in INT8, "
        f"{record['size_bytes'] / 1e6:.2f} MB ({record['size_ratio']:.3f} of {record['float_size_bytes'] / 1e6:.2f} MB)"
    )
    if agreement := record["agreement"]:
        click.echo(f"finds {agreement['found']:.1%} of {agreement['boxes']} FP32 boxes on {agreement['images']} images")


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--threads", default=(1, 2), show_default=True, multiple=True, type=click.IntRange(1, 256))
@click.option("--batch", default=(1, 8), show_default=True, multiple=True, type=click.IntRange(1, 256))
@click.option("--runs", default=30, show_default=True, type=click.IntRange(3), help="Timed calls of each.")
@click.option("--warm-up", default=5, show_default=True, type=click.IntRange(0), help="Calls before the clock starts.")
@click.option("--plot", default="", help="Also draw the numbers into this .svg or .png file.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def benchmark(
    models: tuple[Path, ...],
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    runs: int,
    warm_up: int,
    plot: str,
    as_json: bool,
) -> None:
    """Latency and throughput of MODELS (.onnx, .xml) in every runtime that can run them."""
    from components.build_engine.latency import machine

    if plot and Path(plot).suffix not in (".svg", ".png"):
        raise InvalidInput(f"--plot {plot}: expected the name of an .svg or .png file")
    rows = list(_measured(models, threads, batch, runs, warm_up))
    if plot:
        _draw_bars([row for row in rows if "p50_ms" in row], Path(plot))
    if as_json:
        click.echo(json.dumps({"machine": machine(), "runs": runs, "warm_up": warm_up, "results": rows}, indent=2))
    else:
        click.echo(_table(rows))


def _refuse_same_file(model: Path, output: Path) -> None:
    if output.exists() and model.exists() and output.samefile(model):
        raise InvalidInput(f"output {output}: is the input itself; name another file")
    if output.is_dir() or output.suffix != ".onnx":
        raise InvalidInput(f"output {output}: expected the name of an .onnx file")


def _draw(folder: Path, count: int, held_out: int, seed: int) -> tuple[list[Path], list[Path]]:
    """Images to calibrate on and images to compare on; the order of the folder does not matter."""
    import numpy as np

    if not folder.is_dir():
        raise InvalidInput(f"images {folder}: no such folder")
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InvalidInput(f"images {folder}: got no image, expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
    order = [images[place] for place in np.random.default_rng(seed).permutation(len(images))]
    count = max(1, min(count, len(order) - min(held_out, len(order) // 5)))
    return order[:count], order[count : count + held_out]


def _truth(model: Path, images: Sequence[Path]) -> "Truth | None":
    """FP32's own boxes on `images`; nothing for a file whose boxes cannot be read for want of metadata."""
    from components.calibrate.quantize import without_labels

    try:
        return without_labels(model, images, threads=0)
    except InvalidInput as unreadable:
        click.echo(f"no comparison with FP32, ranges are min-max: {unreadable}", err=True)
        return None


def _compare(model: Path, output: Path, images: Sequence[Path]) -> dict:
    """Agreement of the two files' boxes; empty for a file whose boxes cannot be read for want of metadata."""
    from components.calibrate.accuracy import compare_files

    try:
        return compare_files(model, output, images)
    except InvalidInput as unreadable:
        click.echo(f"boxes not compared: {unreadable}", err=True)
        return {}


def _measured(
    models: Sequence[Path], threads: Sequence[int], batches: Sequence[int], runs: int, warm_up: int
) -> Iterator[dict]:
    from components.build_engine.latency import RUNTIMES, measure_file
    from components.shared.progress import progress

    for model in models:
        if not model.is_file() or model.suffix not in RUNTIMES:
            raise InvalidInput(f"{model}: expected an existing {' or '.join(RUNTIMES)} file")
    plans = [
        (model, runtime, count, batch)
        for model in models
        for runtime in RUNTIMES[model.suffix]
        for count in threads
        for batch in batches
    ]
    for model, runtime, count, batch in progress(plans, "benchmark", len(plans)):
        row = {"model": str(model), "runtime": runtime, "threads": count, "batch": batch}
        row["size_bytes"] = sum(path.stat().st_size for path in (model, model.with_suffix(".bin")) if path.exists())
        try:
            latency = measure_file(model, runtime, count, warm_up, runs, batch)
        except InvalidInput as refusal:
            if batch == min(batches):
                raise
            yield row | {"skipped": str(refusal)}
            continue
        rate = round(1000 * batch / latency["p50"], 2)
        yield row | {"p50_ms": latency["p50"], "p95_ms": latency["p95"], "images_per_s": rate}


def _draw_bars(rows: Sequence[dict], path: Path) -> None:
    """One bar a measurement: the median per image, with a line up to the 95th percentile."""
    from components.shared.report import PALETTE, start_figure

    fig, axes = start_figure(7, 0.5 + 0.32 * len(rows))
    called = _short_names(rows)
    names = [f"{called[r['model']]}  {r['runtime']}  {r['threads']} thr, batch {r['batch']}" for r in rows]
    medians = [row["p50_ms"] / row["batch"] for row in rows]
    above = [row["p95_ms"] / row["batch"] - median for row, median in zip(rows, medians, strict=True)]
    runtimes = sorted({row["runtime"] for row in rows})
    colours = [PALETTE[runtimes.index(row["runtime"])] for row in rows]
    axes.barh(names[::-1], medians[::-1], xerr=[[0] * len(rows), above[::-1]], color=colours[::-1])
    axes.set_xlabel("ms an image")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, bbox_inches="tight")


def _short_names(rows: Sequence[dict]) -> dict[str, str]:
    """File name of each model, with as many folders before it as tell the models apart."""
    models = {row["model"]: Path(row["model"]).parts for row in rows}
    kept = 1
    while len({parts[-kept:] for parts in models.values()}) < len(models):
        kept += 1
    return {model: "/".join(parts[-kept:]) for model, parts in models.items()}


def _table(rows: Sequence[dict]) -> str:
    called = _short_names(rows)
    lines = [f"{'model':32} {'runtime':12} {'threads':>7} {'batch':>5} {'p50 ms':>9} {'p95 ms':>9} {'images/s':>9}"]
    for row in rows:
        head = f"{called[row['model']][-32:]:32} {row['runtime']:12} {row['threads']:7} {row['batch']:5}"
        if "skipped" in row:
            lines.append(f"{head} skipped: its batch is fixed")
        else:
            lines.append(f"{head} {row['p50_ms']:9.2f} {row['p95_ms']:9.2f} {row['images_per_s']:9.1f}")
    return "\n".join(lines)
