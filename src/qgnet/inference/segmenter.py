"""A few masks in, all other masks out: few-shot segmentation of images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.episodes.letterbox import Letterboxed, crop_support, letterbox_support
from datamodules.episodes.prepared import PreparedImage, prepare_image, reduced_size
from datamodules.episodes.transforms import resize_mask
from datamodules.files.sources import IGNORE, Array
from qgnet.common.errors import InputError
from qgnet.common.terminal import say
from qgnet.inference import PRESENCE, REFINE, saved_supports
from qgnet.inference.encoding import EncodingNetwork
from qgnet.inference.models import open_model
from qgnet.inference.presence import Calibration
from qgnet.inference.refiners import Refiners
from qgnet.inference.resolution import choose_sides, coarse_weights
from qgnet.inference.supports import ImageLike, SupportPairs, as_image, checked_images, name_of, read_supports
from qgnet.inference.tiling import ClassMaps, batch_limit, blend
from qgnet.inference.tuning import FittedClass, SupportReport, Trial, choose, join_scales, mirrored, support_reports
from qgnet.networks.nested_tensors import concatenate, map_tensors
from qgnet.outputs.segments import Map, Result, Segment, furthest_above
from qgnet.tasks.feature_cache import MB, FeatureCache
from qgnet.tasks.finite import not_finite

BATCH = 8
"""Squares that go through the network at once; of large ones fewer."""
TRIAL_SIDE = 641
"""Longer side in pixels at which a support's own mask is compared with what is found in it."""


class Segmenter:
    """Segments images by a few examples.

    ``predict`` may be called from several threads at once, unless the Segmenter remembers, see :meth:`remember`.

    Args:
        model: ``matching``, which needs no training; another name that `qgnet models` lists; the file of a checkpoint
            of stage 2; or a folder that `qgnet export` wrote. None: ``matching`` if one of its settings is given,
            otherwise the default that `qgnet models` shows.
        image_size: side in pixels of the square that images are brought to. None: of ``matching`` without tiles, its
            own side and, where the supports' objects are small, a larger one beside it (see `sides`); of a trained
            network the side that it was trained at.
        device: where it runs, e.g. ``cpu`` or ``cuda``; None: a GPU if there is one.
        bf16: compute convolutions in bfloat16.
        tile: slide the square over images that are larger, instead of bringing them to the square.
        threshold: probability above which a pixel is the object, in (0, 1); None: chosen by the supports.
        refine: how masks are brought to the edges of the image: the name of a refiner (``walk``, ``sam2``, ``none``),
            or ``auto``: ``walk``, unless the supports are found better without.
        presence: least score, in [0, 1], of an image that is not left empty; 0 leaves none empty that has a pixel
            above the threshold. None: 0.6. It counts only where scores are calibrated: of ``matching`` with its own
            settings and image size, without tiles. Elsewhere a score is the mean probability of a mask, nothing is left
            empty by it, and a line says so.
        matching: settings of ``matching``: ``encoder``, ``encoder_weights``, ``high_stage``, ``method``,
            ``dilated``.

    Attributes:
        sides: in pixels, of the squares that images are brought to, the smaller one first; chosen by :meth:`fit`.

    Raises:
        InputError: if there is no such model or refiner, or its weights or its library cannot be had.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        image_size: int | None = None,
        device: str | torch.device | None = None,
        bf16: bool = False,
        tile: bool = False,
        threshold: float | None = None,
        presence: float | None = None,
        refine: str = REFINE[0],
        **matching: Any,
    ) -> None:
        if threshold is not None and not 0 < threshold < 1:
            raise InputError(f"The threshold is {threshold}; expected a probability between 0 and 1.")
        if presence is not None and not 0 <= presence <= 1:
            raise InputError(f"The least score is {presence}; expected a probability from 0 to 1.")
        self.refiners = Refiners(refine)
        self.presence = PRESENCE if presence is None else presence
        self.refine = refine
        self.model = open_model(model, image_size, **matching)
        if bf16 and self.model.exported:
            raise InputError("An exported model computes in float32. Leave bf16 out, or take the model it was made of.")
        self.bf16 = bf16
        self.tile = tile
        self.threshold = threshold
        self.image_size = image_size
        self.sides = [self.model.image_size]
        self.fitted: list[FittedClass] = []
        self.network = EncodingNetwork(self.model.net)
        self.to(device or default_device())
        self._report_uncalibrated(asked=bool(presence))

    @property
    def calibration(self) -> Calibration | None:
        """Of its scores; None where it was not measured for this model and these settings."""
        known = self.model.calibration
        return None if known is None or known.mismatch(self.model.image_size, self.tile, self.bf16) else known

    def _report_uncalibrated(self, asked: bool) -> None:
        """Say why `presence` counts for nothing, if it was asked for or a calibration would be there."""
        known = self.model.calibration
        why = "the score is not calibrated for this model"
        if known is not None:
            why = known.mismatch(self.model.image_size, self.tile, self.bf16)
        if why and (asked or (known is not None and self.presence)):
            say(f"Nothing is left empty by its score: {why}. Here it is the mean probability of a mask.")

    def remember(self, megabytes: int) -> "Segmenter":
        """Keep what the network makes of images, the latest ones, for when it is asked of them with other supports.

        From then on only one thread at a time may use the Segmenter.
        """
        self.network.cache = FeatureCache(megabytes * MB)
        return self

    def to(self, device: str | torch.device) -> "Segmenter":
        """Move the network and the fitted classes."""
        try:
            self.network.to(device)
        except (RuntimeError, TypeError, AssertionError) as error:  # no such device; torch without its kind of devices
            raise InputError(f"device={device!r} cannot be used ({error}). Take cpu, or leave it out.") from None
        self.refiners.to(self.network.device)
        self.fitted = [
            x._replace(encoded=map_tensors(lambda t: t.to(self.network.device), x.encoded)) for x in self.fitted
        ]
        return self

    @property
    def supports(self) -> list[SupportReport]:
        """How each support goes with the others of its class, and which one disagrees."""
        return [report for one in self.fitted for report in one.supports]

    @property
    def classes(self) -> list[str]:
        """Names in the order of their numbers, which begin at 1."""
        return [one.name for one in self.fitted]

    def fit(
        self,
        supports: SupportPairs | Mapping[str, SupportPairs],
        names: Mapping[int, str] | None = None,
        scribbles: bool = False,
    ) -> "Segmenter":
        """Learn classes from their supports; they are encoded once, here.

        Args:
            supports: pairs of image and mask, or class name → such pairs. An image is a file, a PIL image or a uint8
                array (H, W, 3) RGB or (H, W) grey; a mask is a file, a PIL image or an array (H, W) of bool or whole
                numbers, of the image's size: black and white, or 0 background, 1 object, 255 ignored; or a tensor.
            names: class number → name. The masks then hold class numbers, 0 background and 255 ignored.
            scribbles: the masks are rough strokes to be grown, see `read_supports`.

        Returns:
            Itself.

        Raises:
            InputError: for no support, a mask that is empty, of nothing but the object or of another size than its
                image, class numbers without a meaning, two classes of one name, or what cannot be read.
        """
        by_class = read_supports(supports, names, scribbles)
        self.sides = [self.model.image_size]
        if self.image_size is None and not self.tile:
            masks = [mask for pairs in by_class.values() for _, mask in pairs]
            self.sides = choose_sides(masks, self.model.image_size, self.model.net.free_stride)
        self.fitted = [self._fit_class(name, pairs) for name, pairs in by_class.items()]
        return self

    def _fit_class(self, name: str, pairs: list[tuple[Array, Array]]) -> FittedClass:
        pairs = [crop_support(*pair, self.sides[0]) for pair in pairs] if self.tile else pairs
        with torch.inference_mode(), self._precision():
            encoded = [
                [self.network.support_and_query(*letterbox_support(*pair, side)) for pair in pairs]
                for side in self.sides
            ]
            trials, similar = self._leave_one_out(encoded, pairs)
        for number, trial in enumerate(trials, start=1):
            self._require_finite(torch.stack(trial.score_maps), f"support {number} of {name!r}")
        known = self.model.calibration
        weights = coarse_weights([mask for _, mask in pairs], self.sides, self.model.net.free_stride)
        choice, ious = choose(trials, weights, self.refiners, self.threshold, known and known.threshold)
        shots = [self.model.net.stack_shots([support for support, _ in of_side]) for of_side in encoded]
        similarity = float(np.mean(similar)) if similar else 0.0
        return FittedClass(name, shots, choice, support_reports(name, ious), similarity)

    def _leave_one_out(
        self, encoded: list[list[tuple[Any, Any]]], pairs: list[tuple[Array, Array]]
    ) -> tuple[list[Trial], list[float]]:
        """Each support by the others, or the mirrored copy of the only one; and how similar the objects found are.

        Args:
            encoded: for each side, the supports as supports and as queries.
            pairs: their images and masks.
        """
        alone = len(pairs) == 1
        trials, similar = [], []
        for i, (image, mask) in enumerate([mirrored(*pairs[0])] if alone else pairs):
            prepared = prepare_image(image, self.sides, guide_side=self.refiners.guide_side)
            size, score_maps = reduced_size(mask.shape, TRIAL_SIDE), []
            for side, of_side, scale in zip(self.sides, encoded, prepared.scales, strict=True):
                others = [support for k, (support, _) in enumerate(of_side) if alone or k != i]
                query = self.network.queries(scale.squares) if alone else of_side[i][1]
                inside = letterbox_support(image, mask, side)[1][None] != IGNORE
                found = self._compare(query, self.model.net.stack_shots(others), side, inside)
                score_maps.append(blend(found.score_maps.float().cpu(), scale._replace(size=size)))
                similar += [] if found.evidence is None or alone else found.evidence[:, 0].tolist()
            trials.append(Trial(score_maps, prepared.guide, torch.from_numpy(resize_mask(mask, size[::-1]))))
        return trials, similar

    def save(self, path: str | Path) -> None:
        """Write the network and the fitted classes, as tensors and plain values, to one file.

        Raises:
            InputError: for an exported network, whose files stay where they are.
        """
        if self.model.exported:
            raise InputError(
                "An exported model cannot be saved with what it has learnt. Call fit() again, or save one of "
                "the model that it was made of."
            )
        options = {name: getattr(self, name) for name in saved_supports.OPTIONS}
        saved_supports.write(Path(path), self.model, options, self.fitted)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device | None = None) -> "Segmenter":
        """What :meth:`save` wrote; InputError if the file is none of these, or what refines is missing here."""
        segmenter = cls.__new__(cls)
        segmenter.model, options, segmenter.fitted = saved_supports.read(Path(path))
        for name, value in options.items():
            setattr(segmenter, name, value)
        segmenter.refiners = Refiners(segmenter.refine)
        segmenter.network = EncodingNetwork(segmenter.model.net)
        segmenter._report_uncalibrated(asked=False)
        return segmenter.to(device or default_device())

    def predict(self, photograph: ImageLike) -> Result:
        """Segment one image: a file, a PIL image or a uint8 array (H, W, 3) RGB or (H, W) grey.

        Raises:
            InputError: if nothing has been learnt, or the image cannot be read.
        """
        return next(self.predict_many([photograph]))

    def predict_many(self, photographs: Iterable[ImageLike]) -> Iterator[Result]:
        """Segment images one after the other, some at a time; errors as of `predict`."""
        given = enumerate(checked_images(photographs), start=1)
        named = ((self.prepare(as_image(one)), name_of(one, f"image {number}")) for number, one in given)
        while batch := list(islice(named, BATCH)):
            yield from self.segment(*zip(*batch, strict=True))

    def prepare(self, image: Array) -> PreparedImage:
        """(H, W, 3) uint8 RGB as :meth:`segment` takes it, for the supports that are fitted."""
        return prepare_image(image, self.sides, self.tile, self.refiners.guide_side)

    @torch.inference_mode()
    def segment(self, images: Sequence[PreparedImage], names: Sequence[str]) -> list[Result]:
        """Segment prepared images; errors call them by their names.

        Raises:
            InputError: if nothing has been learnt, or a score is not finite.
        """
        if not self.fitted:
            raise InputError("Nothing has been learnt yet. Call fit() with a few images and their masks first.")
        scales = [self._segment_scale(i, [image.scales[i] for image in images]) for i in range(len(self.sides))]
        results = []
        for image, name, *of_scales in zip(images, names, *scales, strict=True):
            for of_class in (of_class for of_scale in of_scales for of_class in of_scale):
                self._require_finite(of_class.score_maps, name)
            results.append(self._result(image, of_scales))
        return results

    def _segment_scale(self, scale: int, images: Sequence[Letterboxed]) -> list[list[ClassMaps]]:
        """For each image what the network says of each class, at one of the scales."""
        squares = torch.cat([image.squares for image in images])
        inside = torch.cat([image.inside() for image in images])
        many = batch_limit(self.sides[scale], BATCH)
        chunks = [self._decode(scale, *chunk) for chunk in zip(squares.split(many), inside.split(many), strict=True)]
        classes = [concatenate(part) for part in zip(*chunks, strict=True)]
        ends = np.cumsum([len(image.windows) for image in images])
        rows = [slice(end - len(image.windows), end) for end, image in zip(ends.tolist(), images, strict=True)]
        return [[map_tensors(itemgetter(row), of_class) for of_class in classes] for row in rows]

    def _require_finite(self, score_maps: Tensor, name: str) -> None:
        """InputError if an image's score maps, in the main memory, have NaN or infinite values."""
        if not torch.isfinite(score_maps).all():
            raise InputError(not_finite(name, self.model.source))

    def _decode(self, scale: int, squares: Tensor, inside: Tensor) -> list[ClassMaps]:
        """Predictions of (T, 3, S, S) uint8, class by class; (T, S, S) is False where they are padding."""
        found = []
        with self._precision():
            query = self.network.queries(squares)
            for one in self.fitted:
                maps = self._compare(query, one.encoded[scale], self.sides[scale], inside)
                found.append(map_tensors(lambda t: t.float().cpu(), maps))
        return found

    def _compare(self, query: Any, supports: Any, side: int, inside: Tensor) -> ClassMaps:
        """See `EncodingNetwork.compare`; the scale that scores are calibrated at gives evidence."""
        return self.network.compare(
            query, supports, side, inside, self.calibration if side == self.model.image_size else None
        )

    def _result(self, image: PreparedImage, scales: Sequence[Sequence[ClassMaps]]) -> Result:
        """Masks that share no pixel, see `furthest_above`."""
        scores = [self._presence_score(one, of_class) for one, of_class in zip(self.fitted, scales[0], strict=True)]
        present = [score is None or score >= self.presence for score in scores]
        probabilities = [
            self._probability(one, image, of_scales, refined)
            for one, refined, *of_scales in zip(self.fitted, present, *scales, strict=True)
        ]
        winner = furthest_above(probabilities, [one.threshold for one in self.fitted], present)
        segments = {}
        for c, (one, probability) in enumerate(zip(self.fitted, probabilities, strict=True)):
            mask, score = (winner == c).astype(np.uint8), scores[c]
            if score is None:
                score = float(probability[mask == 1].mean()) if mask.any() else 0.0
            maps = {name: values[0].numpy() for name, values in scales[-1][c].maps.items()}
            segments[one.name] = Segment(one.name, mask, probability, score, maps)
        return Result(segments)

    def _probability(self, one: FittedClass, image: PreparedImage, scales: Sequence[ClassMaps], refined: bool) -> Map:
        """(H, W) of a class: both scales joined, and refined where something is to be seen of it."""
        score_maps = [blend(of_scale.score_maps, at) for of_scale, at in zip(scales, image.scales, strict=True)]
        probability = join_scales(score_maps, one.choice.coarse_weight).sigmoid().numpy()
        refine = self.refiners[one.choice.refinement]
        return refine(image.guide, probability, one.threshold) if refined else probability

    def _presence_score(self, one: FittedClass, maps: ClassMaps) -> float | None:
        """Probability that an image shows the class, in any of its squares; None without a calibration."""
        if self.calibration is None or maps.evidence is None:
            return None
        return float(self.calibration.probability(maps.evidence, len(one.supports), one.support_similarity).max())

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.network.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
