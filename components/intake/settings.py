"""Settings of the intake step."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from components.shared.settings import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class IntakeSettings(Settings):
    """What a night may vary in intake."""

    dataset_name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")] = "main"
    """Which data set of the store grows."""
    export_format: Literal["detect", "coco", "yolo", "voc", "cvat", "label_studio"] = "detect"
    """Format of the exports in the inbox."""
    origin: Literal["human", "edge", "teacher"] = "human"
    """Who labeled; a teacher's labels enter train only."""

    voc_first_pixel: Literal[1, 0] = 1
    """Number of the first pixel in Pascal VOC files: 1 by its definition, 0 as some tools write it."""

    class_names: tuple[str, ...] = ()
    """Class registry in its order, fixed for ever (it may grow at its end). Empty: the first export registers it."""
    class_aliases: dict[str, str] = Field(default_factory=dict)
    """Other spellings of registered classes. Nothing else is ever matched loosely."""

    name_pattern: str = ""
    r"""Regular expression over image names; its named groups are tags that the export lacks: `(?P<camera>c\d+)_`."""
    group_by: tuple[str, ...] = ("camera", "session")
    """Tags that make a group (a scene that must not be split); an image without all of them is its own group."""
    val_share: Share = 0.15
    """Share of groups that watch over training."""
    test_share: Share = 0.15
    """Share of groups that judge."""
    split_salt: str = "yanshan"
    """Touches groups not seen before only: a split is for ever."""
    fill_empty_splits: bool = True
    """While a split has no group at all, it gets the next unseen group by hash, threshold or not (small data sets)."""
    bump_test_set: bool = False
    """Let the test images waiting in the pool enter a new version of the frozen test set."""

    max_quarantined_share: Share = 0.05
    """Largest share of quarantined rows in a batch; more stops intake."""
    max_quarantined_share_of_one: Share = 0.20
    """The same for the rows of one class or one camera."""
    min_rows_to_judge: PositiveInt = 20
    """Fewer rows (of a batch, a class or a camera) are too few to judge a share, unless all are quarantined."""

    min_side_px: PositiveFloat = 1.0
    """Narrower boxes are quarantined."""
    min_inside_share: Share = 0.5
    """A box with less of its area inside the image is quarantined, with more it is clipped."""
    duplicate_iou: Share = 0.98
    """Two boxes of one class that overlap more are one box."""
    max_image_megapixels: PositiveFloat = 64.0
    """Larger images are quarantined before they are decoded."""
