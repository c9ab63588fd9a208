"""Tiny data sets in the layouts of the real ones, written by code."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = [(60, 80), (80, 60), (70, 70)]


def write_voc(root: Path, per_class: int = 4, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """A VOC-layout folder: in each split every class 1 … 20 on ``per_class`` photographs, two classes on each."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split in splits:
        names = []
        for number in range(10 * per_class):
            name = f"{split}_{number:03d}"
            height, width = SIZES[number % len(SIZES)]
            mask = np.zeros((height, width), np.uint8)
            mask[5:45, 5:30] = 1 + number % 20
            mask[10:55, 35:57] = 1 + (number + 7) % 20
            mask[5, 5:30] = 255
            image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            image[mask > 0] = (12 * mask[mask > 0])[:, None]
            Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
            palette = Image.fromarray(mask, mode="P")
            palette.putpalette(list(range(256)) * 3)
            palette.save(root / "SegmentationClassAug" / f"{name}.png")
            names.append(name)
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def write_images(root: Path, count: int = 12) -> Path:
    """A folder tree of photographs without labels."""
    rng = np.random.default_rng(1)
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        path = root / f"class_{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(path)
    return root


def write_coco(root: Path, per_class: int = 4, year: int = 2014) -> Path:
    """COCO's layout without masks: every class on ``per_class`` photographs a split, two on each, and some crowds."""
    rng = np.random.default_rng(2)
    categories = [{"id": c + c // 10, "name": f"class {c}"} for c in range(1, 81)]  # with gaps, as COCO's
    (root / "annotations").mkdir(parents=True)
    for split in (f"train{year}", f"val{year}"):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(40 * per_class):
            height, width = SIZES[number % len(SIZES)]
            file = f"COCO_{split}_{number:012d}.jpg"
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / file)
            images.append({"id": number, "file_name": file, "height": height, "width": width})
            boxes = [(5, 5, 30, 45), (20, 10, 50, 55)]
            for k, (left, top, right, bottom) in enumerate(boxes):
                category = categories[(number + 7 * k) % 80]["id"]
                polygons = [[left, top, right, top, right, bottom, left, bottom], [52, 2, 58, 2, 58, 8, 52, 8]]
                annotations.append(
                    {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": 0}
                    | {"segmentation": polygons[: 2 - k]}
                )
            if number % 5 == 0:
                crowd = np.zeros((height, width), np.uint8)
                crowd[40:60, 5:50] = 1
                annotations.append(
                    {"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 1}
                    | {"segmentation": {"size": [height, width], "counts": uncompressed_rle(crowd)}}
                )
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def uncompressed_rle(mask: np.ndarray) -> list[int]:
    """COCO's run lengths, down the columns, beginning with background."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def write_fss(root: Path, train: int = 6, val: int = 3, test: int = 3, images: int = 4) -> Path:
    """FSS-1000's layout: a folder per class, a white-on-black RGB mask per image, and the splits."""
    rng = np.random.default_rng(3)
    names = [f"class_{i:02d}" for i in range(train + val + test)]
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(1, images + 1):
            mask = np.zeros((64, 64, 3), np.uint8)
            mask[10 + i : 40, 12:50] = 255
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            image[mask > 0] = 20 * number
            Image.fromarray(image).save(root / name / f"{i}.jpg")
            Image.fromarray(mask).save(root / name / f"{i}.png")
    (root / "splits").mkdir()
    parts = {"train": names[:train], "val": names[train : train + val], "test": names[train + val :]}
    for split, members in parts.items():
        (root / "splits" / f"{split}.txt").write_text("\n".join(members) + "\n")
    return root


FOLDER_CLASSES = ("apple", "boot", "cup", "drum")


def write_folder(root: Path, binary: bool, per_class: int = 5) -> Path:
    """A user's own folder: every image shows one class, every fifth two; index masks or binary ones."""
    rng = np.random.default_rng(4)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number in range(per_class * len(FOLDER_CLASSES)):
        mask = np.zeros((60, 80), np.uint8)
        mask[5:45, 5:30] = 1 + number % len(FOLDER_CLASSES)
        if number % 5 == 0:
            mask[10:55, 35:57] = 1 + (number + 1) % len(FOLDER_CLASSES)
        image = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        image[mask > 0] = (50 * mask[mask > 0])[:, None]
        Image.fromarray(image).save(root / "images" / f"{number:03d}.jpg")
        if not binary:
            Image.fromarray(mask).save(root / "masks" / f"{number:03d}.png")
        for c in np.unique(mask[mask > 0]) if binary else ():
            folder = root / "masks" / FOLDER_CLASSES[c - 1]
            folder.mkdir(exist_ok=True)
            Image.fromarray(np.where(mask == c, 255, 0).astype(np.uint8)).save(folder / f"{number:03d}.png")
    if not binary:
        lines = [f"{c}: {name}" for c, name in enumerate(FOLDER_CLASSES, start=1)]
        (root / "classes.yaml").write_text("\n".join(lines) + "\n")
    return root
