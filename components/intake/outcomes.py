"""What became of the rows of a batch, and whether the batch is fit to enter at all."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from components.intake.findings import ACCEPTED, QUARANTINED, REPAIRED, Finding
from components.intake.labels import LabeledImage
from components.intake.settings import IntakeSettings

_SEVERITY = (ACCEPTED, REPAIRED, QUARANTINED)
Tally = Counter[tuple[str, str]]
"""Rows of one image by class name and by what became of them."""


def tally(told: LabeledImage, findings: Iterable[Finding]) -> Tally:
    """Every row of an image once, by the worst that happened to it or to its image."""
    worst = dict.fromkeys(told.rows, ACCEPTED)
    for finding in findings:
        for row in [finding.row] if finding.row else worst:
            worst[row] = max(worst.get(row, ACCEPTED), finding.action, key=_SEVERITY.index)
    classes = {label.row: label.class_name for label in told.labels}
    return Counter((classes.get(row, ""), action) for row, action in worst.items())


@dataclass
class Outcomes:
    """Rows of a batch by what became of them, with the findings in the export's order."""

    rows: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    """Rows of each class and of each camera."""
    lost: Counter[str] = field(default_factory=Counter)
    """Those of them that were quarantined for a fault of theirs."""
    aside: int = 0
    """Rows quarantined for what the data set holds already (a leak): no fault of the batch."""

    def add(self, rows: Tally, camera: str, findings: Iterable[Finding], quarantined: bool = False) -> None:
        """Count one image's rows; all of them as quarantined when the image is."""
        self.findings += findings
        for (class_name, action), count in rows.items():
            self.rows[QUARANTINED if quarantined else action] += count
            self.aside += count * quarantined
            for one in (f"class {class_name}" if class_name else "", f"camera {camera}" if camera else ""):
                self.told[one] += count
                self.lost[one] += count * (action == QUARANTINED)


def shortfalls(outcomes: Outcomes, settings: IntakeSettings) -> list[str]:
    """One sentence per share of quarantined rows that is too large; an empty list lets the batch in."""
    total, lost = outcomes.rows.total() - outcomes.aside, outcomes.rows[QUARANTINED] - outcomes.aside
    found = []
    if 0 < total == lost or (total >= settings.min_rows_to_judge and lost > settings.max_quarantined_share * total):
        found.append(f"{lost} of {total} rows are quarantined, at most {settings.max_quarantined_share:.0%} may be")
    for one, rows in sorted(outcomes.told.items()):
        limit = settings.max_quarantined_share_of_one
        if one and rows >= settings.min_rows_to_judge and outcomes.lost[one] > limit * rows:
            found.append(f"{outcomes.lost[one]} of {rows} rows of {one} are quarantined, at most {limit:.0%} may be")
    return found
