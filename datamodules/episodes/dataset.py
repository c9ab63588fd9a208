"""Episodes: the one batch type of stage 2, and the data set that draws them."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.datasets.protocols import Protocol, default_seed
from datamodules.datasets.spec import DatasetSpec, Split
from datamodules.episodes.episode import Episode, to_tensor
from datamodules.episodes.image_cache import ImageCache
from datamodules.episodes.manifest import NamedDraw
from datamodules.episodes.streams import stream
from datamodules.episodes.transforms import Letterbox, Squash, TrainAugmentation
from datamodules.files.index import MaskIndex
from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError, some
from qgnet.common.settings import Checked, Count, Natural, Scale, Share, Side
from qgnet.common.terminal import warn

PairTransform = Callable[[Array, Array, int], tuple[Array, Array]]
"""(image, binary mask, seed) → both at the network's size."""
INVERT = np.arange(256, dtype=np.uint8)
INVERT[:2] = 1, 0
"""Table that exchanges background and foreground."""
SUPPORT_DRAWS = 10
"""So often a support is augmented anew if its object was lost."""


class Draw(NamedTuple):
    """Which images make an episode, by their number in the source.

    Attributes:
        class_id: that the supports show.
        query: an image.
        supports: K images.
        present: whether the query shows the class, too.
        inverted: whether object and background change places, in all masks.
    """

    class_id: int
    query: int
    supports: tuple[int, ...]
    present: bool = True
    inverted: bool = False


class EpisodeDataset(Dataset[Episode], metaclass=Checked):
    """Few-shot episodes of a data set. Episode ``i`` depends only on ``stream(seed, fold, i, …)``.

    Unless the protocol says otherwise, the query is the next image of the list that holds one of ``classes`` (the list
    is walked again when exhausted), its class is drawn from those present, the supports from the class's other images.

    A share ``negative`` of the episodes has supports of a class that the query does not show. In training they replace
    ordinary ones. In a test they are added: such an episode is the :meth:`control` of an ordinary one, the same query
    under the supports of an absent class, and follows it in the batch.

    In a share ``inverted`` of the other training episodes the target is everything but the object: the masks of query
    and supports have 0 and 1 exchanged. What stands out is then the wrong answer, as for sky or grass.

    Args:
        dataset: the data set of the images and classes.
        split: ``train``: endless augmented episodes of base classes; ``val``: test episodes of novel classes.
        fold: which classes are novel; None: none, to train on all classes.
        shots: supports per episode, K ≥ 1.
        protocol: every other choice, and the defaults of ``episodes`` and ``seed``.
        episodes: their number, of an epoch in training; None: one per training image, or the protocol's.
        seed: of the draws; None: the protocol's first.
        image_size: side of the square that the network sees, in pixels; None: the data set's, as the next two.
        scale: range of the random scaling in training.
        min_class_area: pixels a class must cover in an image to count there.
        negative: share of the episodes, in [0, 1], that have supports of a class which is not in the query.
        inverted: share of the other training episodes, in [0, 1], whose target is everything but the object.
        versions: fixed augmentations of each training image and class, one of which is drawn, so that what is computed
            of them can be kept; None: a new one each time.
        index: class areas of the images, if they are known already.

    Raises:
        InputError: if no image holds any class, none has shots + 1 images (a class without so many is
            left out, with a warning), or negative episodes are asked for where every image shows every class.
    """

    prefix = "data"

    def __init__(
        self,
        dataset: DatasetSpec,
        split: Split = "val",
        fold: Natural | None = 0,
        shots: Count = 1,
        protocol: Protocol = Protocol(),  # noqa: B008  (frozen)
        episodes: Count | None = None,
        seed: Natural | None = None,
        image_size: Side | None = None,
        scale: Scale | None = None,
        min_class_area: Count | None = None,
        negative: Share = 0.0,
        inverted: Share = 0.0,
        versions: Count | None = None,
        index: MaskIndex | None = None,
    ) -> None:
        protocol = dataset.adapt_protocol(protocol).resolved()
        seed = default_seed(protocol) if seed is None else seed
        dataset = dataset.with_protocol(protocol, seed)
        dataset.check_fold(fold)
        novel, training = dataset.novel_classes(fold), split == "train"
        names = dataset.class_names
        classes = {c: names[c] for c in (dataset.base_classes(fold) if training else novel)}
        side, min_area = image_size or dataset.image_size, min_class_area or dataset.min_class_area
        self.source = dataset.images(split, fold)
        index = index or dataset.index(self.source, split)
        self.shots = shots
        self.protocol = protocol
        self.negative = negative
        self.inverted = inverted
        self.versions = versions if training else None
        self.seed = seed
        self.fold = len(dataset.folds) if fold is None else fold  # a number, as the episodes' random streams need
        self.training = training
        self.areas = [facts.areas for facts in index.facts]
        self.resize = Letterbox(side) if protocol.resize == "pad" else Squash(side)
        self.transform: PairTransform = TrainAugmentation(side, scale or dataset.scale) if training else self.resize
        self.ignored = novel if training and protocol.novel_in_training == "ignore" else []
        dropped = set(index.with_any(novel)) if training and protocol.novel_in_training == "drop" else set()
        self.images_of = {c: [i for i in index.images_of(c, min_area) if i not in dropped] for c in classes}
        self.images_of = {c: images for c, images in self.images_of.items() if images}
        self._leave_out_rare(classes, min_area, len(dropped))
        self.classes_in: dict[int, list[int]] = {}
        for class_id, images in self.images_of.items():
            for i in images:
                self.classes_in.setdefault(i, []).append(class_id)
        self.queries = sorted(self.classes_in)
        self.pairs = [(i, c) for i in self.queries for c in self.classes_in[i]]
        if negative and not any(self.absent_from(i) for i in self.queries):
            raise InputError(
                f"data.negative is {negative}, but every image shows all of the classes "
                f"{some([classes[c] for c in self.images_of])}, so none can be asked for where it is absent. Set "
                "--data.negative 0, or add images without some class."
            )
        self.length = episodes or (len(self.queries) if training else dataset.test_episodes(protocol))
        self.listed: Sequence[Draw] = ()
        self.cache = ImageCache()
        self._walk = -1
        self._order: Sequence[int] = self.queries

    def _leave_out_rare(self, classes: Mapping[int, str], min_area: int, dropped: int) -> None:
        """Leave out classes with too few images; InputError if none is left. ``dropped`` images are out already."""
        besides = f", besides the {dropped} that show a novel class and are not trained on" if dropped else ""
        enough_of_it = f"at least {min_area} px"
        if not self.images_of:
            raise InputError(
                f"No image{besides} holds any of the classes {some(list(classes.values()))} with {enough_of_it}. "
                "Check the list file and the masks, or lower --data.min_class_area."
            )
        enough = {c: images for c, images in self.images_of.items() if len(images) > self.shots}
        rare = [f"{classes[c]} ({len(self.images_of[c])})" for c in self.images_of if c not in enough]
        message = (
            f"an episode of {self.shots} shot(s) needs {self.shots + 1} images of {enough_of_it}{besides}, and "
            f"there are too few of {some(rare)}. Lower --data.shots or --data.min_class_area, or add images."
        )
        if not enough:
            raise InputError(f"No class can be tested or trained: {message}")
        if rare:
            warn(f"Some classes are left out: {message}")
        self.images_of = enough

    def use_manifest(self, draws: Sequence[NamedDraw]) -> None:
        """Use these episodes instead of drawing them; InputError if they name an unknown image or class."""
        number = {name: i for i, name in enumerate(self.source.names)}
        for draw in draws:
            missing = [name for name in (draw.query, *draw.supports) if name not in number]
            if missing or draw.class_id not in self.images_of or len(draw.supports) != self.shots:
                raise InputError(
                    f"The episodes of data.episode_file do not fit: class {draw.class_id}, {len(draw.supports)} "
                    f"shot(s), images not in the list: {some(missing) or 'none'}; expected the classes "
                    f"{some([str(c) for c in self.images_of])}, {self.shots} shot(s). Give the data, fold and shots "
                    "that the file was written for."
                )
            self._check_shown(draw, number)
        self.listed = [Draw(d.class_id, number[d.query], tuple(number[s] for s in d.supports)) for d in draws]
        self.length = len(self.listed)

    def _check_shown(self, draw: NamedDraw, number: Mapping[str, int]) -> None:
        """InputError if a query is its own support, or an image of the episode does not show the class."""
        if draw.query in draw.supports:
            raise InputError(
                f"An episode of data.episode_file has the query {draw.query} as its own support. Remove it."
            )
        for name in (draw.query, *draw.supports):
            if draw.class_id not in self.areas[number[name]]:
                raise InputError(
                    f"An episode of data.episode_file asks for class {draw.class_id}, which {name} does not show. Give "
                    "the data that the file was written for."
                )

    def absent_from(self, image: int) -> list[int]:
        """The classes that the image does not show and for which there are supports."""
        return [c for c in self.images_of if c not in self.areas[image]]

    def _query(self, i: int) -> int:
        walk, position = divmod(i, len(self.queries))
        if self.training and walk != self._walk:  # the order of a walk is kept until another is asked for
            order = stream(self.seed, self.fold, walk, 2).permutation(len(self.queries))
            self._walk, self._order = walk, [self.queries[j] for j in order]
        return self._order[position]

    def __len__(self) -> int:
        """Number of episodes (in training: per epoch)."""
        return self.length

    def draw(self, i: int) -> Draw:
        """Which class and images make episode ``i`` (any number ≥ 0; training counts on over the epochs)."""
        if self.listed:
            return self.listed[i]
        draw = self._draw_present(i)
        if not self.training:
            return draw
        inverted = self.inverted > 0 and stream(self.seed, self.fold, i, 4).random() < self.inverted
        return self._draw_absent(i, draw.query) or draw._replace(inverted=bool(inverted))

    def query_of(self, i: int) -> int:
        """The image that is the query of test episode ``i``, without drawing the rest of it."""
        if self.listed:
            return self.listed[i].query
        if self.protocol.queries == "pairs":
            return self.pairs[i % len(self.pairs)][0]
        return self._query(i)

    def _draw_present(self, i: int) -> Draw:
        """Episode ``i`` whose query shows the class."""
        rng = stream(self.seed, self.fold, i, 0)
        if self.training and self.protocol.training_queries == "classes":
            class_id = int(rng.choice(list(self.images_of)))
            query = int(rng.choice(self.images_of[class_id]))
        elif not self.training and self.protocol.queries == "pairs":
            query, class_id = self.pairs[i % len(self.pairs)]
        else:
            query = self._query(i)
            class_id = int(rng.choice(self.classes_in[query]))
        others = [image for image in self.images_of[class_id] if image != query]
        supports = rng.choice(others, size=self.shots, replace=self.protocol.supports == "repeated")
        return Draw(class_id, query, tuple(int(s) for s in supports))

    def _draw_absent(self, i: int, query: int) -> Draw | None:
        """For a share ``negative`` of the numbers ``i``: the query under supports of a class that it does not show."""
        if not self.negative:
            return None
        rng = stream(self.seed, self.fold, i, 3)
        absent = self.absent_from(query)
        if rng.random() >= self.negative or not absent:
            return None
        class_id = int(rng.choice(absent))
        supports = rng.choice(self.images_of[class_id], size=self.shots, replace=self.protocol.supports == "repeated")
        return Draw(class_id, query, tuple(int(s) for s in supports), present=False)

    def named(self, i: int) -> NamedDraw:
        """Episode ``i`` by the names of its images."""
        class_id, query, supports, *_ = self.draw(i)
        return NamedDraw(class_id, self.source.names[query], tuple(self.source.names[s] for s in supports))

    def _image(self, image: int) -> Array:
        """(H, W, 3)."""
        return self.cache.get((image, 0), lambda: self.source.image(image))

    def _mask(self, image: int, class_id: int) -> Array:
        """(H, W) in {0, 1, 255} as training or test sees it."""

        def read() -> Array:
            mask = self.source.mask(image, class_id, self.ignored)
            if self.training and self.protocol.boundary_in_training == "background":
                mask[self.source.mask(image, class_id) == IGNORE] = 0  # not the novel classes' pixels
            return mask

        return self.cache.get((image, class_id), read)

    def support_pair(self, image: int, draw: Draw, seed: int) -> tuple[Array, Array]:
        """A support image and mask at the network's size; drawn again if the crop has lost the object.

        If the object is too small for every crop, the whole image is used, where it covers at least a pixel.
        """
        for attempt in range(SUPPORT_DRAWS):
            resized, mask = self.transform(self._image(image), self._target_mask(image, draw), seed + attempt)
            if (mask == 1).any():
                return resized, mask
        return self.resize(self._image(image), self._target_mask(image, draw), seed)

    def _target_mask(self, image: int, draw: Draw) -> Array:
        """The target mask of the episode."""
        mask = self._mask(image, draw.class_id)
        return cv2.LUT(mask, INVERT) if draw.inverted else mask

    def __getitem__(self, i: int) -> Episode:
        """Episode ``i`` with its pixels, transforms included a function of (seed, fold, i)."""
        return self._load(i, self.draw(i))

    def control(self, i: int) -> Episode | None:
        """In a test, episode ``i`` under supports of an absent class; None except for a share ``negative``."""
        draw = None if self.training else self._draw_absent(i, self.draw(i).query)
        return draw and self._load(i, draw)

    def __getitems__(self, numbers: Sequence[int]) -> list[Episode]:
        """One batch of a DataLoader: these episodes, each followed by its control if it has one."""
        batch: list[Episode] = []
        for i in numbers:
            batch.append(self[i])
            control = self.control(i)
            if control is not None:
                batch.append(control._replace(control_of=torch.tensor(len(batch) - 1)))
        return batch

    def _augmentations(self, i: int, draw: Draw) -> tuple[list[int], list[int]]:
        """Of an episode's query and supports: the seeds of their transforms, and the numbers of fixed ones, else -1."""
        seeds = stream(self.seed, self.fold, i, 1).integers(2**31, size=1 + self.shots).tolist()
        if self.versions is None:
            return seeds, [-1] * len(seeds)
        shown = [draw.class_id if draw.present else 0, *[draw.class_id] * self.shots]
        kinds = [2 * class_id + draw.inverted for class_id in shown]  # of mask, by which an image is cropped
        versions = [kind * self.versions + seed % self.versions for kind, seed in zip(kinds, seeds, strict=True)]
        images = zip((draw.query, *draw.supports), versions, strict=True)
        return [int(stream(self.seed, *image, 5).integers(2**31)) for image in images], versions

    def _load(self, i: int, draw: Draw) -> Episode:
        """The pixels of an episode; ``i`` gives its transforms."""
        class_id, query, supports, present, _ = draw
        seeds, versions = self._augmentations(i, draw)
        original = self._target_mask(query, draw)
        query_image, query_mask = self.transform(self._image(query), original, seeds[0])
        pairs = [self.support_pair(s, draw, seed) for s, seed in zip(supports, seeds[1:], strict=True)]
        at_original = self.protocol.score_at == "original" and not self.training
        scored = original if at_original else query_mask
        return Episode(
            query_image=to_tensor(query_image),
            query_mask=torch.from_numpy(query_mask.copy()),
            support_images=torch.stack([to_tensor(image) for image, _ in pairs]),
            support_masks=torch.stack([torch.from_numpy(mask.copy()) for _, mask in pairs]),
            class_id=torch.tensor(class_id),
            present=torch.tensor(present),
            control_of=torch.tensor(-1),
            query_name=[self.source.names[query]],
            support_names=[tuple(self.source.names[s] for s in supports)],
            versions=torch.tensor(versions),
            original_mask=[] if self.training else [torch.from_numpy(scored.copy())],
            original_size=[(scored.shape[0], scored.shape[1])],
            content_size=[self.resize.content_size(*original.shape) if at_original else query_mask.shape],
        )
