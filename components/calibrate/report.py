"""The calibration report: what was quantized, what stayed float and why, on which images, at what cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment

from components.calibrate.images import read_image
from components.shared.report import FIGURE_INK, PALETTE, figure, page, picture, start_figure

SHOWN_IMAGES = 24
THUMBNAIL_PX = 160

BODY = """
<h1>INT8 calibration</h1>
<p class="soft">{{ r.image_size_px[0] }} x {{ r.image_size_px[1] }} px, {{ r.images|length }} training images,
seed {{ r.settings.seed }}.</p>
<div class="tiles">
<div class="tile"><b>{{ "%.2f"|format(r.size_bytes / 1e6) }} MB</b>
<span>from {{ "%.2f"|format(r.float_size_bytes / 1e6) }} MB, {{ "%.3f"|format(r.size_ratio) }} of it</span></div>
<div class="tile"><b>{{ r.int8_convolutions }} of {{ r.convolutions }}</b><span>convolutions in INT8</span></div>
<div class="tile"><b>{{ "%.1f"|format(100 * r.agreement.found) }} %</b>
<span>of {{ r.agreement.boxes }} FP32 boxes found again on {{ r.agreement.images }} held-out train images</span></div>
<div class="tile"><b>{{ "%.3f"|format(r.agreement.mean_overlap) }}</b><span>mean overlap of those boxes</span></div>
</div>
<h2>What it costs</h2>
<p>FP32 reaches mAP50-95 {{ "%.4f"|format(r.float_map_50_95) }} on the held-out train images
{%- if not r.labelled %} (its own boxes are the truth){% endif %}; this form loses
{{ "%.2f"|format(r.loss.map_points) }} points (+-{{ "%.2f"|format(r.loss.margin_points) }}), allowed are
{{ "%.2f"|format(r.settings.max_loss_points) }}. Ranges by {{ r.method }}.</p>
{% if r.rescued %}<div class="verdict warn"><p>Back in float, because INT8 ruined them:</p><ul>
{% for tensor, layers in r.rescued.items() %}<li class="mono">{{ layers|join(", ") }}
<span class="soft">(input {{ tensor }}, noise {{ "%.4f"|format(r.noise[tensor]) }} of the signal)</span></li>
{% endfor %}
</ul></div>{% endif %}
<div class="scroll"><table><tr><th>ranges by</th><th class="num">back in float</th><th class="num">mAP points lost</th>
<th class="num">score change</th><th class="num">work in INT8</th><th class="num">MB</th></tr>
{% for t in r.trials %}<tr><td>{{ t.method }}</td><td class="num">{{ t.rescued|length }}</td>
<td class="num">{{ "%.2f"|format(t.loss.map_points) }}</td>
<td class="num">{{ "%.4f"|format(t.loss.score_change) }}</td>
<td class="num">{{ "%.1f"|format(100 * t.int8_share) }} %</td>
<td class="num">{{ "%.2f"|format(t.size_bytes / 1e6) }}</td></tr>{% endfor %}
</table></div>
{{ plot }}
<h2>What stayed float, and why</h2>
<p>A layer stays float when its values live on scales that one INT8 step cannot hold.</p>
<div class="scroll"><table><tr><th>reason</th><th class="num">nodes</th><th>which</th></tr>
{% for reason, nodes in kept %}
<tr><td>{{ reason }}</td><td class="num">{{ nodes|length }}</td><td class="mono">{{ nodes[:6]|join(", ") }}
{%- if nodes|length > 6 %} and {{ nodes|length - 6 }} more{% endif %}</td></tr>{% endfor %}
</table></div>
<h2>The calibration images</h2>
<div class="scroll"><table><tr><th>kind</th><th>images</th></tr>
{% for kind, counts in drawn %}<tr><td>{{ kind }}</td><td>{{ counts }}</td></tr>{% endfor %}
</table></div>
<div class="gallery">{{ pictures }}</div>
<h2>Widest activations</h2>
<p>Each of these spends its 127 steps on the range given; a wide one with few large values is where INT8 loses most.</p>
<div class="scroll"><table><tr><th>tensor</th><th class="num">largest</th></tr>
{% for name, value in widest %}<tr><td class="mono">{{ name }}</td>
<td class="num">{{ "%.3f"|format(value) }}</td></tr>{% endfor %}
</table></div>
<h2>Record</h2>
<p class="mono">FP32 {{ r.float_sha256 }}<br>INT8 {{ r.int8_sha256 }}<br>
{% for name, version in r.toolkit.items() %}{{ name }} {{ version }} {% endfor %}</p>
"""


def write_report(
    path: Path, record: Mapping[str, Any], chosen: pa.Table, images: Sequence[Path], class_names: Sequence[str]
) -> None:
    """Write the page about `record`, with the first of the chosen images."""
    from markupsafe import Markup

    kept: dict[str, list[str]] = {}
    for node, reason in record["float_nodes"].items():
        kept.setdefault(reason, []).append(node)
    shown = "".join(picture(_thumbnail(image)) for image in images[:SHOWN_IMAGES])
    body = (
        Environment(autoescape=True)
        .from_string(BODY)
        .render(
            r=record,
            kept=sorted(kept.items()),
            drawn=_drawn(chosen, class_names),
            pictures=Markup(shown),
            plot=Markup(_plot(record)),
            widest=sorted(record["ranges"].items(), key=lambda item: -item[1])[:10],
        )
    )
    path.write_text(page("INT8 calibration", body))


def _plot(record: Mapping[str, Any]) -> str:
    """Each form's loss against the share of the work that runs in INT8 and against its size."""
    fig, axes = start_figure(7.2, 2.8)
    for trial in record["trials"]:
        chosen = trial["method"] == record["method"] and len(trial["rescued"]) == len(record["rescued"])
        colour = PALETTE[0] if chosen else FIGURE_INK
        axes.scatter(
            100 * trial["int8_share"], trial["loss"]["map_points"], s=trial["size_bytes"] / 1e5, color=colour, alpha=0.7
        )
    axes.axhline(record["settings"]["max_loss_points"], color=PALETTE[1], linewidth=1)
    axes.set_xlabel("multiply-adds in INT8, % (area of a point: file size)")
    axes.set_ylabel("mAP points lost")
    return figure(fig)


def _drawn(chosen: pa.Table, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """How the chosen images spread over classes and tags; tags that tell images apart say nothing here."""
    kinds: dict[str, Counter] = {"class": Counter()}
    for ids, tags in zip(chosen["class_ids"].to_pylist(), chosen["tags"].to_pylist(), strict=True):
        kinds["class"].update(class_names[number] for number in set(ids or ()))
        for key, value in tags or ():
            kinds.setdefault(key, Counter())[value] += 1
    return [
        (kind, ", ".join(f"{value}: {count}" for value, count in counts.most_common(8)))
        for kind, counts in kinds.items()
        if kind == "class" or len(counts) <= max(8, chosen.num_rows // 4)
    ]


def _thumbnail(image: Path):
    import cv2

    pixels = read_image(image)
    scale = THUMBNAIL_PX / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
