"""The intake report: what was accepted, repaired and quarantined, and why."""

from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment

from components.intake.findings import Finding
from components.shared.dataset import DatasetVersion
from components.shared.report import page
from components.shared.store import Store

BODY = """
<table><tr>{% for key in summary %}<th>{{ key }}</th>{% endfor %}</tr>
<tr>{% for value in summary.values() %}<td>{{ value }}</td>{% endfor %}</tr></table>
{% if version %}<p>Data set <code>{{ version.digest }}</code>, test set <code>{{ version.test_set }}</code></p>
<h2>Data set</h2>
<table>{% for key, value in version.counts.items() if key != "by_class" %}
<tr><th>{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}</table>
<h2>Boxes by class</h2>
<table>{% for key, value in version.counts.by_class.items() %}<tr><th>{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}</table>
{% else %}<p><strong>Refused: nothing entered the data set.</strong></p>{% endif %}
<h2>Findings</h2>
<table><tr><th>code</th><th>action</th><th>rows</th></tr>
{% for (code, action), count in codes %}<tr><td>{{ code }}</td><td>{{ action }}</td><td>{{ count }}</td></tr>
{% endfor %}</table>
<table><tr><th>image</th><th>row</th><th>code</th><th>action</th><th>message</th></tr>
{% for finding in findings[:shown] %}
<tr><td>{{ finding.image }}</td><td>{{ finding.row }}</td><td>{{ finding.code }}</td>
<td>{{ finding.action }}</td><td>{{ finding.message }}</td></tr>
{% endfor %}</table>
{% if findings | length > shown %}<p>{{ findings | length - shown }} more in findings.parquet.</p>{% endif %}
"""
SHOWN = 500


def write_report(
    path: Path, store: Store, version: DatasetVersion | None, summary: dict[str, Any], findings: list[Finding]
) -> None:
    """Write the self-contained HTML report."""
    codes = Counter((str(finding.code), finding.action) for finding in findings).most_common()
    body = Environment(autoescape=True).from_string(BODY)
    html = body.render(version=version, summary=summary, codes=codes, findings=findings, shown=SHOWN)
    path.write_text(page("Labeling intake", html), encoding="utf-8")
