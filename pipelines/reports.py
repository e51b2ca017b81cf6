"""A page that leads to every released version's reports: files only, no server."""

import html
from pathlib import Path

from components.release.states import Standing, standing
from components.shared.ledger import Record
from components.shared.releases import Release, bring_release
from components.shared.report import page
from components.shared.store import Store


def write_index(store: Store, model_name: str, folder: Path) -> Path:
    """Bring the reports of every version to `folder` and write `index.html` beside them.

    Returns:
        The index page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = standing(store, model_name)
    rows = []
    for release in reversed(seen.releases):
        bring_release(store, release, folder / f"{model_name}-{release.version}", "reports")
        rows.append(_row(release, seen))
    index = folder / "index.html"
    beside = folder / ".writing-index.html"
    beside.write_text(page(f"{model_name}: released versions", _body(model_name, rows, seen)))
    beside.replace(index)
    return index


def _body(model_name: str, rows: list[str], seen: Standing) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("version", "state", "mAP50-95", "INT8", "data set", "reports"))
    table = f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'
    decisions = "".join(_decision(record) for record in reversed(seen.records))
    return (
        f"<h1>{html.escape(model_name)}</h1>"
        + (table if rows else "<p>Nothing was released yet.</p>")
        + f"<h2>Decisions</h2>{f'<ul>{decisions}</ul>' if decisions else '<p>None yet.</p>'}"
    )


def _row(release: Release, seen: Standing) -> str:
    summary, state = release.record["scores_summary"], str(seen.states[release.version])
    pages = [file["path"] for file in release.record["files"] if file["path"].startswith("reports/")]
    links = ", ".join(
        f'<a href="{html.escape(f"{release.model_name}-{release.version}/{path}")}">{html.escape(Path(path).stem)}</a>'
        for path in pages
    )
    numbers = "".join(f'<td class="num">{summary[kind]["map_50_95"]:.3f}</td>' for kind in ("float", "int8"))
    tone = {"champion": "good", "rejected": "bad", "challenger": "warn"}.get(state, "soft")
    return (
        f'<tr><td>{release.version}</td><td class="{tone}">{state}</td>{numbers}'
        f"<td><code>{html.escape(release.record['dataset'][:12])}</code></td><td>{links}</td></tr>"
    )


def _decision(record: Record) -> str:
    body = record.body
    words = f"{body['at'][:19]}Z {body['kind']} {body['version']} by {body['actor']}: {body['reason']}"
    return f"<li>{html.escape(words)}</li>"
