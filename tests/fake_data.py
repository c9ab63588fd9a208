"""Tiny data sets in the layouts of the real ones, written by code."""

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
