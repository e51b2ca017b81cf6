"""The look that all reports share: one self-contained page, light and dark, fit for a sandboxed frame and for print."""

import base64
import html
import io
import re
from typing import Any

import numpy as np

from components.shared.digests import digest_bytes

FIGURE_INK = "#7d8590"
"""Text and axes of figures: a grey that reads on white and on near-black."""
PALETTE = ("#0d9488", "#d97706", "#6366f1", "#be185d", "#65a30d", "#0284c7", "#a16207", "#9333ea")
"""Series colours, told apart on both backgrounds; the first is the challenger's, the second the champion's."""

_STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--ink:#1d2328;--soft:#5c666f;--line:#e2dfd8;--card:#fff;--accent:#0f766e;
--good:#15803d;--bad:#b91c1c;--warn:#b45309;--good-wash:#e7f5ea;--bad-wash:#fdeaea;--warn-wash:#fdf3e1}
@media (prefers-color-scheme:dark){:root{--paper:#14181c;--ink:#e6e8ea;--soft:#9aa5ae;--line:#2b323a;--card:#1a1f25;
--accent:#2dd4bf;--good:#4ade80;--bad:#f87171;--warn:#fbbf24;--good-wash:#14301f;--bad-wash:#3a1a1a;--warn-wash:#35280f}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 64px}
h1{font-size:1.65rem;line-height:1.2;margin:0 0 .3em;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:2.2em 0 .6em;padding-top:.8em;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.4em 0 .4em}
p,ul{max-width:72ch;margin:.5em 0}a{color:var(--accent)}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em;overflow-wrap:anywhere}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.verdict{border-left:5px solid var(--soft);background:var(--card);padding:14px 18px;
border-radius:0 8px 8px 0;margin:16px 0}
.verdict.good{border-color:var(--good);background:var(--good-wash);color:var(--ink)}
.verdict.bad{border-color:var(--bad);background:var(--bad-wash);color:var(--ink)}
.verdict.warn{border-color:var(--warn);background:var(--warn-wash);color:var(--ink)}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}
.tile{flex:1 1 150px;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:1.4rem;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:.85rem}
.scroll{overflow-x:auto;margin:.8em 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem;min-width:50%}
th,td{padding:6px 12px 6px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td:first-child{min-width:9ch}th{color:var(--soft);font-weight:600;white-space:nowrap}td.num,th.num{text-align:right;white-space:nowrap}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:18px;align-items:start}
.figures.small{grid-template-columns:repeat(auto-fit,minmax(min(100%,290px),1fr))}
figure{margin:.8em 0;min-width:0}figure svg{max-width:100%;height:auto;display:block}
figcaption{color:var(--soft);font-size:.85rem;margin-top:4px;overflow-wrap:anywhere}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}
.gallery figure{margin:0}.gallery img{width:100%;border-radius:6px;display:block;border:1px solid var(--line)}
img{max-width:100%}
@media (max-width:480px){main{padding:18px 14px 40px}h1{font-size:1.35rem}.gallery{grid-template-columns:1fr 1fr}}
@media print{body{background:#fff}main{max-width:none;padding:0}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


def page(title: str, body_html: str) -> str:
    """A whole HTML document around `body_html`, which must already be escaped."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n{body_html}\n</main></body></html>\n"
    )


def figure(fig: Any) -> str:
    """Inline SVG of a matplotlib Figure; its background is left out so that it fits light and dark pages."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "yanshan"}):
        fig.savefig(
            stream,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    return f"<figure>{_with_own_ids(svg)}</figure>"


def _with_own_ids(svg: str) -> str:
    """Several figures share a page, so the ids of one must not be those of another."""
    prefix = f"f{digest_bytes(svg.encode())[:8]}"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)


def picture(bgr: np.ndarray, caption: str = "", quality: int = 82) -> str:
    """An <img> (in a <figure> when captioned) with the pixels inside.

    Args:
        bgr: (H, W, 3) uint8.
        caption: Plain text; escaped here.
        quality: JPEG quality, 1 to 100.
    """
    import cv2

    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    height, width = bgr.shape[:2]
    source = base64.b64encode(data.tobytes()).decode("ascii")
    alt = html.escape(caption, quote=True)
    image = (
        f'<img src="data:image/jpeg;base64,{source}" width="{width}" height="{height}" alt="{alt}" style="height:auto">'
    )
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>" if caption else image


def start_figure(width_in: float = 5.2, height_in: float = 3.2) -> tuple[Any, Any]:
    """A matplotlib Figure and its one Axes in the reports' look: no frame, grey ink, small type."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    look: Any = {"font.size": 9, "text.color": FIGURE_INK, "axes.labelcolor": FIGURE_INK, "axes.edgecolor": FIGURE_INK}
    look |= {"xtick.color": FIGURE_INK, "ytick.color": FIGURE_INK}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "legend.frameon": False}
    with rc_context(look):
        fig = Figure(figsize=(width_in, height_in))
        axes = fig.add_subplot()
    return fig, axes
