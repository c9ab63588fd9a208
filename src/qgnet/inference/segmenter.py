"""A few masks in, all other masks out: few-shot segmentation of images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.episodes.letterbox import Letterboxed, letterbox_image, letterbox_support
from datamodules.files.sources import IGNORE, Array
from qgnet.common.digest import sha256_of
from qgnet.common.errors import InputError
from qgnet.common.terminal import say
from qgnet.inference import PRESENCE, saved_supports
from qgnet.inference.model_names import DEFAULT
from qgnet.inference.models import open_model
from qgnet.inference.presence import Calibration, evidence
from qgnet.inference.supports import ImageLike, SupportPairs, as_image, checked_images, name_of, read_supports
from qgnet.inference.tiling import ClassMaps, batch_limit, blend
from qgnet.inference.tuning import FittedClass, SupportReport, choose_threshold, iou, mirrored, support_reports
from qgnet.networks.nested_tensors import concatenate, map_tensors
from qgnet.outputs.segments import Result, Segment, furthest_above
from qgnet.tasks.base import normalise
from qgnet.tasks.feature_cache import MB, FeatureCache
from qgnet.tasks.finite import not_finite

BATCH = 8
"""Squares that go through the network at once; of large ones fewer."""


class Segmenter:
    """Segments images by a few examples.

    ``predict`` may be called from several threads at once, unless the Segmenter remembers, see :meth:`remember`.

    Args:
        model: ``matching``, which needs no training; the file of a checkpoint of stage 2; or a folder that
            `qgnet export` wrote.
        image_size: side in pixels of the square that images are brought to; None: the model's own.
        device: where it runs, e.g. ``cpu`` or ``cuda``; None: a GPU if there is one.
        bf16: compute convolutions in bfloat16.
        tile: slide the square over images that are larger, instead of bringing them to the square.
        threshold: probability above which a pixel is the object, in (0, 1); None: chosen by the supports.
        presence: least score, in [0, 1], of an image that is not left empty; 0 leaves none empty that has a pixel
            above the threshold. None: 0.6. It counts only where scores are calibrated: of ``matching`` with its own
            settings and image size, without tiles. Elsewhere a score is the mean probability of a mask, nothing is left
            empty by it, and a line says so.
        matching: settings of ``matching``: ``encoder``, ``encoder_weights``, ``high_stage``, ``method``,
            ``dilated``.

    Raises:
        InputError: if there is no such model, or its weights cannot be had.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT,
        image_size: int | None = None,
        device: str | torch.device | None = None,
        bf16: bool = False,
        tile: bool = False,
        threshold: float | None = None,
        presence: float | None = None,
        **matching: Any,
    ) -> None:
        if threshold is not None and not 0 < threshold < 1:
            raise InputError(f"The threshold is {threshold}; expected a probability between 0 and 1.")
        if presence is not None and not 0 <= presence <= 1:
            raise InputError(f"The least score is {presence}; expected a probability from 0 to 1.")
        self.presence = PRESENCE if presence is None else presence
        self.model = open_model(model, image_size, **matching)
        if bf16 and self.model.exported:
            raise InputError("An exported model computes in float32. Leave bf16 out, or take the model it was made of.")
        self.bf16 = bf16
        self.tile = tile
        self.threshold = threshold
        self.fitted: list[FittedClass] = []
        self.to(device or default_device())
        self._report_uncalibrated(asked=bool(presence))

    cache: FeatureCache | None = None

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
        self.cache = FeatureCache(megabytes * MB)
        return self

    def to(self, device: str | torch.device) -> "Segmenter":
        """Move the network and the fitted classes."""
        if self.cache is not None:
            self.cache.clear()
        try:
            self.device = torch.device(device)
            self.model.net.to(self.device)
        except (RuntimeError, TypeError, AssertionError) as error:  # no such device; torch without its kind of devices
            raise InputError(f"device={device!r} cannot be used ({error}). Take cpu, or leave it out.") from None
        self.fitted = [x._replace(encoded=map_tensors(lambda t: t.to(self.device), x.encoded)) for x in self.fitted]
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
                numbers, of the image's size: black and white, or 0 background, 1 object, 255 ignored. Tensors and
                nested lists of the same are taken, too.
            names: class number → name. The masks then hold class numbers, 0 background and 255 ignored.
            scribbles: masks are rough strokes, and of what is not painted nothing is said: white object and black
                background on grey, white object on black, or 1 object, 0 background, 255 not painted (with ``names``
                class numbers). Without a stroke of background the image's border far from the object is taken for it.

        Returns:
            Itself.

        Raises:
            InputError: for no support, a mask that is empty, of nothing but the object or of another size than its
                image, class numbers without a meaning, two classes of one name, or what cannot be read.
        """
        self.fitted = [
            self._fit_class(name, pairs) for name, pairs in read_supports(supports, names, scribbles).items()
        ]
        return self

    def _fit_class(self, name: str, pairs: list[tuple[Array, Array]]) -> FittedClass:
        squares = [letterbox_support(image, mask, self.model.image_size, self.tile) for image, mask in pairs]
        images, masks = (torch.stack(part) for part in zip(*squares, strict=True))
        with torch.inference_mode(), self._precision():
            shots = [self._encode_support(*shot) for shot in zip(images.split(1), masks.split(1), strict=True)]
            encoded = self.model.net.stack_shots(shots)
            score_maps, targets, similarity = self._leave_one_out(shots, images, masks, pairs)
        for number, score_map in enumerate(score_maps, start=1):
            self._require_finite(score_map, f"support {number} of {name!r}")
        probabilities = torch.stack([score_map.sigmoid() for score_map in score_maps])
        threshold = self.threshold
        if threshold is None:
            calibration = self.model.calibration
            threshold = choose_threshold(probabilities, targets, calibration and calibration.threshold)
        ious = [iou(p > threshold, mask) for p, mask in zip(probabilities, targets, strict=True)]
        return FittedClass(name, encoded, threshold, support_reports(name, ious), similarity)

    def _leave_one_out(
        self, encoded: list[Any], images: Tensor, masks: Tensor, pairs: list[tuple[Array, Array]]
    ) -> tuple[Tensor, Tensor, float]:
        """Score maps of each support by the others, or of a single one's mirrored copy by itself; the truth; and how
        similar the supports' objects are, as `FittedClass` keeps it.
        """  # noqa: D205
        net = self.model.net
        side, shots = self.model.image_size, len(images)
        if shots == 1:
            image, mask = letterbox_support(*mirrored(*pairs[0]), side, self.tile)
            images, masks = image[None], mask[None]
        found, similar = [], []
        for i in range(shots):
            others = [k for k in range(shots) if k != i] or [0]
            supports, query = net.stack_shots([encoded[k] for k in others]), self._encode_query(images[i : i + 1])
            logits = net.decode(query, supports, (side, side), with_levels=False).logits.float()
            score_maps = logits[:, 1] - logits[:, 0]
            found.append(score_maps[0].cpu())
            known = self._evidence(query, supports, score_maps, masks[i : i + 1] != IGNORE)
            similar += [] if known is None or shots == 1 else known[:, 0].tolist()
        return torch.stack(found), masks, float(np.mean(similar)) if similar else 0.0

    def _encode_support(self, image: Tensor, mask: Tensor) -> Any:
        """(1, 3, S, S) uint8 and (1, S, S) as the network takes a support."""

        def encode() -> Any:
            return self.model.net.encode_support(normalise(image.to(self.device)), mask)

        return encode() if self.cache is None else self.cache.get(sha256_of(image.numpy(), mask.numpy()), encode)

    def _encode_query(self, squares: Tensor) -> Any:
        """(T, 3, S, S) uint8 as the network takes queries."""

        def encode(some: Tensor) -> Any:
            return self.model.net.encode_query(normalise(some.to(self.device)))

        if self.cache is None:
            return encode(squares)
        return concatenate([self.cache.get(sha256_of(one.numpy()), partial(encode, one)) for one in squares.split(1)])

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
        """What :meth:`save` wrote; InputError if the file is none of these."""
        segmenter = cls.__new__(cls)
        segmenter.model, options, segmenter.fitted = saved_supports.read(Path(path))
        for name, value in options.items():
            setattr(segmenter, name, value)
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
        named = ((self._letterbox(one), name_of(one, f"image {number}")) for number, one in given)
        while batch := list(islice(named, BATCH)):
            yield from self.segment(*zip(*batch, strict=True))

    def _letterbox(self, image: ImageLike) -> Letterboxed:
        return letterbox_image(as_image(image), self.model.image_size, self.tile)

    @torch.inference_mode()
    def segment(self, images: Sequence[Letterboxed], names: Sequence[str]) -> list[Result]:
        """Segment images that have been brought to the network's square; errors call them by their names.

        Raises:
            InputError: if nothing has been learnt, or a score is not finite.
        """
        if not self.fitted:
            raise InputError("Nothing has been learnt yet. Call fit() with a few images and their masks first.")
        squares = torch.cat([image.squares for image in images])
        inside = torch.cat([image.inside() for image in images])
        many = batch_limit(self.model.image_size, BATCH)
        chunks = zip(squares.split(many), inside.split(many), strict=True)
        maps = [concatenate(part) for part in zip(*(self._decode(*chunk) for chunk in chunks), strict=True)]
        results, first = [], 0
        for image, name in zip(images, names, strict=True):
            rows = slice(first, first + len(image.windows))
            of_image = [map_tensors(itemgetter(rows), of_class) for of_class in maps]
            for of_class in of_image:
                self._require_finite(of_class.score_maps, name)
            results.append(self._result(image, of_image))
            first = rows.stop
        return results

    def _require_finite(self, score_maps: Tensor, name: str) -> None:
        """InputError if an image's score maps, in the main memory, have NaN or infinite values."""
        if not torch.isfinite(score_maps).all():
            raise InputError(not_finite(name, self.model.source))

    def _decode(self, squares: Tensor, inside: Tensor) -> list[ClassMaps]:
        """Predictions of (T, 3, S, S) uint8, class by class; (T, S, S) is False where they are padding."""
        net, side = self.model.net, self.model.image_size
        found = []
        with self._precision():
            query = self._encode_query(squares)
            for one in self.fitted:
                output = net.decode(query, one.encoded, (side, side), with_levels=False)
                score_maps = output.logits[:, 1] - output.logits[:, 0]
                known = self._evidence(query, one.encoded, score_maps, inside)
                maps = ClassMaps(score_maps, {name: values[:, 0] for name, values in output.maps.items()}, known)
                found.append(map_tensors(lambda t: t.float().cpu(), maps))
        return found

    def _evidence(self, query: Any, supports: Any, score_maps: Tensor, inside: Tensor) -> Tensor | None:
        """What `_presence_score` goes by; None without a calibration, or of a network that compares nothing."""
        compared = self.model.net.presence_features(query, supports)
        if self.calibration is None or compared is None:
            return None
        centre = score_maps.new_tensor(self.calibration.centre, dtype=torch.float32)
        if len(centre) != compared[0].shape[1]:
            raise InputError(
                f"The calibration of {self.model.source} is of another network: its centre has {len(centre)} values, "
                f"and there are {compared[0].shape[1]} features. Restore it, or make it again."
            )
        return evidence(*compared, score_maps, inside.to(self.device), centre)

    def _result(self, image: Letterboxed, maps: Sequence[ClassMaps]) -> Result:
        """Masks that share no pixel, see `furthest_above`."""
        probabilities = [blend(of_class.score_maps, image).sigmoid().numpy() for of_class in maps]
        scores = [self._presence_score(one, of_class) for one, of_class in zip(self.fitted, maps, strict=True)]
        present = [score is None or score >= self.presence for score in scores]
        winner = furthest_above(probabilities, [one.threshold for one in self.fitted], present)
        segments = {}
        for c, (one, of_class) in enumerate(zip(self.fitted, maps, strict=True)):
            mask, score = (winner == c).astype(np.uint8), scores[c]
            if score is None:
                score = float(probabilities[c][mask == 1].mean()) if mask.any() else 0.0
            first = {name: values[0].numpy() for name, values in of_class.maps.items()}
            segments[one.name] = Segment(one.name, mask, probabilities[c], score, first)
        return Result(segments)

    def _presence_score(self, one: FittedClass, maps: ClassMaps) -> float | None:
        """Probability that an image shows the class, in any of its squares; None without a calibration."""
        if self.calibration is None or maps.evidence is None:
            return None
        return float(self.calibration.probability(maps.evidence, len(one.supports), one.support_similarity).max())

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
