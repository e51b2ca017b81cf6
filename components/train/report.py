"""The training report: what was trained from what, and how the losses and mAP went."""

import html
from pathlib import Path
from typing import Any

from components.shared.report import PALETTE, figure, page, start_figure

MEASURES = ("map_50_95", "map_50", "precision", "recall")


def write_report(path: Path, facts: dict[str, Any]) -> None:
    """Write the HTML report of a fit.

    Args:
        path: The file to write.
        facts: Of the checkpoint, its `history` included.
    """
    history = facts["history"]
    losses = [name for name in history[0] if name.endswith("_loss")]
    figures = _curves(history, losses, "loss") + _curves(history, list(MEASURES[:2]), "mAP on val")
    figures += _curves(history, ["images_per_s"], "images a second")
    figures += _curves(history, ["data_share", "busy_cores", "memory_gb", "gpu_memory_gb"], "load")
    tiles = "".join(
        f'<div class="tile"><b>{html.escape(text)}</b><span>{name}</span></div>' for name, text in _tiles(facts)
    )
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts["settings"].items()
    )
    body = (
        f"<h1>Training</h1><p>{html.escape(facts['architecture'])} from {html.escape(facts['start'])}, "
        f"classes {html.escape(', '.join(facts['class_names']))}.</p>"
        f'<div class="tiles">{tiles}</div><div class="figures">{figures}</div>'
        "<p class='soft'>mAP here is measured on val by the trainer, to watch it; the frozen test set judges later.</p>"
        f"<h2>Settings</h2><div class='scroll'><table>{rows}</table></div>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page("Training", body))


def _tiles(facts: dict[str, Any]) -> list[tuple[str, str]]:
    last = facts["history"][-1]
    tiles = [("epochs", str(len(facts["history"]))), ("seconds", f"{facts['seconds']:.0f}")]
    tiles += [("parameters", f"{facts['parameters'] / 1e6:.2f} M"), ("precision", facts["precision"])]
    return [(name, f"{last[name]:.3f}") for name in MEASURES if name in last] + tiles


def _curves(history: list[dict[str, Any]], names: list[str], label: str) -> str:
    drawn = [name for name in names if any(name in entry for entry in history)]
    if not drawn:
        return ""
    fig, axes = start_figure()
    for name, colour in zip(drawn, PALETTE, strict=False):
        points = [(entry["epoch"], entry[name]) for entry in history if name in entry]
        axes.plot(*zip(*points, strict=True), color=colour, label=name, marker="o" if len(points) < 4 else None)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    if len(drawn) > 1:
        axes.legend()
    return figure(fig)
