"""COCO's 80 classes, in four folds of twenty, and its images with the index masks drawn from the instances."""

from pathlib import Path

from datamodules.files.lists import read_lines
from datamodules.files.sources import IndexMasks, require_folder
from datamodules.layouts import Crowds, Parts

# fmt: off
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


def coco_folds(interleaved: bool) -> list[range]:
    """The novel classes of each fold: i + 1, i + 5, … (almost all papers), or 20 in a row (SSP, MiningFSS)."""
    return [range(i + 1, 81, 4) if interleaved else range(20 * i + 1, 20 * i + 21) for i in range(4)]


def mask_folder(parts: Parts, crowds: Crowds) -> str:
    """Name of the folder of masks drawn in this mode."""
    return f"{parts}-crowd-{crowds}"


def coco_images(root: Path, split: str, masks: Path) -> IndexMasks:
    """The annotated images of ``train2014``, ….

    Raises:
        InputError: if the images or the masks are missing.
    """
    ready = "COCO as `qgnet prepare coco20i` makes it (the same --year, --parts and --crowds)"
    require_folder(root / split, "data.root", ready)
    require_folder(masks / split, "data.root", ready)
    names = read_lines(masks / f"{split}.txt")
    images = [root / split / f"{name}.jpg" for name in names]
    return IndexMasks(names, images, [masks / split / f"{name}.png" for name in names], range(1, 81))
