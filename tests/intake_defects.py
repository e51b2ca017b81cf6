"""The defect corpus: small clean exports in five formats, and every named way in which labelers' exports go wrong.

A defect spoils a clean export; intake must answer with its code and action, and leave the other images alone.
"""

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree as xml

import numpy as np
from PIL import Image

Files = dict[str, bytes]
WIDTH, HEIGHT, IMAGES = 64, 48, 4
BOXES = (("crate", (6.0, 8.0, 26.0, 32.0)), ("ball", (30.0, 10.0, 50.0, 40.0)))
CLASSES = ("crate", "ball")
REFUSED = "refused"


@dataclass(frozen=True)
class Defect:
    """A named defect: what spoils the export, and what intake must say."""

    name: str
    format: str
    spoil: Callable[[Files], None]
    code: str
    action: str


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def clean(format: str) -> Files:
    """A clean export of four images with two boxes each; 0.jpg is a JPEG."""
    folder = "JPEGImages" if format == "voc" else "images"
    names = [f"{at}.{'png' if at else 'jpg'}" for at in range(IMAGES)]
    files = {f"{folder}/{name}": encoded(picture(at), "PNG" if at else "JPEG") for at, name in enumerate(names)}
    labels = {"coco": _coco, "yolo": _yolo, "voc": _voc, "cvat": _cvat, "label_studio": _label_studio}
    return files | labels[format](names)


def _coco(names: list[str]) -> Files:
    size = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": at, "file_name": name, **size} for at, name in enumerate(names)]
    annotations = [
        {"id": 10 * at + k, "image_id": at, "category_id": k + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for at in range(len(names))
        for k, (_, (x0, y0, x1, y1)) in enumerate(BOXES)
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
    return {"coco.json": json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()}


def _yolo(names: list[str]) -> Files:
    rows = [
        f"{k} {(x0 + x1) / 2 / WIDTH} {(y0 + y1) / 2 / HEIGHT} {(x1 - x0) / WIDTH} {(y1 - y0) / HEIGHT}"
        for k, (_, (x0, y0, x1, y1)) in enumerate(BOXES)
    ]
    labels = {f"labels/{name[:-4]}.txt": "\n".join(rows).encode() for name in names}
    return {"data.yaml": b"nc: 2\nnames: [crate, ball]\n", **labels}


def clean_yolo_row() -> str:
    """The first row of every label file."""
    return clean("yolo")["labels/0.txt"].decode().splitlines()[0]


def _voc(names: list[str]) -> Files:
    files = {}
    for name in names:
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x0 + 1:g}</xmin><ymin>{y0 + 1:g}</ymin><xmax>{x1:g}</xmax>"
            f"<ymax>{y1:g}</ymax></bndbox></object>"
            for label, (x0, y0, x1, y1) in BOXES
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        content = f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"
        files[f"Annotations/{name[:-4]}.xml"] = content.encode()
    return files


def _cvat(names: list[str]) -> Files:
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = ""
    for at, name in enumerate(names):
        boxes = "".join(
            f'<box label="{label}" occluded="0" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"/>'
            for label, (x0, y0, x1, y1) in BOXES
        )
        images += f'<image id="{at}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{boxes}</image>'
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return {"annotations.xml": f"<annotations><version>1.1</version>{meta}{images}</annotations>".encode()}


def _label_studio(names: list[str]) -> Files:
    tasks = [
        {"id": at, "data": {"image": f"/data/upload/1/{name}"}, "annotations": [{"id": at, "result": rectangles()}]}
        for at, name in enumerate(names)
    ]
    return {"tasks.json": json.dumps(tasks).encode()}


def rectangles() -> list[dict]:
    """The two boxes as Label Studio has them."""
    found = []
    for k, (label, (x0, y0, x1, y1)) in enumerate(BOXES):
        value = {"x": 100 * x0 / WIDTH, "y": 100 * y0 / HEIGHT, "rotation": 0, "rectanglelabels": [label]}
        value |= {"width": 100 * (x1 - x0) / WIDTH, "height": 100 * (y1 - y0) / HEIGHT}
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        found.append({"id": f"r{k}", "type": "rectanglelabels", "value": value, **size})
    return found


def _json(file: str, change: Callable) -> Callable[[Files], None]:
    """Change a JSON file's document."""

    def spoil(files: Files) -> None:
        document = json.loads(files[file])
        change(document)
        files[file] = json.dumps(document).encode()

    return spoil


def coco(name: str, code: str, action: str, change: Callable) -> Defect:
    return Defect(f"coco {name}", "coco", _json("coco.json", change), code, action)


def _box(change: Callable) -> Callable:
    """Change the first annotation of a COCO document."""

    def apply(document: dict) -> None:
        change(document["annotations"][0])

    return apply


COCO = [
    coco("negative width", "BOX_NEG", "quarantined", _box(lambda a: a.update(bbox=[30, 10, -20, 10]))),
    coco("zero width", "BOX_ZERO", "quarantined", _box(lambda a: a.update(bbox=[30, 10, 0, 10]))),
    coco("half a pixel", "BOX_ZERO", "quarantined", _box(lambda a: a.update(bbox=[30, 10, 0.4, 10]))),
    coco("nan", "BOX_NAN", "quarantined", _box(lambda a: a.update(bbox=[float("nan"), 1, 2, 3]))),
    coco("infinite", "BOX_NAN", "quarantined", _box(lambda a: a.update(bbox=[1, 1, float("inf"), 3]))),
    coco("mostly outside", "BOX_OOB", "quarantined", _box(lambda a: a.update(bbox=[-30, 10, 40, 10]))),
    coco("wholly outside", "BOX_OOB", "quarantined", _box(lambda a: a.update(bbox=[352, 216, 64, 48]))),
    coco("a little outside", "BOX_OOB", "repaired", _box(lambda a: a.update(bbox=[50, 10, 20, 10]))),
    coco("the same box twice", "BOX_DUP", "repaired",
         lambda d: d["annotations"].append({**d["annotations"][0], "id": 99})),
    coco("three numbers", "BOX_SHAPE", "quarantined", _box(lambda a: a.update(bbox=[1, 2, 3]))),
    coco("text for a number", "BOX_SHAPE", "quarantined", _box(lambda a: a.update(bbox=["1", 2, 3, 4]))),
    coco("no bbox", "BOX_SHAPE", "quarantined", _box(lambda a: a.pop("bbox"))),
    coco("segmentation only", "BOX_SHAPE", "repaired",
         _box(lambda a: (a.pop("bbox"), a.update(segmentation=[[4, 6, 24, 6, 24, 30]])))),
    coco("crowd region", "BOX_SHAPE", "quarantined", _box(lambda a: a.update(iscrowd=1))),
    coco("rotated box", "BOX_ROTATED", "repaired", _box(lambda a: a.update(attributes={"rotation": 20.0}))),
    coco("unknown category", "CLS_UNKNOWN", "quarantined", _box(lambda a: a.update(category_id=99))),
    coco("no category", "CLS_UNKNOWN", "quarantined", _box(lambda a: a.pop("category_id"))),
    coco("annotation of no image", "LBL_ORPHAN", "quarantined", _box(lambda a: a.update(image_id=99))),
    coco("annotation that is a number", "LBL_ORPHAN", "quarantined", lambda d: d["annotations"].append(7)),
    coco("image id twice", "IMG_AMBIGUOUS", "quarantined",
         lambda d: d["images"].append({"id": 0, "file_name": "1.png"})),
    coco("image without a name", "LBL_UNREADABLE", "quarantined", lambda d: d["images"].append({"id": 9})),
    coco("image that is a list", "LBL_UNREADABLE", "quarantined", lambda d: d["images"].append([])),
    coco("name that climbs out", "IMG_MISSING", "quarantined",
         lambda d: d["images"].append({"id": 9, "file_name": "../../../../etc/passwd"})),
    Defect("coco image missing", "coco", lambda f: f.pop("images/1.png"), "IMG_MISSING", "quarantined"),
    Defect("coco image not listed", "coco", lambda f: f.update({"images/x.png": f["images/1.png"]}),
           "LBL_MISSING", "unlisted"),
    coco("other sides than the image", "IMG_SIZE_MISMATCH", "quarantined", lambda d: d["images"][1].update(width=640)),
    coco("one image listed twice", "DUP_EXACT", "quarantined",
         lambda d: d["images"].append({**d["images"][1], "id": 50})),
    coco("category id twice", "categories repeat", REFUSED, lambda d: d["categories"][1].update(id=1)),
    coco("category name twice", "categories repeat", REFUSED, lambda d: d["categories"][1].update(name="crate")),
    coco("category without name", "lack ids or names", REFUSED, lambda d: d["categories"][1].pop("name")),
    coco("no categories", "no list 'categories'", REFUSED, lambda d: d.pop("categories")),
    coco("no images at all", "without images", REFUSED, lambda d: d.update(images=[], annotations=[])),
    Defect("coco cut JSON", "coco", lambda f: f.update({"coco.json": f["coco.json"][:-40]}), "no valid JSON", REFUSED),
]  # fmt: skip


def yolo(name: str, code: str, action: str, row: str) -> Defect:
    """One more row in the first label file."""

    def spoil(files: Files) -> None:
        files["labels/0.txt"] += f"\n{row}".encode()

    return Defect(f"yolo {name}", "yolo", spoil, code, action)


YOLO = [
    yolo("class beyond the list", "CLS_UNKNOWN", "quarantined", "2 0.5 0.5 0.1 0.1"),
    yolo("negative class", "CLS_UNKNOWN", "quarantined", "-1 0.5 0.5 0.1 0.1"),
    yolo("fractional class", "CLS_UNKNOWN", "quarantined", "0.5 0.5 0.5 0.1 0.1"),
    yolo("coordinates over 1", "BOX_OOB", "quarantined", "0 1.4 0.5 0.1 0.1"),
    yolo("pixels instead of shares", "BOX_OOB", "quarantined", "0 20 20 10 10"),
    yolo("a little over the edge", "BOX_OOB", "repaired", "0 0.95 0.5 0.2 0.1"),
    yolo("negative width", "BOX_NEG", "quarantined", "0 0.5 0.5 -0.1 0.1"),
    yolo("zero height", "BOX_ZERO", "quarantined", "0 0.5 0.5 0.1 0"),
    yolo("nan", "BOX_NAN", "quarantined", "0 nan 0.5 0.1 0.1"),
    yolo("segment row", "BOX_SHAPE", "quarantined", "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"),
    yolo("row with confidence", "BOX_SHAPE", "quarantined", "0 0.5 0.5 0.1 0.1 0.9"),
    yolo("text row", "CLS_UNKNOWN", "quarantined", "crate 0.5 0.5 0.1 0.1"),
    yolo("decimal commas", "BOX_SHAPE", "quarantined", "0 0,5 0,5 0,1 0,1"),
    yolo("binary junk", "BOX_SHAPE", "quarantined", "\x00\x01"),
    yolo("row twice", "BOX_DUP", "repaired", clean_yolo_row()),
    Defect("yolo label file missing", "yolo", lambda f: f.pop("labels/1.txt"), "LBL_MISSING", "quarantined"),
    Defect("yolo image missing", "yolo", lambda f: f.pop("images/1.png"), "IMG_MISSING", "quarantined"),
    Defect("yolo two images share a label file", "yolo", lambda f: f.update({"images/1.jpg": f["images/0.jpg"]}),
           "IMG_AMBIGUOUS", "quarantined"),
    Defect("yolo nc differs from names", "yolo", lambda f: f.update({"data.yaml": b"nc: 3\nnames: [crate, ball]"}),
           "nc is 3", REFUSED),
    Defect("yolo names not a list", "yolo", lambda f: f.update({"data.yaml": b"names: crate"}),
           "`names` is a str", REFUSED),
    Defect("yolo names with a gap", "yolo", lambda f: f.update({"data.yaml": b"names: {0: crate, 2: ball}"}),
           "`names` is a list", REFUSED),
    Defect("yolo broken yaml", "yolo", lambda f: f.update({"data.yaml": b"names: [crate, ball"}),
           "no valid YAML", REFUSED),
]  # fmt: skip


def voc(name: str, code: str, action: str, change: Callable[[xml.Element], object]) -> Defect:
    """Change the XML of the second image."""

    def spoil(files: Files) -> None:
        root = xml.fromstring(files["Annotations/1.xml"])
        change(root)
        files["Annotations/1.xml"] = xml.tostring(root)

    return Defect(f"voc {name}", "voc", spoil, code, action)


def _set(path: str, value: str) -> Callable[[xml.Element], None]:
    def change(root: xml.Element) -> None:
        found = root.find(path)
        assert found is not None
        found.text = value

    return change


ENTITIES = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'
OUTSIDE = b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>'
VOC = [
    voc("xmin over xmax", "BOX_NEG", "quarantined", _set("object/bndbox/xmin", "40")),
    voc("no number", "BOX_NAN", "quarantined", _set("object/bndbox/xmin", "left")),
    voc("outside", "BOX_OOB", "quarantined", _set("object/bndbox/xmax", "400")),
    voc("counted from zero", "BOX_OOB", "repaired", _set("object/bndbox/xmin", "0")),
    voc("no bndbox", "BOX_SHAPE", "quarantined", lambda r: r.find("object").remove(r.find("object/bndbox"))),
    voc("three sides", "BOX_SHAPE", "quarantined",
        lambda r: r.find("object/bndbox").remove(r.find("object/bndbox/ymax"))),
    voc("unknown class", "CLS_UNKNOWN", "quarantined", _set("object/name", "Crate")),
    voc("other sides than the image", "IMG_SIZE_MISMATCH", "quarantined", _set("size/width", "65")),
    voc("filename of another image", "IMG_AMBIGUOUS", "quarantined", _set("filename", "2.png")),
    voc("other root", "LBL_UNREADABLE", "quarantined", lambda r: setattr(r, "tag", "html")),
    Defect("voc broken XML", "voc", lambda f: f.update({"Annotations/1.xml": f["Annotations/1.xml"][:-9]}),
           "LBL_UNREADABLE", "quarantined"),
    Defect("voc entity bomb", "voc", lambda f: f.update({"Annotations/1.xml": ENTITIES}),
           "LBL_UNREADABLE", "quarantined"),
    Defect("voc outside entity", "voc", lambda f: f.update({"Annotations/1.xml": OUTSIDE}),
           "LBL_UNREADABLE", "quarantined"),
    Defect("voc XML missing", "voc", lambda f: f.pop("Annotations/1.xml"), "LBL_MISSING", "quarantined"),
    Defect("voc image missing", "voc", lambda f: f.pop("JPEGImages/1.png"), "IMG_MISSING", "quarantined"),
]  # fmt: skip


def cvat(name: str, code: str, action: str, change: Callable[[xml.Element], object]) -> Defect:
    def spoil(files: Files) -> None:
        root = xml.fromstring(files["annotations.xml"])
        change(root)
        files["annotations.xml"] = xml.tostring(root)

    return Defect(f"cvat {name}", "cvat", spoil, code, action)


def _shape(**attributes: str) -> Callable[[xml.Element], None]:
    return lambda root: root.find("image/box").attrib.update(attributes)


def _other(tag: str, **attributes: str) -> Callable[[xml.Element], None]:
    return lambda root: xml.SubElement(root.find("image"), tag, {"label": "crate", **attributes}) and None


CVAT = [
    cvat("rotated box", "BOX_ROTATED", "repaired", _shape(rotation="5")),
    cvat("negative box", "BOX_NEG", "quarantined", _shape(xtl="40", xbr="20")),
    cvat("empty coordinate", "BOX_NAN", "quarantined", _shape(xtl="")),
    cvat("outside", "BOX_OOB", "quarantined", _shape(xtl="60", xbr="120")),
    cvat("unknown label", "CLS_UNKNOWN", "quarantined", _shape(label="Crate ")),
    cvat("polygon", "BOX_SHAPE", "repaired", _other("polygon", points="5,5;20,5;12,20")),
    cvat("ellipse", "BOX_SHAPE", "repaired", _other("ellipse", cx="50", cy="24", rx="8", ry="6")),
    cvat("points", "BOX_SHAPE", "quarantined", _other("points", points="5,5")),
    cvat("polyline", "BOX_SHAPE", "quarantined", _other("polyline", points="5,5;9,9")),
    cvat("mask", "BOX_SHAPE", "quarantined", _other("mask", rle="1,2,3")),
    Defect("cvat image missing", "cvat", lambda f: f.pop("images/1.png"), "IMG_MISSING", "quarantined"),
    cvat("other sides than the image", "IMG_SIZE_MISMATCH", "quarantined",
         lambda r: r.find("image").set("height", "64")),
    cvat("image not listed", "LBL_MISSING", "unlisted", lambda r: r.remove(r.find("image"))),
    cvat("no labels declared", "no <label>", REFUSED, lambda r: r.remove(r.find("meta"))),
    Defect("cvat cut XML", "cvat", lambda f: f.update({"annotations.xml": f["annotations.xml"][:-30]}),
           "no XML that may be read", REFUSED),
]  # fmt: skip


def studio(name: str, code: str, action: str, change: Callable) -> Defect:
    """Change the second task."""
    return Defect(f"label studio {name}", "label_studio", _json("tasks.json", lambda d: change(d[1])), code, action)


def _value(**values: object) -> Callable:
    return lambda task: task["annotations"][0]["result"][0]["value"].update(values)


def _second(result: list[dict], **fields: object) -> Callable:
    return lambda task: task["annotations"].append({"id": 7, "result": result, **fields})


LABEL_STUDIO = [
    studio("rotated box", "BOX_ROTATED", "repaired", _value(rotation=5)),
    studio("two labels", "CLS_UNKNOWN", "quarantined", _value(rectanglelabels=["crate", "ball"])),
    studio("no label", "CLS_UNKNOWN", "quarantined", _value(rectanglelabels=[])),
    studio("negative width", "BOX_NEG", "quarantined", _value(width=-5)),
    studio("text for a number", "BOX_NAN", "quarantined", _value(x="left")),
    studio("over 100 percent", "BOX_OOB", "quarantined", _value(x=120)),
    studio("keypoint", "BOX_SHAPE", "quarantined",
           lambda t: t["annotations"][0]["result"][0].update(type="keypointlabels")),
    studio("cancelled", "LBL_MISSING", "quarantined", lambda t: t["annotations"][0].update(was_cancelled=True)),
    studio("answer without a result", "LBL_MISSING", "quarantined", lambda t: t["annotations"][0].pop("result")),
    studio("predictions only", "LBL_MISSING", "quarantined",
           lambda t: t.update(predictions=t.pop("annotations"), annotations=[])),
    studio("never answered", "LBL_MISSING", "quarantined", lambda t: t.update(annotations=[])),
    studio("two annotators agree", "LBL_MULTI", "repaired", _second(rectangles())),
    studio("two annotators disagree", "LBL_MULTI", "quarantined", _second(rectangles()[:1])),
    studio("two annotators, one reviewed", "LBL_MULTI", "repaired", _second(rectangles()[:1], ground_truth=True)),
    Defect("label studio image elsewhere", "label_studio", lambda f: f.pop("images/1.png"),
           "IMG_MISSING", "quarantined"),
    studio("other sides than the image", "IMG_SIZE_MISMATCH", "quarantined",
           lambda t: [r.update(original_width=100) for r in t["annotations"][0]["result"]]),
    Defect("label studio cut JSON", "label_studio", lambda f: f.update({"tasks.json": f["tasks.json"][:-20]}),
           "no valid JSON", REFUSED),
]  # fmt: skip


def image(name: str, code: str, action: str, data: Callable[[], bytes], file: str = "images/1.png") -> Defect:
    """Other bytes for one image of a clean COCO export."""
    return Defect(f"image {name}", "coco", lambda files: files.update({file: data()}), code, action)


def _png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


LARGE = encoded(picture(9, 640, 480), "JPEG")
IMAGES_ = [
    image("cut JPEG", "IMG_TRUNCATED", "quarantined", lambda: LARGE[: len(LARGE) // 3], "images/0.jpg"),
    image("cut PNG", "IMG_TRUNCATED", "quarantined", lambda: encoded(picture(1))[:-200]),
    image("HTML with an image's name", "IMG_NOT_IMAGE", "quarantined", lambda: b"<!doctype html><html>404</html>"),
    image("empty file", "IMG_NOT_IMAGE", "quarantined", lambda: b""),
    image("GIF with an image's name", "IMG_NOT_IMAGE", "quarantined", lambda: encoded(picture(1), "GIF")),
    image("bomb of 900 megapixels", "IMG_BOMB", "quarantined", lambda: _png_claiming(30000, 30000)),
    image("bomb of 70 megapixels", "IMG_BOMB", "quarantined", lambda: _png_claiming(10000, 7000)),
    image("pixels missing", "IMG_TRUNCATED", "quarantined", lambda: _png_claiming(WIDTH, HEIGHT)),
    image("damaged PNG", "IMG_UNREADABLE", "quarantined", lambda: encoded(picture(1)).replace(b"IDAT", b"IDAX", 1)),
    image("16 bits", "IMG_DEPTH", "quarantined",
          lambda: encoded(Image.fromarray(np.full((HEIGHT, WIDTH), 40000, np.uint16)))),
    image("CMYK", "IMG_CMYK", "repaired", lambda: encoded(picture(7).convert("CMYK"), "JPEG"), "images/0.jpg"),
    image("EXIF upside down", "IMG_EXIF", "repaired",
          lambda: encoded(picture(1), "JPEG", exif=_exif(3)), "images/0.jpg"),
    image("EXIF on its side", "IMG_EXIF", "repaired",
          lambda: encoded(picture(1), "JPEG", exif=_exif(6)), "images/0.jpg"),
    image("EXIF on its side, labeled upright", "IMG_EXIF", "repaired",
          lambda: encoded(picture(1, HEIGHT, WIDTH), "JPEG", exif=_exif(8)), "images/0.jpg"),
    image("the same as another, other labels kept", "DUP_EXACT", "accepted", lambda: encoded(picture(2))),
]  # fmt: skip

DEFECTS = [*COCO, *YOLO, *VOC, *CVAT, *LABEL_STUDIO, *IMAGES_]


def export_with(defect: Defect) -> Files:
    """The clean export of the defect's format, spoiled."""
    files = clean(defect.format)
    defect.spoil(files)
    return files
