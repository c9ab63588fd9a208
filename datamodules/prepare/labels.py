"""Labels as tools write them → a folder of images and index masks."""

import base64
import binascii
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from datamodules.coco20i import instance
from datamodules.files import find_files, picture_size, read_picture
from datamodules.files.finding import by_name, one_form, subfolders
from datamodules.files.lists import read_lines
from datamodules.files.masks import decode_mask
from datamodules.files.png import write_plain_png
from datamodules.files.sources import IGNORE, Array
from datamodules.folder import CLASSES, IMAGES, MASKS
from qgnet.common.errors import InputError

Tool = Literal["labelme", "coco", "cvat"]
BACKGROUND = ("background", "_background_", "__ignore__")
"""What tools call pixels without a class; labelme's last is not a class either."""
NAMED = 5
"""So many ids are named in a message."""


class Labelled(NamedTuple):
    """An image with its labels.

    Attributes:
        name: that image and mask shall have.
        picture: its file, or what the file held.
        ending: of the file, with its dot.
        mask: (H, W) uint8 class numbers; None if it has no label.
    """

    name: str
    picture: Path | bytes
    ending: str
    mask: Array | None


class Skipped:
    """What could not be used, with the names of it, by reason."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: object) -> None:
        """One more."""
        self.names[reason].append(str(name))

    def lines(self) -> list[str]:
        """A line per reason, with how many there are and the first of them."""
        return [
            f"{len(names)} skipped, {reason}: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
            for reason, names in self.names.items()
        ]


def convert(tool: Tool, source: Path, root: Path) -> list[str]:
    """Write ``images/``, ``masks/`` and, when they are whole, ``classes.yaml`` of what a tool has labelled.

    Args:
        tool: that wrote the labels.
        source: its folder, or COCO's JSON file.
        root: to write to.

    Returns:
        What was skipped, a line per reason.

    Raises:
        InputError: if the source is not what the tool writes, nothing in it can be used, or ``root`` holds data.
    """
    if (root / CLASSES).exists() or ((root / MASKS).is_dir() and subfolders(root / MASKS)):
        raise InputError(f"{root} holds a data set already. Choose another --root, or remove it.")
    if not source.exists():
        raise InputError(f"{source} does not exist. Give the folder that {tool} has written.")
    skipped = Skipped()
    classes, labelled = READERS[tool](source, skipped)
    if not 0 < len(classes) < IGNORE:
        raise InputError(f"{source} has {len(classes)} classes; expected 1 to 254.")
    written: set[str] = set()
    for item in tqdm(labelled, "Writing masks", unit="image", leave=False):
        if item.mask is None:
            skipped.add("image without a label", item.name)
            continue
        if item.name in written:
            raise InputError(f"{source} has two images that would be named {item.name}. Rename one.")
        written.add(item.name)
        write_picture(item.picture, root / IMAGES / f"{item.name}{item.ending}")
        write_plain_png(root / MASKS / f"{item.name}.png", item.mask)
    if not written:
        raise InputError(" ".join([f"{source} holds no image with a label that can be used.", *skipped.lines()]))
    part = root / f"{CLASSES}.part"
    lines = [f"{number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in classes.items()]
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(root / CLASSES)
    return skipped.lines()


def write_picture(picture: Path | bytes, target: Path) -> None:
    """Copy a picture, which appears by rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    if isinstance(picture, bytes):
        part.write_bytes(picture)
    else:
        shutil.copyfile(picture, part)
    part.replace(target)


def image_name(path: str) -> str:
    """A name without folders for an image in folders."""
    return one_form(str(PurePosixPath(path).with_suffix("")).replace("/", "_"))


def read_json(path: Path) -> Any:
    """A JSON file's content; InputError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). Export it again.") from None


def json_files(folder: Path) -> list[Path]:
    """All JSON files under a folder, sorted, hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".json")
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_labelme(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[Labelled]]:
    """Classes and images of a folder of labelme's JSON files, one per image."""
    files = json_files(source) if source.is_dir() else [source]
    contents = {path: read_json(path) for path in files}
    contents = {
        path: content for path, content in contents.items() if isinstance(content, dict) and "shapes" in content
    }
    if not contents:
        raise InputError(f"{source} holds no JSON file of labelme. Give the folder of its files.")
    labels = {str(shape.get("label")) for content in contents.values() for shape in content["shapes"]}
    classes = dict(enumerate(sorted(labels - set(BACKGROUND)), start=1))
    base = source if source.is_dir() else source.parent
    return classes, labelme_images(base, contents, {name: number for number, name in classes.items()}, skipped)


def labelme_images(
    base: Path, contents: Mapping[Path, Any], number: Mapping[str, int], skipped: Skipped
) -> Iterator[Labelled]:
    """The images of labelme's files, shapes drawn in their order."""
    for path, content in contents.items():
        named = str(content.get("imagePath") or "").replace("\\", "/")
        picture: Path | bytes = path.parent / named
        if not named or not (path.parent / named).is_file():
            try:
                picture = base64.b64decode(content.get("imageData") or "", validate=True)
            except (binascii.Error, TypeError):
                picture = b""
        name = image_name(path.relative_to(base).as_posix())
        if not picture:
            skipped.add(f"labelme file whose image ({named or 'no name'}) is not there", path.name)
            continue
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if isinstance(picture, Path):
            height, width = picture_size(picture)
        if not isinstance(height, int) or not isinstance(width, int):
            skipped.add("labelme file without imageHeight and imageWidth", path.name)
            continue
        mask, drawn = np.zeros((height, width), np.uint8), False
        for i, shape in enumerate(content["shapes"]):
            inside = labelme_shape(path, shape, height, width)
            if inside is None:
                skipped.add(f"shape without area ({shape.get('shape_type') or 'polygon'})", f"{path.name}[{i}]")
            elif str(shape.get("label")) in number:
                mask[inside] = number[str(shape.get("label"))]
                drawn = True
        yield Labelled(name, picture, PurePosixPath(named).suffix or ".png", mask if drawn else None)


def labelme_shape(path: Path, shape: Mapping[str, Any], height: int, width: int) -> Array | None:
    """(height, width) bool of one shape; None of one without area, e.g. a line or a point."""
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.asarray(shape.get("points") or [], np.float64).reshape(-1, 2)
    except (ValueError, TypeError):
        return None
    if kind == "polygon" and len(points) >= 3 and np.isfinite(points).all():
        return instance({"segmentation": [points.ravel().tolist()]}, height, width, "full")
    if len(points) != 2 or not np.isfinite(points).all():
        return None
    return two_point_shape(path, kind, shape.get("mask"), points, height, width)


def two_point_shape(path: Path, kind: str, mask: Any, points: Array, height: int, width: int) -> Array | None:
    """(height, width) bool of a rectangle, a circle (its centre and a point on it) or a mask within a rectangle."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if kind == "rectangle":
        box = [left, top, right, top, right, bottom, left, bottom]
        return instance({"segmentation": [box]}, height, width, "full")
    if kind == "circle":
        rows, columns = np.mgrid[:height, :width] + 0.5
        return np.hypot(columns - points[0, 0], rows - points[0, 1]) <= np.hypot(*(points[1] - points[0]))
    if kind == "mask" and isinstance(mask, str):
        inside = np.zeros((height, width), bool)
        part = decode_mask(path, base64.b64decode(mask))
        room = inside[max(0, round(top)) :, max(0, round(left)) :][: part.shape[0], : part.shape[1]]
        room[:] = part[: room.shape[0], : room.shape[1]]
        return inside
    return None


def read_coco(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[Labelled]]:
    """Classes and images of one COCO JSON file, or of the one in a folder."""
    files = json_files(source) if source.is_dir() else [source]
    contents = {path: read_json(path) for path in files}
    keys = {"images", "annotations", "categories"}
    found = {
        path: content for path, content in contents.items() if isinstance(content, dict) and keys <= content.keys()
    }
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{source} holds {len(found)} COCO files ({listed}); expected one JSON file with images, annotations and "
            "categories. Name it."
        )
    ((path, content),) = found.items()
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        used = sorted({a.get("category_id") for a in content["annotations"]} & names.keys())
        classes = dict(enumerate((names[category] for category in used), start=1))
        images = [
            (image["id"], str(image["file_name"]), image["height"], image["width"]) for image in content["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no COCO file ({type(error).__name__}: {error}). Export it again.") from None
    if len(set(classes.values())) < len(classes):
        raise InputError(f"{path} has two categories of one name. Give each its own.")
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    known = {image[0] for image in images}
    for annotation in content["annotations"]:
        reason = coco_fault(annotation, names, known)
        if reason:
            skipped.add(f"annotation {reason}", annotation.get("id"))
        else:
            of_image[annotation["image_id"]].append(annotation)
    folder = source if source.is_dir() else source.parent
    number = {category: i for i, category in enumerate(used, start=1)}
    return classes, coco_labelled(folder, images, of_image, number, skipped)


def coco_fault(annotation: dict[str, Any], categories: Mapping[Any, str], images: set[Any]) -> str:
    """Why an annotation cannot be used; nothing if it can. Polygons of less than three points are taken out of it."""
    if annotation.get("category_id") not in categories:
        return f"of the unknown category {annotation.get('category_id')}"
    if annotation.get("image_id") not in images:
        return "of an unknown image"
    shape = annotation.get("segmentation")
    if isinstance(shape, list):
        annotation["segmentation"] = [p for p in shape if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
        return "" if annotation["segmentation"] else "without a polygon of three points"
    if isinstance(shape, dict) and "counts" in shape and "size" in shape:
        return ""
    return "without segmentation"


def coco_labelled(
    folder: Path,
    images: Sequence[tuple[Any, str, int, int]],
    of_image: Mapping[Any, list[dict[str, Any]]],
    number: Mapping[Any, int],
    skipped: Skipped,
) -> Iterator[Labelled]:
    """The images of a COCO file; later instances lie over earlier ones, all over crowds, which are ignored."""
    files = find_files(folder).files or find_files(folder.parent).files
    base = folder if find_files(folder).files else folder.parent
    for identity, named, height, width in images:
        file = matching(files, named.replace("\\", "/"))
        if file is None:
            skipped.add("image that is not there, or may be one of several", named)
            continue
        if picture_size(base / file) != (height, width):
            found = "x".join(map(str, picture_size(base / file)[::-1]))
            skipped.add(f"image of another size than the labels say (e.g. {found}, not {width}x{height})", named)
            continue
        mask, drawn = np.zeros((height, width), np.uint8), False
        for annotation in sorted(of_image[identity], key=lambda a: -bool(a.get("iscrowd"))):
            try:
                inside = instance(annotation, height, width, "full")
                mask[inside] = IGNORE if annotation.get("iscrowd") else number[annotation["category_id"]]
                drawn = drawn or not annotation.get("iscrowd")
            except (ValueError, TypeError, IndexError, KeyError) as error:
                skipped.add(f"annotation that cannot be drawn ({error})", annotation.get("id"))
        yield Labelled(image_name(named), base / file, Path(file).suffix, mask if drawn else None)


def matching(files: Sequence[str], named: str) -> str | None:
    """The one file whose path ends as the name does, or that has its last part."""
    for wanted in (one_form(named), one_form(PurePosixPath(named).name)):
        found = [file for file in files if one_form(file) == wanted or one_form(file).endswith(f"/{wanted}")]
        if len(found) == 1:
            return found[0]
    return None


def read_cvat(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[Labelled]]:
    """Classes and images of a VOC layout with colour masks and a ``labelmap.txt``."""
    maps = sorted(source.rglob("labelmap.txt"))
    if len(maps) != 1:
        raise InputError(f"{source} holds {len(maps)} files labelmap.txt; expected one, in VOC's layout.")
    colours: dict[str, tuple[int, ...]] = {}
    for line in read_lines(maps[0]):  # name:r,g,b:parts:actions
        name, colour = [*line.split(":"), ""][:2]
        try:
            colours[name] = tuple(int(value) for value in colour.split(","))
        except ValueError:
            colours[name] = ()
        if len(colours[name]) != 3:
            raise InputError(f"{maps[0]} has the line {line!r}; expected `name:red,green,blue::`.")
    folder = maps[0].parent
    mask_folder = next((folder / name for name in CVAT_MASKS if (folder / name).is_dir()), None)
    if mask_folder is None or not (folder / "JPEGImages").is_dir():
        raise InputError(
            f"{folder} lacks JPEGImages/ or {' or '.join(f'{name}/' for name in CVAT_MASKS)}. Export the images, too."
        )
    classes = dict(enumerate((name for name in colours if name.lower() not in BACKGROUND), start=1))
    code = {c: 0 for name, c in colours.items() if name.lower() in BACKGROUND} | {(0, 0, 0): 0}
    code |= {colours[name]: number for number, name in classes.items()}
    return classes, cvat_images(folder / "JPEGImages", mask_folder, code, skipped)


CVAT_MASKS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug")


def cvat_images(
    pictures: Path, masks: Path, code: Mapping[tuple[int, ...], int], skipped: Skipped
) -> Iterator[Labelled]:
    """The images that have a mask; colours become class numbers."""
    found = find_files(pictures).files
    mask_of = by_name(masks, find_files(masks).files)
    for name, path in mask_of.items():
        file = matching([str(PurePosixPath(f).with_suffix("")) for f in found], name)
        if file is None:
            skipped.add("mask without an image in JPEGImages/", path.name)
            continue
        picture = next(pictures / f for f in found if str(PurePosixPath(f).with_suffix("")) == file)
        colours = read_picture(path).astype(np.uint32)
        packed = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
        mask = np.full(packed.shape, IGNORE, np.uint8)
        unknown = np.ones(packed.shape, bool)
        for (red, green, blue), number in code.items():
            here = packed == (red << 16 | green << 8 | blue)
            mask[here], unknown[here] = number, False
        if unknown.any():
            value = int(packed[unknown][0])
            colour = (value >> 16, value >> 8 & 255, value & 255)
            skipped.add(f"mask with a colour that labelmap.txt lacks {colour}", path.name)
            continue
        yield Labelled(name, picture, picture.suffix, mask if mask.any() else None)


READERS = {"labelme": read_labelme, "coco": read_coco, "cvat": read_cvat}
