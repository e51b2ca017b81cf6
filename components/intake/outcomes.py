"""What became of the rows of a batch, and whether the batch is fit to enter at all."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from components.intake.findings import ACCEPTED, QUARANTINED, REPAIRED, Finding
from components.intake.labels import LabeledImage
from components.intake.settings import IntakeSettings

_SEVERITY = (ACCEPTED, REPAIRED, QUARANTINED)


@dataclass
class Outcomes:
    """Rows by what became of them; every row counts once, by the worst that happened to it or to its image."""

    rows: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    """Rows of each class and of each camera."""
    lost: Counter[str] = field(default_factory=Counter)
    """Those of them that were quarantined."""

    def tell(self, told: LabeledImage, findings: Iterable[Finding]) -> None:
        """Count the rows of one image."""
        findings = list(findings)
        self.findings += findings
        worst = dict.fromkeys(told.rows, ACCEPTED)
        for finding in findings:
            for row in [finding.row] if finding.row else worst:
                worst[row] = max(worst[row], finding.action, key=_SEVERITY.index)
        self.rows.update(worst.values())
        classes = {label.row: label.class_name for label in told.labels}
        camera = told.tags.get("camera", "")
        for row, action in worst.items():
            for one in (f"class {classes[row]}" if row in classes else "", f"camera {camera}" if camera else ""):
                self.told[one] += 1
                self.lost[one] += action == QUARANTINED


def shortfalls(outcomes: Outcomes, settings: IntakeSettings) -> list[str]:
    """One sentence per share of quarantined rows that is too large; an empty list lets the batch in."""
    total, lost = outcomes.rows.total(), outcomes.rows[QUARANTINED]
    found = []
    if total == lost or (total >= settings.min_rows_to_judge and lost > settings.max_quarantined_share * total):
        found.append(f"{lost} of {total} rows are quarantined, at most {settings.max_quarantined_share:.0%} may be")
    for one, rows in sorted(outcomes.told.items()):
        limit = settings.max_quarantined_share_of_one
        if one and rows >= settings.min_rows_to_judge and outcomes.lost[one] > limit * rows:
            found.append(f"{outcomes.lost[one]} of {rows} rows of {one} are quarantined, at most {limit:.0%} may be")
    return found
