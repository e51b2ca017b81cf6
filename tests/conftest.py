"""What every test may use: golden files, and a fresh store in a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from components.shared.store import Store, open_store

GOLDEN = Path(__file__).parent / "golden"
open_image = Image.open


@pytest.fixture(autouse=True)
def pillow_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics replaces Pillow's `open` for the whole process; outside the training image nobody does."""
    monkeypatch.setattr(Image, "open", open_image)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew; then review the diff")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(name) for name in ("slow", "containers")):
            item.add_marker(pytest.mark.timeout(3000))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with its golden file; `--update-golden` writes it."""

    def compare(text: str, name: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text)
        assert text == path.read_text(), f"{name} differs; if that is meant: pytest --update-golden, review the diff"

    return compare


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())
