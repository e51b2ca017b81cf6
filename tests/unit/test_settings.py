"""Settings: strict, frozen, and the same after Kubeflow carried them."""

import pytest
from pydantic import PositiveInt, ValidationError

from components.shared.errors import InvalidInput
from components.shared.settings import Settings, read_settings


class Toy(Settings):
    epochs: PositiveInt = 3
    rate: float = 0.5


def test_whole_numbers_that_arrive_as_floats_are_whole_again() -> None:
    assert read_settings(Toy, {"epochs": 7.0}).epochs == 7


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_settings(Toy, {"epochs": 0, "rate": "fast", "epocs": 3})
    assert all(word in str(refusal.value) for word in ("epochs", "rate", "epocs", "'fast'"))


def test_a_changed_copy_leaves_the_original() -> None:
    toy = Toy()
    assert toy.changed(epochs=9).epochs == 9
    assert toy.epochs == 3


def test_a_changed_copy_is_checked() -> None:
    with pytest.raises(InvalidInput):
        Toy().changed(epochs=-1)


def test_settings_cannot_be_written_to() -> None:
    with pytest.raises(ValidationError):
        Toy().epochs = 4  # type: ignore[misc]
