"""Settings of the augment step."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from components.shared.settings import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Photometry = Literal["night", "motion-blur", "noise", "compression", "fog"]


class AugmentSettings(Settings):
    """What a night may vary in augment."""

    rare_class_share: Share = 0.3
    """A class in fewer of the train images than this is raised by repeating images that hold it; 0 repeats none."""
    key_classes: tuple[str, ...] = ()
    """Classes that must not be missed: pasted and repeated more."""
    key_class_gain: Annotated[float, Field(ge=1.0)] = 2.0
    """How much more often than rarity alone would have it."""
    hard_sample_gain: Annotated[float, Field(ge=1.0)] = 2.0
    """How much more often an image counts that a device sent back (origin edge) or a labeler flagged as hard."""
    replay_share: Share = 1.0
    """Share of the train images of earlier batches that stay; the newest batch always stays whole."""
    most_repeats: PositiveInt = 4
    """No image counts more often than this in an epoch."""
    photometry_share: Share = 0.2
    """Share of the train images that get a second form under other light, lens or codec."""
    photometry: tuple[Photometry, ...] = ("night", "motion-blur", "noise", "compression", "fog")
    paste_share: Share = 0.1
    """Share of the train images that get a second form with rare and key objects pasted onto free places."""
    crop_share: Share = 0.1
    """Share of the train images that get a second form: a window that cuts no object."""
    pictured_images: NonNegativeInt = 12
    """Images on the report's contact sheets."""
    seed: NonNegativeInt = 0
