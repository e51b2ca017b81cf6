"""Which parser reads an export: detected from its files, or told."""

from components.intake.coco import is_coco, parse_coco
from components.intake.labels import Parsed
from components.intake.sources import EXPECTED, Export
from components.intake.yolo import is_yolo, parse_yolo
from components.shared.errors import InvalidInput

FORMATS = {"coco": (is_coco, parse_coco), "yolo": (is_yolo, parse_yolo)}


def is_export(export: Export) -> bool:
    """Whether some parser reads this export."""
    return any(looks(export) for looks, _ in FORMATS.values())


def parse(export: Export, export_format: str) -> Parsed:
    """Open `export` with the parser of `export_format`, or with the one that fits when it is `detect`.

    Raises:
        InvalidInput: no parser fits, several do, or the export's frame cannot be read.
    """
    if export_format != "detect":
        return FORMATS[export_format][1](export)
    fitting = [name for name, (looks, _) in FORMATS.items() if looks(export)]
    if len(fitting) != 1:
        raise InvalidInput(
            f"{export.where}: looks like {' and '.join(fitting) or 'no export'}; expected {EXPECTED}; "
            f"set intake.export_format to say which"
        )
    return FORMATS[fitting[0]][1](export)
