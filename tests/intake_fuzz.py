"""Hypothesis strategies that break exports: by changed documents, and by changed bytes."""

import json
import re

from hypothesis import strategies as st

from tests.intake_defects import Files, clean

FORMATS = ("coco", "yolo", "voc", "cvat", "label_studio")
ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ODD_NUMBERS = ["nan", "inf", "-inf", "1e999", "-1", "0x10", "1_0", "\u0663", "", "99999999999999"]
ODD_TEXT = st.text(max_size=8) | st.sampled_from(ODD_NUMBERS)


def label_files(files: Files) -> list[str]:
    return sorted(name for name in files if not name.endswith((".png", ".jpg")))


@st.composite
def broken_export(draw: st.DrawFn, format: str) -> Files:
    """A clean export with a few of its label files changed."""
    files = clean(format)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(label_files(files)))
        if draw(st.booleans()):
            files[name] = draw(_other_bytes(files[name]))
        elif name.endswith(".json"):
            files[name] = draw(_other_json(files[name]))
        else:
            files[name] = draw(_other_words(files[name]))
    return files


@st.composite
def _other_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut, overwritten, repeated or inserted bytes."""
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(len(data), start + 40)))
    return data[:start] + draw(st.binary(max_size=12)) * draw(st.integers(0, 3)) + data[stop:]


@st.composite
def _other_json(draw: st.DrawFn, data: bytes) -> bytes:
    """One value somewhere in the document replaced, or removed."""
    try:
        document = json.loads(data)
    except ValueError:
        return data
    place = document
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 3)) == 0:
            if draw(st.booleans()):
                place[key] = draw(ODD_JSON)
            else:
                del place[key]
            break
        place = place[key]
    return json.dumps(document).encode("utf-8", "surrogatepass")


@st.composite
def _other_words(draw: st.DrawFn, data: bytes) -> bytes:
    """One number or word of a text or XML file replaced."""
    content = data.decode("utf-8", "replace")
    words = list(re.finditer(r"[\w.-]+", content))
    if not words:
        return data
    word = draw(st.sampled_from(words))
    return (content[: word.start()] + draw(ODD_TEXT) + content[word.end() :]).encode("utf-8", "replace")
