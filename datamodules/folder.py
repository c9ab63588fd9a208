"""Your own images and masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.base import INDEX_FOLDER, EpisodeDataModule
from datamodules.errors import InputError
from datamodules.sources import IGNORE, BinaryMasks, IndexMasks, require_folder
from datamodules.text import read_yaml
from datamodules.unlabeled import SUFFIXES

IMAGES = "images"
MASKS = "masks"
CLASSES = "classes.yaml"
LAYOUT = (
    "images/<name>.jpg (or .png, …) and either masks/<name>.png with class numbers and classes.yaml "
    "(1: cat, 2: dog, …), or one black-and-white masks/<class>/<name>.png per class"
)


class FolderDataModule(EpisodeDataModule):
    """Episodes from your own folder: ``images/`` and ``masks/``.

    Masks are either index masks, ``masks/<name>.png`` whose pixels are the class numbers of ``classes.yaml`` (0
    background, 255 ignore), or binary masks, one ``masks/<class>/<name>.png`` per class that an image shows.

    Args:
        root: folder with ``images/`` and ``masks/``.
        novel: names of the novel classes, never labelled in training; all others are base classes. Empty: all are
            novel, for a test without training.
        min_class_area: pixels a class must cover in an image to count there.
        **kwargs: settings of every EpisodeDataModule.
    """

    def __init__(
        self,
        root: str = "data/folder",
        novel: Sequence[str] = (),
        min_class_area: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(min_class_area=min_class_area, **kwargs)
        self.root = Path(root)
        self.novel = list(novel)
        self._names: dict[int, str] = {}

    @property
    def class_names(self) -> dict[int, str]:
        """As in ``classes.yaml``, or the mask folders in alphabetical order from 1."""
        if not self._names:
            self._names = folder_classes(self.root)
        return self._names

    @property
    def folds(self) -> Sequence[Sequence[int]]:
        """One fold: the classes named by ``novel``."""
        number = {name: i for i, name in self.class_names.items()}
        unknown = [name for name in self.novel if name not in number]
        if unknown:
            raise InputError(
                f"data.novel names {unknown[0]}, but {self.root} has the classes {', '.join(number)}. Choose of these."
            )
        return [[number[name] for name in self.novel] or list(self.class_names)]

    def setup(self, stage: str) -> None:
        """As in every episodic DataModule; InputError if there is no base class to train on."""
        if stage == "fit" and not self.base_classes:
            raise InputError(
                "Training needs base classes: name the novel ones with --data.novel (e.g. '[cat, dog]'); all other "
                "classes of the folder are base classes."
            )
        super().setup(stage)

    def source(self, split: str) -> IndexMasks | BinaryMasks:
        """All labelled images."""
        return folder_images(self.root, self.class_names)

    def index_file(self, split: str) -> Path:
        """``mask_index/folder.npz`` beside the images."""
        return self.root / INDEX_FOLDER / "folder.npz"


def folder_classes(root: Path) -> dict[int, str]:
    """Class number → name.

    Raises:
        InputError: if the folder is not laid out as expected, or ``classes.yaml`` is not what it should be.
    """
    for path in (root, root / IMAGES, root / MASKS):
        require_folder(path, "data.root", LAYOUT)
    folders = sorted(path.name for path in (root / MASKS).iterdir() if path.is_dir())
    if folders:
        return dict(enumerate(folders, start=1))
    file = root / CLASSES
    if not file.is_file():
        raise InputError(f"{file} does not exist. Expected {LAYOUT}.")
    names = read_yaml(file)
    try:
        numbered = {int(number): str(name) for number, name in names.items()}
    except (AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{file} is not `number: name` lines ({error}). Write it like `1: cat`.") from None
    if not numbered or not all(0 < number < IGNORE for number in numbered):
        raise InputError(f"{file} holds the class numbers {sorted(numbered)}; expected numbers from 1 to 254.")
    return numbered


def folder_images(root: Path, classes: dict[int, str]) -> IndexMasks | BinaryMasks:
    """All images that have a mask.

    Raises:
        InputError: if a mask has no image, two images have one name, or there is no mask.
    """
    images: dict[str, Path] = {}
    for path in sorted((root / IMAGES).iterdir()):
        if path.suffix.lower() in SUFFIXES:
            if path.stem in images:
                raise InputError(f"{path} and {images[path.stem].name} have one name. Rename one, and its mask.")
            images[path.stem] = path
    by_class = [path for path in (root / MASKS).iterdir() if path.is_dir()]
    masks = sorted((root / MASKS).glob("*/*.png" if by_class else "*.png"))
    if not masks:
        raise InputError(f"{root / MASKS} holds no .png. Expected {LAYOUT}.")
    alone = [path for path in masks if path.stem not in images]
    if alone:
        raise InputError(
            f"{alone[0]} has no image in {root / IMAGES} ({len(alone)} such mask(s)). Add it, or remove it."
        )
    names = sorted({path.stem for path in masks})
    files = [images[name] for name in names]
    if not by_class:
        return IndexMasks(names, files, [root / MASKS / f"{name}.png" for name in names], classes)
    number = {name: i for i, name in classes.items()}
    of_image: dict[str, dict[int, Path]] = {name: {} for name in names}
    for path in masks:
        of_image[path.stem][number[path.parent.name]] = path
    return BinaryMasks(names, files, [of_image[name] for name in names])
