"""COCO-20i: COCO's 80 classes in four folds of twenty, as index masks drawn from the instances."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.mask import decode, frPyObjects, merge
from tqdm import tqdm

from datamodules.episodic import INDEX_FOLDER, EpisodeDataModule
from datamodules.files.lists import read_lines
from datamodules.files.png import write_plain_png
from datamodules.files.sources import IGNORE, Array, IndexMasks, require_folder
from qgnet.common.errors import InputError
from qgnet.common.pool import processes

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
Parts = Literal["full", "first-polygon"]
Crowds = Literal["ignore", "background"]


class Coco20iDataModule(EpisodeDataModule):
    """Episodes from COCO as `qgnet prepare coco20i` makes it; fold i holds the classes i + 1, i + 5, … or 20i + 1, ….

    Args:
        root: folder with ``train2014/``, ``val2014/`` and ``masks/``.
        year: 2014 or 2017.
        parts: of each instance, all polygons or (RePRI, FPTrans) the first only.
        crowds: instances marked as crowds are ignored (255), or background.
        image_size: side of the square that the network sees, in pixels, of the form 8n + 1.
        scale: range of the random scaling in training.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = "data/coco",
        year: Literal[2014, 2017] = 2014,
        parts: Parts = "full",
        crowds: Crowds = "ignore",
        image_size: int = 641,
        scale: tuple[float, float] = (0.8, 1.25),
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size=image_size, scale=scale, **kwargs)
        self.root = Path(root)
        self.year = year
        self.parts = parts
        self.crowds = crowds
        self.masks = self.root / "masks" / mask_folder(parts, crowds)

    @property
    def default_episodes(self) -> int:
        """The protocol's number for COCO."""
        assert self.protocol.coco_episodes is not None
        return self.protocol.coco_episodes

    @property
    def class_names(self) -> dict[int, str]:
        """COCO's 80 classes in category order, 1 … 80."""
        return dict(enumerate(COCO_CLASSES, start=1))

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """Four folds of twenty classes, interleaved or contiguous as the protocol says."""
        return coco_folds(self.protocol.coco_folds == "interleaved")

    @property
    def image_choices(self) -> dict[str, Any]:
        """Which year's, and how the masks were drawn."""
        return {"year": self.year, "parts": self.parts, "crowds": self.crowds}

    def source(self, split: str) -> IndexMasks:
        """The annotated images of the split."""
        return coco_images(self.root, f"{split}{self.year}", self.masks)

    def index_file(self, split: str) -> Path:
        """``mask_index/<split>.npz`` beside the masks."""
        return self.masks / INDEX_FOLDER / f"{split}{self.year}.npz"


def coco_folds(interleaved: bool) -> list[range]:
    """The novel classes of each fold: i + 1, i + 5, … (almost all papers), or 20 in a row (SSP, MiningFSS)."""
    return [range(i + 1, 81, 4) if interleaved else range(20 * i + 1, 20 * i + 21) for i in range(4)]


def mask_folder(parts: Parts, crowds: Crowds) -> str:
    """Name of the folder of masks drawn in this mode."""
    return f"{parts}-crowd-{crowds}"


def coco_images(root: Path, split: str, masks: Path) -> IndexMasks:
    """The annotated images of ``train2014``, ….

    Raises:
        InputError: if the photographs or the masks are missing.
    """
    ready = "COCO as `qgnet prepare coco20i` makes it (the same --year, --parts and --crowds)"
    require_folder(root / split, "data.root", ready)
    require_folder(masks / split, "data.root", ready)
    names = read_lines(masks / f"{split}.txt")
    images = [root / split / f"{name}.jpg" for name in names]
    return IndexMasks(names, images, [masks / split / f"{name}.png" for name in names], range(1, 81))


def draw_masks(annotations: Path, masks: Path, split: str, parts: Parts, crowds: Crowds) -> None:
    """Draw the index mask of every annotated image, in parallel; masks already there are not drawn again.

    Writes ``masks/<split>/<image>.png`` and, when all are there, the list ``masks/<split>.txt``.

    Raises:
        InputError: if the annotation file is missing or not COCO's.
    """
    try:
        coco = COCO(annotations)
        class_of = {category: i for i, category in enumerate(sorted(coco.getCatIds()), start=1)}
        images = coco.loadImgs(sorted(coco.imgToAnns))
    except FileNotFoundError:
        raise InputError(f"{annotations} does not exist; expected COCO's instances file.") from None
    except (json.JSONDecodeError, KeyError, AssertionError, UnicodeDecodeError) as error:
        raise InputError(
            f"{annotations} is no COCO instances file ({type(error).__name__}: {error}). Fetch it again."
        ) from None
    folder = masks / split
    folder.mkdir(parents=True, exist_ok=True)
    names = [Path(image["file_name"]).stem for image in images]
    missing = [
        (image, coco.imgToAnns[image["id"]], folder / f"{name}.png")
        for image, name in zip(images, names, strict=True)
        if not (folder / f"{name}.png").exists()
    ]
    if missing:
        draw = partial(write_mask, class_of=class_of, parts=parts, crowds=crowds)
        with processes() as pool:
            done = pool.map(draw, *zip(*missing, strict=True), chunksize=32)
            list(tqdm(done, f"Drawing the masks of {split}", len(missing), unit="mask"))
    part = masks / f"{split}.txt.part"
    part.write_text("".join(f"{name}\n" for name in names))
    part.replace(masks / f"{split}.txt")


def write_mask(
    image: dict[str, Any],
    annotations: Sequence[dict[str, Any]],
    path: Path,
    class_of: dict[int, int],
    parts: Parts,
    crowds: Crowds,
) -> None:
    """Draw one image's mask to ``path``, which appears by rename."""
    mask = draw_mask(image["height"], image["width"], annotations, class_of, parts, crowds)
    write_plain_png(path, mask)


def draw_mask(
    height: int,
    width: int,
    annotations: Sequence[dict[str, Any]],
    class_of: dict[int, int],
    parts: Parts = "full",
    crowds: Crowds = "ignore",
) -> Array:
    """Instances → (height, width) uint8 class numbers; later instances lie over earlier ones, all over crowds.

    Args:
        height: of the image.
        width: of the image.
        annotations: COCO's, in the file's order.
        class_of: category id → class number.
        parts: all polygons of an instance, or the first only.
        crowds: 255 where a crowd is and no instance, or background.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in sorted(annotations, key=lambda a: -a.get("iscrowd", 0)):
        crowd = bool(annotation.get("iscrowd", 0))
        if crowd and crowds == "background":
            continue
        mask[instance(annotation, height, width, parts)] = IGNORE if crowd else class_of[annotation["category_id"]]
    return mask


def instance(annotation: dict[str, Any], height: int, width: int, parts: Parts) -> Array:
    """(height, width) bool: one instance."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        shape = merge(frPyObjects(shape if parts == "full" else shape[:1], height, width))
    elif isinstance(shape["counts"], list):
        shape = frPyObjects(shape, height, width)
    return decode(shape).astype(bool)
