"""Which parser reads an export: detected from its files, or told."""

from components.intake.coco import is_coco, parse_coco
from components.intake.cvat import is_cvat, parse_cvat
from components.intake.label_studio import is_label_studio, parse_label_studio
from components.intake.labels import Parsed
from components.intake.settings import IntakeSettings
from components.intake.sources import EXPECTED, Export
from components.intake.voc import is_voc, parse_voc
from components.intake.yolo import is_yolo, parse_yolo
from components.shared.errors import InvalidInput

LOOKS = {"coco": is_coco, "yolo": is_yolo, "voc": is_voc, "cvat": is_cvat, "label_studio": is_label_studio}


def is_export(export: Export) -> bool:
    """Whether some parser reads this export."""
    return any(looks(export) for looks in LOOKS.values())


def parse(export: Export, settings: IntakeSettings) -> Parsed:
    """Open `export` with the parser that fits, or with the one that the settings name.

    Raises:
        InvalidInput: no parser fits, several do, or the export's frame cannot be read.
    """
    fitting = [name for name, looks in LOOKS.items() if looks(export)]
    if settings.export_format != "detect":
        fitting = [name for name in fitting if name == settings.export_format]
    if len(fitting) != 1:
        raise InvalidInput(
            f"{export.where}: looks like {' and '.join(fitting) or 'no export'}, expected "
            + (EXPECTED if settings.export_format == "detect" else f"format {settings.export_format}")
            + ("; name one in intake.export_format" if fitting else "")
        )
    return _parse(export, fitting[0], settings)


def _parse(export: Export, export_format: str, settings: IntakeSettings) -> Parsed:
    if export_format == "voc":
        return parse_voc(export, settings.voc_first_pixel)
    parsers = {"coco": parse_coco, "yolo": parse_yolo, "cvat": parse_cvat, "label_studio": parse_label_studio}
    return parsers[export_format](export)
