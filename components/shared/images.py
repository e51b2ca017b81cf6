"""The container image of each kind of environment. The only module that reads image names from the environment."""

import os

REGISTRY = os.environ.get("YANSHAN_IMAGE_REGISTRY", "yanshan")
TAG = os.environ.get("YANSHAN_IMAGE_TAG", "0.1.0")
"""A git commit in production: the tag stands for all code in the image and is never reused."""


def image(kind: str) -> str:
    """Reference of the image for `kind`, or what `YANSHAN_IMAGE_<KIND>` pins it to (by digest, in production)."""
    return os.environ.get(f"YANSHAN_IMAGE_{kind.upper()}", f"{REGISTRY}/{kind}:{TAG}")


DATA = image("data")
TRAINING = image("training")
ENGINE = image("engine")
RELEASE = image("release")
