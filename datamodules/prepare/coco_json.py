"""Labels in COCO's JSON, as many tools export them: polygons and RLE."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.files import find_files, picture_size
from datamodules.files.sources import IGNORE
from datamodules.prepare.coco_masks import instance
from datamodules.prepare.labelled import Labelled, Skipped, image_name, json_files, matching, read_json
from qgnet.common.errors import InputError


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
