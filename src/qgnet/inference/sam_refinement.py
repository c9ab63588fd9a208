"""SAM 2 as a refiner: it is asked for the object that each part of a coarse mask means.

SAM 2 (Ravi et al., ICLR 2025) segments what points, boxes and rough masks point at. It runs by the library
`transformers` (extra ``sam``); its weights are Meta's, under Apache-2.0, and are downloaded from the Hugging Face hub
when they are first asked for.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import huggingface_hub
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.files.sources import Array
from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.inference.refinement import AGREEMENT, EVIDENCE_LIMIT, Map, agreement, as_probability, logit

WEIGHTS = "facebook/sam2.1-hiera-tiny"
"""Name on the Hugging Face hub: the smallest SAM 2.1."""
FILES = ("config.json", "model.safetensors")
"""What is needed of it, 156 MB."""
FOLDER = "QGNET_SAM2"
"""Environment variable: a folder with these files, of this or another SAM 2, to be taken instead."""
WITHOUT_NETWORK = (
    f"On a machine with network: `hf download {WEIGHTS} {' '.join(FILES)} --local-dir FOLDER`. Copy the folder here "
    f"and set the environment variable {FOLDER} to it."
)
EXTRA = "pip install 'qgnet-lightning[sam]'"
LEAST_PART = 9
"""Positions of SAM's masks (of 4 x 4 px) that a part must have to be asked for; smaller ones stay as they are."""
MOST_PARTS = 64
"""The largest parts are asked for, and all others stay as they are."""
AT_ONCE = 8
"""Parts that go through SAM's decoder at once."""
SURE = 10.0
"""Logit of a mask prompt's surest position. SAM was trained on its own masks' logits, which are of
that size. This and the two points are not tuned."""


class Part(NamedTuple):
    """A connected part of a coarse mask, in positions of SAM's masks.

    Attributes:
        mask: (h, w) bool.
        box: left, top, right and bottom.
        points: (x, y) of two places in it: the surest one, and the one furthest from its edge.
        logits: (h, w) float32 in [-`SURE`, `SURE`], the coarse mask of this part alone.
    """

    mask: NDArray[np.bool_]
    box: list[float]
    points: list[list[float]]
    logits: Map


class Sam2Refiner(nn.Module):
    """Refines by SAM 2; takes and returns what `random_walk` does, but its guide is best `side` px long.

    Attributes:
        side: in pixels, of the square that SAM looks at.
        identity: tells its weights from others.

    Raises:
        InputError: if the library or the weights are missing.
    """

    def __init__(self) -> None:
        super().__init__()
        sam, folder = library(), weights_folder()
        self.model = load_model(sam, folder)
        self.identity = sha256(folder / FILES[1])
        self.side: int = self.model.config.prompt_encoder_config.image_size
        square = {"height": self.side, "width": self.side}
        self.processor = sam.Sam2Processor(sam.Sam2ImageProcessor(size=square))
        self._latest: tuple[Array, list[Tensor]] | None = None

    @torch.inference_mode()
    def forward(self, guide: Array, probability: Map, threshold: float) -> Map:
        """Each part of the mask that is not tiny becomes the one of SAM's masks that agrees with it best.

        A part that none of them agrees with, see `AGREEMENT`, stays as it is.
        """
        height, width = self.model.prompt_encoder.mask_input_size
        larger = probability.size > height * width
        coarse = cv2.resize(probability, (width, height), interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR)
        evidence = logit(coarse) - logit(threshold)
        parts = parts_of(evidence)
        found = [best_mask(part.mask, masks) for part, masks in zip(parts, self.masks(guide, parts), strict=True)]
        pairs = [(part.mask, best) for part, best in zip(parts, found, strict=True) if best is not None]
        if not pairs:
            return probability
        return as_probability(join(evidence, *zip(*pairs, strict=True)), threshold, probability.shape)

    def masks(self, guide: Array, parts: Sequence[Part]) -> list[Map]:
        """For each part three masks as logits, (3, h, w), of an image (H, W, 3) uint8 RGB."""
        found: list[Map] = []
        for start in range(0, len(parts), AT_ONCE):
            some = parts[start : start + AT_ONCE]
            embeddings = [level.expand(len(some), -1, -1, -1) for level in self._embeddings(guide)]
            prompts = self.processor(
                original_sizes=[list(some[0].mask.shape)] * len(some),
                input_points=[[part.points] for part in some],
                input_labels=[[[1] * len(part.points)] for part in some],
                input_boxes=[[part.box] for part in some],
                return_tensors="pt",
            ).to(self.model.device)
            del prompts["original_sizes"]
            logits = torch.from_numpy(np.stack([part.logits for part in some]))[:, None].to(self.model.device)
            out = self.model(image_embeddings=embeddings, input_masks=logits, **prompts)
            found.extend(out.pred_masks[:, 0].float().cpu().numpy())
        return found

    def _embeddings(self, guide: Array) -> list[Tensor]:
        """What SAM makes of an image; kept until the next one, since it is asked for each class."""
        latest = self._latest
        if latest is None or latest[0] is not guide:
            pixels = self.processor(images=guide, return_tensors="pt")["pixel_values"].to(self.model.device)
            self._latest = latest = (guide, self.model.get_image_embeddings(pixels))
        return latest[1]


def parts_of(evidence: Map) -> list[Part]:
    """Connected parts of a mask, the largest ones first, without tiny ones.

    Args:
        evidence: (h, w) float32, logits from the threshold, above 0 inside the mask.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((evidence > 0).astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    largest = sorted(range(1, len(stats)), key=lambda i: -areas[i])[:MOST_PARTS]
    return [part_of(evidence, labels == i, stats[i]) for i in largest if areas[i] >= LEAST_PART]


def part_of(evidence: Map, mask: NDArray[np.bool_], stats: Sequence[int]) -> Part:
    """What SAM is asked by, of a part."""
    left, top, width, height = (float(value) for value in stats[:4])
    sure = np.where(mask, evidence, -np.abs(evidence))
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    places = [np.unravel_index(int(values.argmax()), values.shape) for values in (sure, inner)]
    points = [[float(x) + 0.5, float(y) + 0.5] for y, x in places]
    logits = (sure * (SURE / sure.max())).clip(-SURE, SURE).astype(np.float32)
    return Part(mask, [left, top, left + width, top + height], points, logits)


def best_mask(part: NDArray[np.bool_], masks: Map) -> Map | None:
    """Of several masks (N, h, w), as logits, the one that agrees best with a part (h, w); None if none does."""
    agreements = [agreement(mask > 0, part) for mask in masks]
    best = int(np.argmax(agreements))
    return masks[best] if agreements[best] >= AGREEMENT else None


def join(evidence: Map, parts: Sequence[NDArray[np.bool_]], refined: Sequence[Map]) -> Map:
    """Refined parts and what stays of the coarse mask, as one map.

    Args:
        evidence: (h, w), the coarse mask, as logits from the threshold.
        parts: (h, w) each, which of it were refined.
        refined: (h, w) each, what they have become, as logits.

    Returns:
        (h, w) float32, logits from the threshold.
    """
    fine = np.max(refined, axis=0).clip(-EVIDENCE_LIMIT, EVIDENCE_LIMIT)
    stays = (evidence > 0) & ~np.any(parts, axis=0)
    beside = cv2.dilate(stays.astype(np.uint8), np.ones((3, 3), np.uint8)) == 1  # so that its edge stays, too
    return np.where(beside, np.maximum(evidence, fine), fine).astype(np.float32)


def library() -> Any:
    """The library `transformers`; InputError if it is not installed, or older than SAM 2."""
    try:
        import transformers  # noqa: PLC0415

        transformers.Sam2Model  # noqa: B018  (imports it)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"SAM 2 needs the library transformers, which is not installed or too old ({error}): {EXTRA}"
        ) from None
    return transformers


def weights_folder() -> Path:
    """Where the weights lie; they are downloaded if they are nowhere.

    Raises:
        InputError: if they cannot be had.
    """
    given = os.environ.get(FOLDER)
    if given:
        missing = [name for name in FILES if not (Path(given) / name).is_file()]
        if missing:
            raise InputError(
                f"{FOLDER} is {given}, where there is no {' and no '.join(missing)}. Expected: a folder with "
                f"{' and '.join(FILES)} of a SAM 2, such as https://huggingface.co/{WEIGHTS}."
            )
        return Path(given)
    kept = [huggingface_hub.try_to_load_from_cache(WEIGHTS, name) for name in FILES]
    if all(isinstance(path, str) for path in kept):
        return Path(str(kept[0])).parent
    try:
        return Path(huggingface_hub.snapshot_download(WEIGHTS, allow_patterns=list(FILES)))
    except Exception as error:  # hub, network and disk each raise their own kinds
        raise InputError(
            f"SAM 2's weights ({WEIGHTS}, 156 MB) are not on this machine, and could not be downloaded from "
            f"https://huggingface.co/{WEIGHTS} ({type(error).__name__}). {WITHOUT_NETWORK}"
        ) from None


def load_model(sam: Any, folder: Path) -> Any:
    """The network with its weights; InputError if they are damaged, or of anything but a SAM 2."""
    verbosity, bars = sam.logging.get_verbosity(), sam.logging.is_progress_bar_enabled()
    sam.logging.set_verbosity_error()  # it warns that a SAM 2 for videos is used for images, as it is meant to be
    sam.logging.disable_progress_bar()
    try:
        model, report = sam.Sam2Model.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        wrong = sorted(report["missing_keys"])
    except Exception as error:  # config, tensors and shapes each raise their own kinds
        wrong = [str(error).splitlines()[0]]
    finally:
        sam.logging.set_verbosity(verbosity)
        if bars:
            sam.logging.enable_progress_bar()
    if wrong:
        raise InputError(
            f"{folder} does not hold a SAM 2 that can be read ({wrong[0]}). Expected: {' and '.join(FILES)} as of "
            f"https://huggingface.co/{WEIGHTS}. Download them again."
        )
    return model.requires_grad_(False).eval()
