"""Labels in COCO's JSON format, which many tools export: polygons and RLE."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.files import find_files, read_image_size
from datamodules.prepare.annotations import (
    AnnotatedImage,
    Files,
    Skipped,
    flat_name,
    has_class,
    json_files,
    number_classes,
    read_json,
)
from datamodules.prepare.coco_masks import draw_mask
from qgnet.common.errors import InputError


class Contents(NamedTuple):
    """Content of a COCO file: {id: (file, height, width)}, {id: name} of used categories, all annotations in order."""

    images: dict[Any, tuple[str, Any, Any]]
    categories: dict[Any, str]
    annotations: list[dict[str, Any]]


def read_coco(source: Path, skipped: Skipped) -> tuple[dict[int, str], Iterator[AnnotatedImage]]:
    """Classes and images of a COCO JSON file, or of the only one in a folder."""
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
    read = read_contents(path, content)
    classes, value = number_classes(read.categories.values(), skipped)
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    used = {annotation["category_id"] for annotation in read.annotations} & read.categories.keys()
    for annotation in read.annotations:
        if annotation["category_id"] not in used:
            skipped.add(f"annotation of the unknown category {annotation['category_id']}", annotation.get("id"))
        elif annotation["image_id"] not in read.images:
            skipped.add("annotation of an unknown image", annotation.get("id"))
        else:
            of_image[annotation["image_id"]].append(annotation)
    folder = source if source.is_dir() else source.parent
    numbers = {category: value[name] for category, name in read.categories.items()}
    return classes, coco_labelled(folder, read.images, of_image, numbers, skipped)


def read_contents(path: Path, content: dict[str, Any]) -> Contents:
    """The entries of a COCO file; InputError if an entry is incomplete, or two share an id or a name."""
    try:
        images = [(i["id"], (str(i["file_name"]), i.get("height"), i.get("width"))) for i in content["images"]]
        categories = [(category["id"], str(category["name"])) for category in content["categories"]]
        for annotation in content["annotations"]:
            annotation.setdefault("category_id", None)
            annotation.setdefault("image_id", None)
        used = {annotation["category_id"] for annotation in content["annotations"]}
        repeated = {
            "images of one id": twice(identity for identity, _ in images),
            "categories of one id": twice(identity for identity, _ in categories),
            "categories of one name": twice(name for identity, name in categories if identity in used),
            "images of one file_name": twice(name for _, (name, _, _) in images),
        }
        Counter(annotation["image_id"] for annotation in content["annotations"])
        names = {identity: name for identity, name in sorted(categories) if identity in used}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no COCO file ({type(error).__name__}: {error}). Export it again.") from None
    for what, which in repeated.items():
        if which:
            raise InputError(f"{path} has two {what} ({which[0]}). Give each its own.")
    return Contents(dict(images), names, content["annotations"])


def twice(values: Iterable[Any]) -> list[Any]:
    """The values that occur more than once."""
    return [value for value, times in Counter(values).items() if times > 1]


def coco_labelled(
    folder: Path,
    images: Mapping[Any, tuple[str, Any, Any]],
    of_image: Mapping[Any, list[dict[str, Any]]],
    numbers: Mapping[Any, int],
    skipped: Skipped,
) -> Iterator[AnnotatedImage]:
    """The images of a COCO file. Later instances are drawn over earlier ones, all over crowds, which are ignored."""
    base = folder if find_files(folder).files else folder.parent
    names = [named.replace("\\", "/") for named, _, _ in images.values()]
    files = Files(find_files(base).files).matching(names)
    for (identity, (named, height, width)), file in zip(images.items(), files, strict=True):
        if file is None:
            skipped.add("image that is not there, or may be one of several", named)
            continue
        try:
            size = read_image_size(base / file)
        except InputError:
            skipped.add("image that cannot be read", named)
            continue
        if (height, width) not in (size, (None, None)):
            skipped.add(
                f"image of another size than the labels say (e.g. {size[1]}x{size[0]}, not {width}x{height})", named
            )
            continue
        mask = draw_mask(*size, of_image[identity], numbers, skipped)
        yield AnnotatedImage(flat_name(named), base / file, Path(file).suffix, mask if has_class(mask) else None)
