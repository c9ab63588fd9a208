"""The inputs of stage 1: two global views and two local patches of an image, augmented as in MoCo v2."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations checks for updates online at import

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.episodes.episode import to_tensor
from datamodules.episodes.streams import stream
from datamodules.files.sources import Array
from datamodules.views.region_maps import Images, RegionMaps
from datamodules.views.regions import Patch, PatchRule, Window, draw_patches
from qgnet.common.settings import INCREASING, Checked, Range, Share
from qgnet.common.terminal import warn

SWITCHED = {"jitter_probability": ("brightness", "contrast", "saturation", "hue"), "blur_probability": ("blur_sigma",)}
"""Probability of an augmentation → settings without effect if it is 0."""
VIEWS = 2
"""Number of global views of an image, and of its local patches."""
CROP_DRAWS = 10
"""Draws of a view's shape before the centre of the image is taken, as in torchvision's RandomResizedCrop."""


@dataclass(frozen=True)
class Augmentation(metaclass=Checked):
    """Augmentation of global views and local patches; the defaults are MoCo v2's (Chen et al., arXiv 2003.04297).

    Args:
        view_area: range of a global view's share of the image area, in (0, 1].
        view_aspect: range of a global view's width / height, before it is resized to a square.
        brightness: largest change of the brightness, as a share in [0, 1].
        contrast: largest change of the contrast, as a share in [0, 1].
        saturation: largest change of the saturation, as a share in [0, 1].
        hue: largest shift of the hue, as a share of the colour circle in [0, 0.5].
        jitter_probability: probability of changing brightness, contrast, saturation and hue.
        grey_probability: probability of converting to grey.
        blur_sigma: range of the Gaussian blur's standard deviation in pixels of the view or patch.
        blur_probability: probability of blurring.
        flip_probability: probability of mirroring left and right.

    Raises:
        InputError: if a value is out of its range.
    """

    prefix = "data.augmentation"

    view_area: Annotated[tuple[float, float], Range(1e-6, 1), INCREASING] = (0.2, 1.0)
    view_aspect: Annotated[tuple[float, float], Range(1e-3, 1e3), INCREASING] = (3 / 4, 4 / 3)
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.4
    hue: Annotated[float, Range(0, 0.5)] = 0.1
    jitter_probability: Share = 0.8
    grey_probability: Share = 0.2
    blur_sigma: Annotated[tuple[float, float], Range(1e-6, 100), INCREASING] = (0.1, 2.0)
    blur_probability: Share = 0.5
    flip_probability: Share = 0.5

    def __post_init__(self) -> None:
        """Warn of settings without effect."""
        for switch, names in SWITCHED.items():
            changed = [name for name in names if getattr(self, name) not in (0, getattr(Augmentation, name))]
            if changed and not getattr(self, switch):
                warn(f"data.augmentation.{changed[0]} {getattr(self, changed[0])} has no effect: {switch} is 0.")

    def photometry(self) -> list[A.BasicTransform]:
        """The transforms: colour jitter, grey, blur and flip."""

        def around_one(change: float) -> tuple[float, float]:
            return 1 - change, 1 + change

        return [
            A.ColorJitter(
                brightness=around_one(self.brightness),
                contrast=around_one(self.contrast),
                saturation=around_one(self.saturation),
                hue=(-self.hue, self.hue),
                p=self.jitter_probability,
            ),
            A.ToGray(p=self.grey_probability),
            A.GaussianBlur(blur_limit=0, sigma_limit=self.blur_sigma, p=self.blur_probability),
            A.HorizontalFlip(p=self.flip_probability),
        ]

    def view(self, size: tuple[int, int], rng: np.random.Generator) -> Window:
        """The window of a global view in an image of (height, width), as torchvision's RandomResizedCrop draws it."""
        height, width = size
        log_aspects = np.log(self.view_aspect)
        for _ in range(CROP_DRAWS):
            area, aspect = height * width * rng.uniform(*self.view_area), math.exp(rng.uniform(*log_aspects))
            h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < h <= height and 0 < w <= width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                return slice(top, top + h), slice(left, left + w)
        h = min(height, max(1, round(width / self.view_aspect[0])))
        w = min(width, max(1, round(height * self.view_aspect[1])))
        top, left = (height - h) // 2, (width - w) // 2
        return slice(top, top + h), slice(left, left + w)


class Views(NamedTuple):
    """A batch of views of B images.

    Attributes:
        global_views: (B, 2, 3, G, G) uint8.
        local_patches: (B, 2, 3, L, L) uint8.
        fallback: (B,) bool, whether a patch had no usable region and is a random crop.
        name: B names.
    """

    global_views: Tensor
    local_patches: Tensor
    fallback: Tensor
    name: list[str]


class Drawn(NamedTuple):
    """An image, its region map (None for random windows), its crops, and the seeds of their augmentation."""

    name: str
    image: Array
    regions: Array | None
    views: list[Window]
    patches: list[Patch]
    seeds: list[int]


class ViewDataset(Dataset[Views]):
    """Views of member ``i mod len``. Their random numbers come from ``stream(seed, i, 0)`` only.

    With ``shuffled``, each pass over the members has a new order.
    """

    def __init__(
        self,
        source: Images,
        members: Sequence[int],
        regions: RegionMaps,
        rule: PatchRule,
        augmentation: Augmentation,
        seed: int,
        global_size: int,
        local_size: int,
        shuffled: bool,
    ) -> None:
        self.source = source
        self.members = members
        self.regions = regions
        self.rule = rule
        self.augmentation = augmentation
        self.seed = seed
        self.shuffled = shuffled
        self.global_size = global_size
        self.local_size = local_size
        self.photometry = A.Compose(augmentation.photometry())

        self._walk = -1
        self._order = members

    def _member(self, i: int) -> int:
        walk, position = divmod(i, len(self.members))
        if self.shuffled and walk != self._walk:  # the order of the last pass is kept
            order = stream(self.seed, walk, 2).permutation(len(self.members))
            self._walk, self._order = walk, [self.members[j] for j in order]
        return self._order[position]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.members)

    def drawn(self, i: int) -> Drawn:
        """The image, crops and seeds of views number ``i``."""
        member = self._member(i)
        name, image = self.source.names[member], self.source.image(member)
        rng = stream(self.seed, i, 0)
        size = (image.shape[0], image.shape[1])
        views = [self.augmentation.view(size, rng) for _ in range(VIEWS)]
        regions = self.regions.of(image, name, self.source.identity(member))
        patches = draw_patches(regions, self.regions.count, size, views, self.rule, rng)
        return Drawn(name, image, regions, views, patches, rng.integers(2**31, size=2 * VIEWS).tolist())

    def __getitem__(self, i: int) -> Views:
        """Views number ``i`` (in training, the numbers continue over the epochs)."""
        name, image, _, views, patches, seeds = self.drawn(i)
        windows = [(view, self.global_size) for view in views] + [(patch.window, self.local_size) for patch in patches]
        made = [
            augment(self.photometry, square(image[window], side), seed)
            for (window, side), seed in zip(windows, seeds, strict=True)
        ]
        fallback = torch.tensor(any(patch.fallback for patch in patches))
        return Views(torch.stack(made[:VIEWS]), torch.stack(made[VIEWS:]), fallback, [name])


def square(image: Array, side: int) -> Array:
    """(H, W, 3) uint8 → (side, side, 3), without aliasing when shrinking (like Pillow, which MoCo uses)."""
    shrinks = side * side < image.shape[0] * image.shape[1]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def augment(pipeline: A.Compose, image: Array, seed: int) -> Tensor:
    """(S, S, 3) uint8 → (3, S, S) uint8; depends on image and seed only."""
    pipeline.set_random_seed(seed)
    return to_tensor(pipeline(image=image)["image"])


def collate_views(views: Sequence[Views]) -> Views:
    """Single images → one batch."""
    return Views(
        global_views=torch.stack([v.global_views for v in views]),
        local_patches=torch.stack([v.local_patches for v in views]),
        fallback=torch.stack([v.fallback for v in views]),
        name=[v.name[0] for v in views],
    )
