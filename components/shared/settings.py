"""The form of every step's settings, and how they come back from Kubeflow."""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.errors import InvalidInput


class Settings(BaseModel):
    """Base of a step's settings: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def changed(self, **changes: Any) -> Self:
        """A validated copy with some fields replaced.

        Raises:
            InvalidInput: an unknown field or an unfit value.
        """
        return read_settings(type(self), self.model_dump(mode="json") | changes)


Kind = TypeVar("Kind", bound=BaseModel)


def read_settings(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Build `kind` from what a Kubeflow parameter carried (its whole numbers arrive as floats).

    Raises:
        InvalidInput: names every unknown, missing and wrong key at once.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as refusal:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in refusal.errors())
        raise InvalidInput(f"{kind.__name__}: " + "; ".join(problems)) from refusal
