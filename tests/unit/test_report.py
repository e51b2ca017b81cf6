"""Pages that stand alone, and figures that do not disturb each other."""

import re

import numpy as np

from components.shared.report import figure, page, picture, start_figure


def drawn(title: str) -> str:
    fig, axes = start_figure()
    axes.plot([0, 1], [0, 1])
    axes.set_title(title)
    return figure(fig)


def test_a_page_escapes_its_title_and_follows_the_readers_colours() -> None:
    whole = page("<b>&", "<p>body</p>")
    assert "<title>&lt;b&gt;&amp;</title>" in whole and "<p>body</p>" in whole
    assert "prefers-color-scheme:dark" in whole and "@media print" in whole and "<script" not in whole


def test_two_figures_on_a_page_share_no_id_and_every_reference_finds_its_own() -> None:
    first, second = drawn("one"), drawn("two")
    assert first == drawn("one"), "the same figure is the same text"
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg)) <= own
        assert "one" in first and "<metadata" not in svg


def test_a_picture_carries_its_pixels_and_a_plain_caption() -> None:
    said = picture(np.zeros((20, 30, 3), np.uint8), 'a "<b>')
    assert 'width="30" height="20"' in said and "data:image/jpeg;base64," in said
    assert "<b>" not in said and "&lt;b&gt;" in said
    assert picture(np.zeros((20, 30, 3), np.uint8)).startswith("<img")
