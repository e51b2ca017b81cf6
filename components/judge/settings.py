"""Settings of the judge step: the rules of the gate, as data."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from components.shared.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]


class JudgeSettings(Settings):
    """What a night may vary in judge. Margins are in points of 1.0: 0.01 is one point of mAP or recall."""

    judged: Literal["int8", "float"] = "int8"
    """The artifact that ships, and so the one that is compared with the champion's."""
    require: Literal["better", "not_worse"] = "better"
    """`better`: the mAP gain's lower bound must be above zero at the night's share of `alpha`; `not_worse` also takes a
    model that is as good within the margins."""
    alpha: Alpha = 0.05
    """Chance, over all nights on one test set together, of calling an equal model better; and of each other bound."""
    key_classes: tuple[str, ...] = ()
    """Classes whose recall must not fall; all of them when empty."""
    recall_margin: Share = 0.01
    """A key class may lose so much recall at its working threshold."""
    map_margin: Share = 0.005
    """The mAP may fall by so much."""
    slice_margin: Share = 0.03
    """A slice that surely lost more mAP than this needs a reviewer's waiver."""
    min_slice_boxes: NonNegativeInt = 50
    """Slices with fewer labelled boxes are shown, not judged."""
    min_slice_groups: NonNegativeInt = 4
    """And those of fewer groups: their redraws say nothing."""
    min_map_50_95: Share = 0.25
    """Floor of the judged artifact."""
    min_key_recall: Share = 0.3
    """Floor of every key class at its working threshold."""
    min_key_boxes: NonNegativeInt = 100
    """Labelled boxes of every key class that the test set must hold before the gate says anything."""
    int8_map_margin: Share = 0.015
    """INT8 may lose so much mAP against the night's own float model."""
    int8_recall_margin: Share = 0.02
    """And so much recall of a key class."""
    max_size_bytes: NonNegativeInt = 0
    """Of the judged artifact; 0: no budget."""
    max_latency_ms: NonNegativeFloat = 0.0
    """Median of the judged artifact, where it was measured; 0: no budget."""
    max_latency_ratio: NonNegativeFloat = 1.25
    """Against the champion's on the same kind of machine; 0: no budget."""
    when_unresolved: Literal["undecided", "pass"] = "undecided"
    """What a rule comes to when the test set is too small to tell: a reviewer's question, or let through."""
