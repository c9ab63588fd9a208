"""Unlabelled images for stage 1."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from torch.utils.data import DataLoader

from datamodules.base import BaseDataModule
from datamodules.datasets.synthetic import CLASSES, SyntheticScenes
from datamodules.episodes.streams import stream
from datamodules.files import find_files, read_image
from datamodules.files.finding import ENDINGS, normalized_name
from datamodules.files.lists import read_lines
from datamodules.files.sources import Array
from datamodules.views.dataset import Augmentation, ViewDataset, Views, collate_views
from datamodules.views.object_images import MaskFolder, ObjectImageDataset, collate_object_images
from datamodules.views.region_maps import Images, RegionMaps
from datamodules.views.regions import Method, PatchRule
from qgnet.common.errors import InputError
from qgnet.common.settings import LARGEST_SIDE, Count, Natural, Range, Side
from qgnet.common.terminal import say, warn

ViewSide = Annotated[int, Range(16, LARGEST_SIDE)]


class ViewDataModule(BaseDataModule):
    """Views of training images and of a few held-out images.

    Args:
        batch_size: images per process and step.
        num_workers: loader processes; null takes one per core, at most 8.
        seed: seed of views, patches and the choice of held-out images.
        global_size: side of the global views in pixels.
        local_size: side of the local patches in pixels.
        regions: ``slic``, ``felzenszwalb``, ``grid`` or ``random``.
        region_count: approximate number of regions of an image.
        region_cache: folder for stored region maps; null computes them each time.
        patches: how patches are drawn from the regions, e.g. ``--data.patches.choice one_region``.
        augmentation: augmentation of views and patches, e.g. ``--data.augmentation.hue 0``.
        held_out: number of images excluded from training, for validation, test and figures.
        map_size: side of the square images for prior maps, in pixels.
    """

    most_workers = 8
    more = ("--data.held_out", "images")

    def __init__(
        self,
        batch_size: Count = 256,
        num_workers: Natural | None = None,
        seed: Natural = 321,
        global_size: ViewSide = 224,
        local_size: ViewSide = 96,
        regions: Method = "slic",
        region_count: Annotated[int, Range(1, 255)] = 16,
        region_cache: str | None = None,
        patches: PatchRule = PatchRule(),  # noqa: B008  (frozen)
        augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
        held_out: Count = 64,
        map_size: Side = 225,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.global_size = global_size
        self.local_size = local_size
        self.regions = regions
        self.region_count = region_count
        self.region_cache = region_cache
        self.patches = patches
        self.augmentation = augmentation
        self.held_out = held_out
        self.map_size = map_size
        self.data: dict[str, ViewDataset] = {}
        if region_cache and not self.region_maps().file:
            warn(
                f"data.region_cache {region_cache} has no effect: region maps of data.regions {regions} are not stored."
            )
        if regions == "random" and patches.min_area != PatchRule.min_area:
            warn(f"data.patches.min_area {patches.min_area} has no effect: data.regions random has no regions.")

    @abstractmethod
    def source(self) -> Images:
        """The images, found by a search."""

    @cached_property
    def all_images(self) -> Images:
        """All images; the search runs once."""
        return self.source()

    def region_maps(self) -> RegionMaps:
        """The region maps of these settings."""
        return RegionMaps(self.regions, self.region_count, Path(self.region_cache) if self.region_cache else None)

    def prepare_data(self) -> None:
        """Compute the region maps that are missing in ``region_cache``, in one process of each machine."""
        self.region_maps().fill(self.all_images)

    def setup(self, stage: str) -> None:
        """Split the images; InputError if the training images do not fill a batch."""
        if self.data:
            return
        source, regions = self.all_images, self.region_maps()
        order = stream(self.seed, 3).permutation(len(source.names)).tolist()
        members = {"val": order[: self.held_out], "train": order[self.held_out :]}
        if len(members["train"]) < max(2, self.batch_size):
            raise InputError(
                f"There are {len(order)} images; {self.held_out} are held out and a batch takes "
                f"{self.batch_size}. Give more images, or lower --data.batch_size or --data.held_out."
            )
        for split, chosen in members.items():
            self.data[split] = ViewDataset(
                source,
                chosen,
                regions,
                self.patches,
                self.augmentation,
                self.seed,
                self.global_size,
                self.local_size,
                shuffled=split == "train",
            )
        self.shown = self.object_images()

    def object_images(self) -> ObjectImageDataset:
        """The held-out images, for prior maps; subclasses add their masks."""
        return ObjectImageDataset(self.all_images, self.data["val"].members, None, self.map_size)

    def train_dataloader(self) -> DataLoader[Views]:
        """All images except those held out, with new views in each epoch."""
        return self.loader(self.data["train"], training=True, collate_fn=collate_views)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Loaders of the held-out images, with the same views in each epoch, and of the images for prior maps."""
        object_images = self.loader(self.shown, training=False, collate_fn=collate_object_images)
        return [self.predict_dataloader(), object_images]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """The loaders of the validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Views]:
        """The held-out images."""
        return self.loader(self.data["val"], training=False, collate_fn=collate_views)


class ImageFolder:
    """All images below a folder, or those in a list; its names may omit folders and endings.

    Raises:
        InputError: if there is no image, or a listed image is missing, ambiguous or listed twice.
    """

    def __init__(self, root: Path, list_file: Path | None) -> None:
        if not root.is_dir():
            raise InputError(f"The root is {root}, which is not a folder. Point it to a folder of images.")
        searched = find_files(root)
        found = searched.files
        if list_file is not None:
            found = self._listed(found, list_file, root)
        if not found:
            left_out = searched.left_out_message(root)
            raise InputError(
                f"{root} holds no images ({', '.join(sorted(ENDINGS))}). {left_out} "
                "Point the root to a folder of images."
            )
        if list_file is None:
            say(searched.left_out_message(root))
        self.root = root
        self.names = found

    @staticmethod
    def _listed(found: Sequence[str], list_file: Path, root: Path) -> list[str]:
        wanted = [normalized_name(line).replace("\\", "/").removeprefix("./") for line in read_lines(list_file)]
        by_name: dict[str, list[str]] = {}
        for file in found:
            path = PurePosixPath(normalized_name(file))
            for name in {str(path), str(path.with_suffix("")), path.name, path.stem}:
                by_name.setdefault(name, []).append(file)
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise InputError(
                f"{list_file} names {len(missing)} image(s) that are not under {root}, e.g. {missing[0]}. "
                "Correct the list or the root."
            )
        unclear = [name for name in wanted if len(by_name[name]) > 1]
        if unclear:
            raise InputError(
                f"{list_file} names {unclear[0]}, which may be {' or '.join(by_name[unclear[0]][:2])}. Give the path "
                f"below {root}."
            )
        listed = [by_name[name][0] for name in wanted]
        if len(set(listed)) < len(listed):
            raise InputError(f"{list_file} names {len(listed) - len(set(listed))} image(s) more than once.")
        return listed

    def image(self, i: int) -> Array:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.root / self.names[i])

    def identity(self, i: int) -> str:
        """Size and modification time in ns, because an image may change twice within a second."""
        status = os.stat(os.path.join(self.root, self.names[i]))
        return f"{status.st_size} {status.st_mtime_ns}"


class UnlabeledDataModule(ViewDataModule):
    """Views and patches of any folder of images, without labels.

    Args:
        root: folder of images, searched with all subfolders.
        list_file: text file with one image name (or path below ``root``) per line; null takes every image.
        mask_root: folder of index masks to score prior maps, one PNG per image; null computes no scores.
        mask_list: text file with the names of the scored images; null takes the held-out images.
        **kwargs: settings of every ViewDataModule.
    """

    def __init__(
        self,
        root: str = "data/images",
        list_file: str | None = None,
        mask_root: str | None = None,
        mask_list: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mask_list is not None and mask_root is None:
            raise InputError(
                f"data.mask_list is {mask_list}, which measures nothing without masks. Give their folder by "
                "data.mask_root, or take it out."
            )
        self.root = Path(root)
        self.list_file = Path(list_file) if list_file is not None else None
        self.mask_root = Path(mask_root) if mask_root is not None else None
        self.mask_list = Path(mask_list) if mask_list is not None else None

    def source(self) -> ImageFolder:
        """The images of the folder, or those in the list."""
        return ImageFolder(self.root, self.list_file)

    def object_images(self) -> ObjectImageDataset:
        """The held-out images or those in ``mask_list``, with the union of their masks if ``mask_root`` is given."""
        if self.mask_root is None:
            return super().object_images()
        if self.mask_list is None:
            source, members = self.all_images, self.data["val"].members
        else:
            source = ImageFolder(self.root, self.mask_list)
            members = range(len(source.names))
        masks = MaskFolder(self.mask_root, {i: source.names[i] for i in members})
        return ObjectImageDataset(source, members, masks.labels, self.map_size)


class SyntheticViewsDataModule(ViewDataModule):
    """Views and patches of built-in scenes for stage 1, without labels.

    Args:
        scenes: number of scenes.
        scene_size: side of the scenes in pixels.
        batch_size: images per process and step.
        global_size: side of the global views in pixels.
        local_size: side of the local patches in pixels.
        map_size: side of the square images for prior maps, in pixels.
        **kwargs: settings of every ViewDataModule.
    """

    most_workers = 2

    def __init__(
        self,
        scenes: Count = 2000,
        scene_size: Annotated[int, Range(32)] = 129,
        batch_size: Count = 64,
        global_size: ViewSide = 96,
        local_size: ViewSide = 48,
        map_size: Side = 129,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            global_size=global_size,
            local_size=local_size,
            map_size=map_size,
            **kwargs,
        )
        self.scenes = scenes
        self.scene_size = scene_size

    def source(self) -> SyntheticScenes:
        """Scenes of all classes; they differ from the scenes of the episodes."""
        return SyntheticScenes(list(CLASSES), self.scene_size, self.scenes, self.seed, "unlabeled")

    def object_images(self) -> ObjectImageDataset:
        """The held-out scenes with the union of their masks."""
        scenes = self.source()
        return ObjectImageDataset(scenes, self.data["val"].members, scenes.labels, self.map_size)
