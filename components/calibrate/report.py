"""The calibration report: what was quantized, what stayed float and why, on which images, at what cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment

from components.calibrate.quantize import read_image
from components.shared.report import page, picture

SHOWN_IMAGES = 24
THUMBNAIL_PX = 160

BODY = """
<h1>INT8 calibration</h1>
<p class="soft">{{ r.image_size_px[0] }} x {{ r.image_size_px[1] }} px, {{ r.images|length }} training images,
ranges by {{ r.settings.method }}; seed {{ r.settings.seed }}.</p>
<div class="tiles">
<div class="tile"><b>{{ "%.2f"|format(r.size_bytes / 1e6) }} MB</b>
<span>from {{ "%.2f"|format(r.float_size_bytes / 1e6) }} MB, {{ "%.3f"|format(r.size_ratio) }} of it</span></div>
<div class="tile"><b>{{ r.int8_convolutions }} of {{ r.convolutions }}</b><span>convolutions in INT8</span></div>
<div class="tile"><b>{{ "%.1f"|format(100 * r.agreement.found) }} %</b>
<span>of {{ r.agreement.boxes }} FP32 boxes found again on {{ r.agreement.images }} held-out train images</span></div>
<div class="tile"><b>{{ "%.3f"|format(r.agreement.mean_overlap) }}</b><span>mean overlap of those boxes</span></div>
</div>
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


def write_report(path: Path, record: Mapping[str, Any], chosen: pa.Table, images: Sequence[Path]) -> None:
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
            drawn=_drawn(chosen),
            pictures=Markup(shown),
            widest=sorted(record["ranges"].items(), key=lambda item: -item[1])[:10],
        )
    )
    path.write_text(page("INT8 calibration", body))


def _drawn(chosen: pa.Table) -> list[tuple[str, str]]:
    """How the chosen images spread over classes and tags."""
    kinds: dict[str, Counter] = {"class": Counter()}
    for ids, tags in zip(chosen["class_ids"].to_pylist(), chosen["tags"].to_pylist(), strict=True):
        kinds["class"].update(str(number) for number in set(ids or ()))
        for key, value in tags or ():
            kinds.setdefault(key, Counter())[value] += 1
    return [
        (kind, ", ".join(f"{value}: {count}" for value, count in counts.most_common(8)))
        for kind, counts in kinds.items()
    ]


def _thumbnail(image: Path):
    import cv2

    pixels = read_image(image)
    scale = THUMBNAIL_PX / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
