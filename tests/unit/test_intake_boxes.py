"""Boxes of rotated labels and of photos that lie on their side, against an independent turn of the pixels."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from components.intake.boxes import check_labels
from components.intake.images import examine
from components.intake.labels import Label, LabeledImage
from components.intake.settings import IntakeSettings

SETTINGS = IntakeSettings()


def check(told: LabeledImage, size_px: tuple[int, int], orientation: int = 1) -> np.ndarray:
    return check_labels(told, size_px, orientation, {"thing": 0}, SETTINGS).boxes


@pytest.mark.parametrize("pivot", ["centre", "corner"])
@pytest.mark.parametrize("rotation", [-170, -45, 15, 30, 90, 135, 360])
def test_the_hull_of_a_rotated_box_is_the_hull_of_its_rotated_pixels(pivot: str, rotation: float) -> None:
    label = Label("1", "thing", (160, 120, 220, 160), rotation, pivot)  # type: ignore[arg-type]
    box = check(LabeledImage("a", "a", (label,)), (400, 300))[0]
    canvas = Image.new("L", (400, 300))
    canvas.paste(255, (160, 120, 220, 160))
    centre = (190, 140) if pivot == "centre" else (160, 120)
    turned = canvas.rotate(-rotation, Image.Resampling.BILINEAR, center=centre).point(lambda value: 255 * (value > 127))
    np.testing.assert_allclose(box, turned.getbbox(), atol=1.5)


def test_percent_boxes_turn_in_pixels_not_in_percent() -> None:
    label = Label("1", "thing", (0.5, 0.5, 0.6, 0.6), 90.0, "corner")
    box = check(LabeledImage("a", "a", (label,), relative=True), (400, 200))[0]
    np.testing.assert_allclose(box, [180, 100, 200, 140], atol=1e-4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tool_saw", ["unturned", "upright"])
def test_boxes_of_a_turned_photo_lie_where_the_thing_is(orientation: int, tool_saw: str) -> None:
    upright = Image.new("RGB", (96, 64), (20, 30, 40))
    upright.paste((250, 240, 20), (16, 8, 40, 24))
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    exif = Image.Exif()
    exif[0x0112] = undo
    stored = ImageOps.exif_transpose(_tagged(upright, exif))
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=98, subsampling=0, exif=exif)
    picture = examine(buffer.getvalue(), 64)
    assert (picture.width_px, picture.height_px) == (96, 64)
    seen = upright if tool_saw == "upright" else stored
    if tool_saw == "unturned" and orientation in (2, 3, 4):
        return  # sizes do not tell; tools that ignore EXIF cannot be told from those that do not
    box = _yellow(seen)
    told = LabeledImage("a", "a", (Label("1", "thing", box),), width_px=seen.width, height_px=seen.height)
    np.testing.assert_allclose(check(told, (96, 64), orientation)[0], (16, 8, 40, 24), atol=1)


def test_boxes_that_label_studio_stretched_are_stretched_back() -> None:
    told = LabeledImage("a", "a", (Label("1", "thing", (10, 40, 20, 80)),), width_px=64, height_px=96, rescale=True)
    np.testing.assert_allclose(check(told, (96, 64), orientation=6)[0], (15, 26.667, 30, 53.333), atol=0.01)


def _tagged(image: Image.Image, exif: Image.Exif) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    return Image.open(buffer)


def _yellow(image: Image.Image) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(np.asarray(image.convert("RGB"))[:, :, 0] > 130)
    return (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
