"""The intake report: what was accepted, repaired and quarantined, and why; what the data set now looks like."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image, ImageDraw

from components.intake.findings import QUARANTINED, Finding
from components.shared.dataset import DatasetVersion, object_name
from components.shared.errors import YanshanError
from components.shared.report import page, picture
from components.shared.store import Store

SHOWN_FINDINGS = 500
SHOWN_PICTURES = 24
THUMBNAIL_PX = 240
SHOWN_BARS = 40
MARK = (220, 38, 38)

BODY = """
<style>
.bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:3px 10px;align-items:center;font-size:.9rem}
.bars i{background:var(--accent);height:11px;border-radius:0 3px 3px 0;min-width:1px}.bars span{overflow-wrap:anywhere}
td code{white-space:nowrap}.bars b{font-weight:400;font-variant-numeric:tabular-nums;color:var(--soft)}
</style>
<h1>Labeling intake</h1>
{% macro bars(title, counts) %}{% if counts %}
<figure><h3>{{ title }}</h3><div class="bars">
{% set most = counts.values() | max %}{% for name, count in (counts.items() | list)[:shown_bars] %}
<span>{{ name }}</span><i style="width:{{ '%.1f' % (100 * count / (most or 1)) }}%"></i><b>{{ count }}</b>{% endfor %}
</div>{% if counts | length > shown_bars %}<figcaption>{{ counts | length - shown_bars }} more</figcaption>{% endif %}
</figure>{% endif %}{% endmacro %}
{% if version %}
<div class="verdict {{ 'warn' if summary.quarantined else 'good' }}"><b>{{ summary.new_images }} new images</b>;
{{ summary.accepted }} rows accepted, {{ summary.repaired }} repaired, {{ summary.quarantined }} quarantined.<br>
Data set {{ version.name }} is now <code>{{ version.digest }}</code>,
judged on <code>{{ version.test_set }}</code>.</div>
{% else %}
<div class="verdict bad"><b>Refused: nothing entered the data set.</b>
{% for reason in reasons %}<br>{{ reason }}{% endfor %}</div>{% endif %}
<div class="tiles">
{% for name in ("accepted", "repaired", "quarantined") %}
<div class="tile"><b>{{ summary[name] }}</b><span>rows {{ name }}</span></div>{% endfor %}
{% if version %}
{% for name in ("images", "boxes", "groups", "train", "val", "frozen_test") %}
<div class="tile"><b>{{ version.counts[name] }}</b><span>{{ name | replace("_", " ") }}</span></div>{% endfor %}
{% endif %}
</div>
<h2>What happened to rows that were not simply accepted</h2>
{% if codes %}<div class="scroll"><table><tr><th>code</th><th>what became of it</th><th class="num">findings</th>
<th>an example</th></tr>
{% for (code, action), count, example in codes %}<tr><td><code>{{ code }}</code></td>
<td class="{{ {'quarantined': 'bad', 'repaired': 'warn'}.get(action, 'soft') }}">{{ action }}</td>
<td class="num">{{ count }}</td><td>{{ example.image }} {{ example.row }}: {{ example.message }}</td></tr>
{% endfor %}</table></div>{% else %}<p class="good">Nothing: every row was accepted as it came.</p>{% endif %}
{% if pictures %}<h2>Quarantined, to look at</h2>
<p class="soft">One picture of each kind first; the red box is what the label said.</p>
<div class="gallery">{% for one in pictures %}{{ one }}{% endfor %}</div>{% endif %}
{% if version %}<h2>The data set</h2><div class="figures">
{{ bars("Boxes by class", by_class) }}
{{ bars("Boxes by size (square root of the area, px)", by_size) }}
{{ bars("Images by number of boxes", by_boxes) }}
{{ bars("Images by camera", version.counts.by_camera) }}
{{ bars("Images by day", version.counts.by_day) }}
{{ bars("Images by split", {"train": version.counts.train, "val": version.counts.val, "test": version.counts.test}) }}
</div>{% endif %}
{% if findings %}<h2>Every finding</h2>
<div class="scroll"><table><tr><th>image</th><th>row</th><th>code</th><th>became</th><th>why</th></tr>
{% for finding in findings[:shown_findings] %}<tr><td>{{ finding.image }}</td><td>{{ finding.row }}</td>
<td><code>{{ finding.code }}</code></td><td>{{ finding.action }}</td><td>{{ finding.message }}</td></tr>
{% endfor %}</table></div>
{% if findings | length > shown_findings %}<p class="soft">{{ findings | length - shown_findings }} more in
findings.parquet.</p>{% endif %}{% endif %}
"""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A quarantined row whose picture can be shown: the stored image, and the box in pixels where there is one."""

    finding: Finding
    image_sha256: str
    box: tuple[float, ...]


def write_report(
    path: Path,
    store: Store,
    version: DatasetVersion | None,
    summary: dict[str, Any],
    findings: Sequence[Finding],
    exhibits: Sequence[Exhibit],
    reasons: Sequence[str],
) -> None:
    """Write the self-contained HTML report.

    Args:
        path: Where.
        store: Holds the pictures.
        version: What stands now; None when the batch was refused.
        summary: Rows accepted, repaired and quarantined, and new images.
        findings: In order.
        exhibits: What may be shown.
        reasons: Why the batch was refused.
    """
    by_code: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        by_code[str(finding.code), finding.action].append(finding)
    most_first = sorted(by_code.items(), key=lambda item: (item[0][1] != QUARANTINED, -len(item[1]), item[0]))
    body = Environment(autoescape=True).from_string(BODY)
    html = body.render(
        version=version,
        summary=summary,
        reasons=reasons,
        codes=[(key, len(found), found[0]) for key, found in most_first],
        pictures=[Markup(shown) for shown in (_shown(store, one) for one in chosen(exhibits)) if shown],
        findings=findings,
        shown_findings=SHOWN_FINDINGS,
        shown_bars=SHOWN_BARS,
        **_histograms(version),
    )
    beside = path.with_name(f"{path.name}.writing")
    beside.write_text(page("Labeling intake", html), encoding="utf-8")
    beside.replace(path)


def _histograms(version: DatasetVersion | None) -> dict[str, dict[str, int]]:
    """Classes in the registry's order, sizes and numbers of boxes from small to large."""
    if version is None:
        return {}
    counts = version.counts
    by_number = {
        name: dict(sorted(counts[name].items(), key=lambda item: int(item[0].split()[0])))
        for name in ("by_size", "by_boxes")
    }
    return by_number | {"by_class": {name: counts["by_class"][name] for name in version.class_names}}


def chosen(exhibits: Sequence[Exhibit]) -> list[Exhibit]:
    """The first of every code, then the second of every code, and so on, up to SHOWN_PICTURES."""
    turn: Counter[str] = Counter()
    ranked: list[tuple[int, int, Exhibit]] = []
    for one in exhibits:
        ranked.append((turn[one.finding.code], len(ranked), one))
        turn[one.finding.code] += 1
    return [one for _, _, one in sorted(ranked, key=lambda rank: rank[:2])[:SHOWN_PICTURES]]


def _shown(store: Store, one: Exhibit) -> str:
    """The picture with its box as HTML; empty when it cannot be had."""
    try:
        image = Image.open(BytesIO(store.get(object_name(one.image_sha256)))).convert("RGB")
    except (YanshanError, OSError):
        return ""
    scale = min(1.0, THUMBNAIL_PX / max(image.size))
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    if one.box:
        x0, y0, x1, y1 = (min(max(side * scale, -1e4), 1e4) for side in one.box)
        ImageDraw.Draw(image).rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=MARK, width=2)
    caption = f"{one.finding.code}: {one.finding.image} {one.finding.row}"
    return picture(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]), caption)
