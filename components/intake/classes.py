"""The class registry: the first export (or the settings) fixes names and order, later exports must agree."""

from collections.abc import Mapping, Sequence

from components.intake.findings import Code
from components.intake.labels import Parsed
from components.intake.settings import IntakeSettings
from components.shared.errors import InvalidInput


def registry(registered: Sequence[str], settings: IntakeSettings) -> tuple[str, ...]:
    """Class names in their order for ever; the settings may add names at the end.

    Raises:
        InvalidInput: the settings disagree with what is registered.
    """
    wanted = tuple(settings.class_names)
    if not registered or not wanted:
        return tuple(registered) or wanted
    if wanted[: len(registered)] != tuple(registered):
        raise InvalidInput(
            f"intake.class_names: got {list(wanted)}, expected to begin with the registered {list(registered)}; "
            "their order is fixed for ever, new names go to the end"
        )
    return wanted


def first_classes(exports: Sequence[Parsed], aliases: Mapping[str, str]) -> tuple[str, ...]:
    """The registry that the first exports make: the first declared list, else all names that labels use, sorted."""
    declared = next((parsed.class_names for parsed in exports if parsed.class_names), ())
    names = declared or sorted({name for parsed in exports for name in parsed.names_seen()})
    return tuple(dict.fromkeys(aliases.get(name, name) for name in names if name))


def agree(
    where: str, declared: Sequence[str], by_index: bool, registered: Sequence[str], aliases: Mapping[str, str]
) -> None:
    """Check the classes that an export declares against the registered ones.

    Args:
        where: The export, for the message.
        declared: Its class names, in its order.
        by_index: Whether its labels name classes by their place in that order.
        registered: The registry.
        aliases: Other spellings.

    Raises:
        InvalidInput: a class is not registered, or the order differs where the order carries the meaning.
    """
    known = [aliases.get(name, name) for name in declared]
    unknown = [name for name in known if name not in registered]
    if unknown:
        raise InvalidInput(
            f"{Code.CLS_LIST}: {where} declares classes {list(declared)}, of which {unknown} are not registered; "
            f"expected {list(registered)}; add new ones to the end of intake.class_names, "
            "other spellings to intake.class_aliases"
        )
    if by_index and known != list(registered[: len(known)]):
        raise InvalidInput(
            f"{Code.CLS_INDEX_DRIFT}: {where} numbers its classes {list(declared)}, "
            f"registered is {list(registered)}; the same order is expected, or every label would change its meaning"
        )
