"""The evaluation report: what a reviewer reads before promoting."""

import html
from typing import Any

import numpy as np

from components.evaluate.measured import Measured
from components.evaluate.settings import EvaluateSettings
from components.evaluate.truth import Truth
from components.shared.report import page


def evaluation_page(
    scores: dict[str, Any], models: dict[str, Measured], test: Truth, settings: EvaluateSettings
) -> str:
    """The whole page."""
    body = [
        f"<h1>mAP evaluation</h1><p class='soft'>{html.escape(scores['test_set'])}, {scores['test_images']} images</p>"
    ]
    rows = [
        f"<tr><td>{html.escape(name)}</td><td class='num'>{model.summary['map_50_95']:.4f}</td>"
        f"<td class='num'>{model.summary['map_50']:.4f}</td></tr>"
        for name, model in models.items()
    ]
    body.append(
        "<table><tr><th>model</th><th class='num'>mAP 50:95</th><th class='num'>mAP 50</th></tr>"
        + "".join(rows)
        + "</table>"
    )
    assert np.isfinite(settings.min_score) and test.class_names
    return page("mAP evaluation", "\n".join(body))
