"""The page about a search: who is on the front of accuracy and speed, and who was dropped when."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from components.shared.report import FIGURE_INK, PALETTE, figure, page, start_figure
from pipelines.search import Budget, Candidate

BODY = """
<h1>{{ best.name }}</h1>
<p class="soft">of {{ found|length }} candidates; mAP50-95 {{ "%.3f"|format(best.map_50_95) }} on val after
{{ best.epochs }} epochs, INT8 {{ "%.2f"|format(best.int8_ms) }} ms on this CPU and
{{ "%.2f"|format(best.int8_mb) }} MB. {% if limits %}Budget: {{ limits }}.{% endif %}</p>
<p>Use it: <code>--set train.architecture={{ best.architecture }}
--set train.image_size_px={{ best.image_size_px }}</code></p>
{{ plot }}
<div class="scroll"><table><tr><th>candidate</th><th class="num">epochs</th><th class="num">mAP50-95 on val</th>
<th class="num">INT8 ms</th><th class="num">INT8 MB</th><th>outcome</th></tr>
{% for c in found %}<tr><td>{{ c.name }}</td><td class="num">{{ c.epochs }}</td>
<td class="num">{{ "%.3f"|format(c.map_50_95) if c.epochs else "" }}</td>
<td class="num">{{ "%.2f"|format(c.int8_ms) }}</td>
<td class="num">{{ "%.2f"|format(c.int8_mb) }}</td><td>{{ outcome(c) }}</td></tr>{% endfor %}</table></div>
<p class="soft">A candidate's mAP is that of its float network on val, good enough to choose by; what ships is judged on
the frozen test set by the gate. Scores after different numbers of epochs do not compare, and a first rung of few epochs
favours who learns fast: with <code>--rungs 1</code> everybody trains to the end.</p>
"""


def outcome(one: Candidate, last: int) -> str:
    """What became of a candidate in a search whose last rung ended at `last` epochs."""
    if not one.epochs:
        return "over budget"
    return f"dropped after {one.epochs}" if one.epochs < last else "front" if one.front else "beaten"


def write_report(path: Path, found: Sequence[Candidate], budget: Budget) -> None:
    """Write the page about `found`, the winner first."""
    from markupsafe import Markup

    limits = [f"{budget.latency_ms:g} ms"] * bool(budget.latency_ms) + [f"{budget.size_mb:g} MB"] * bool(budget.size_mb)
    body = Environment(autoescape=True).from_string(BODY)
    told = body.render(
        best=found[0],
        found=found,
        limits=" and ".join(limits),
        plot=Markup(_plot(found, budget)),
        outcome=lambda one: outcome(one, found[0].epochs),
    )
    path.write_text(page(f"Search: {found[0].name}", told))


def _plot(found: Sequence[Candidate], budget: Budget) -> str:
    fig, axes = start_figure(8.2, 3.6)
    trained = [one for one in found if one.epochs]
    for place, epochs in enumerate(sorted({one.epochs for one in trained}, reverse=True)):
        group = [one for one in trained if one.epochs == epochs]
        axes.scatter(
            [one.int8_ms for one in group],
            [one.map_50_95 for one in group],
            s=[40 * one.int8_mb for one in group],
            color=PALETTE[place % len(PALETTE)],
            alpha=0.75,
            label=f"after {epochs} epochs",
        )
    front = sorted((one for one in trained if one.front), key=lambda one: one.int8_ms)
    axes.step([one.int8_ms for one in front], [one.map_50_95 for one in front], where="post", color=FIGURE_INK, lw=0.8)
    for place, one in enumerate(front):
        axes.annotate(
            one.name,
            (one.int8_ms, one.map_50_95),
            xytext=(8, -10 if place % 2 else 4),
            textcoords="offset points",
            fontsize=8,
            color=FIGURE_INK,
        )
    if budget.latency_ms:
        axes.axvline(budget.latency_ms, color=PALETTE[3], linewidth=1)
    axes.set_xlabel("INT8 latency of one image on this CPU, ms (area of a point: file size)")
    axes.set_ylabel("mAP50-95 on val")
    axes.margins(x=0.15)
    axes.legend(loc="lower right", fontsize=8, frameon=False, labelcolor=FIGURE_INK)
    return figure(fig)
