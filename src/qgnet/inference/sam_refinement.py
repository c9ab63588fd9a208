"""SAM 2 as a refiner: it segments the object behind each part of a coarse mask.

SAM 2 (Ravi et al., ICLR 2025) segments objects that are prompted by points, boxes and rough masks. It runs in the
library `transformers` (extra ``sam``). Its weights are Meta's, under Apache-2.0, and are downloaded from the Hugging
Face hub on first use.
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
"""Needed files, 156 MB."""
FOLDER = "QGNET_SAM2"
"""Environment variable with a folder that has these files, of this or another SAM 2, to use instead."""
WITHOUT_NETWORK = (
    f"On a machine with network: `hf download {WEIGHTS} {' '.join(FILES)} --local-dir FOLDER`. Copy the folder here "
    f"and set the environment variable {FOLDER} to it."
)
EXTRA = "pip install 'qgnet-lightning[sam]'"
LEAST_PART = 9
"""Least area of a refined part, in positions of SAM's masks (4 x 4 px); smaller parts stay unchanged."""
MOST_PARTS = 64
"""Most parts that are refined, the largest ones; the others stay unchanged."""
AT_ONCE = 8
"""Parts per batch of SAM's decoder."""
SURE = 10.0
"""Largest logit of a mask prompt. SAM was trained on logits of its own masks, which have this size. This value
and the two points are not tuned."""


class Part(NamedTuple):
    """A connected part of a coarse mask, in positions of SAM's masks.

    Attributes:
        mask: (h, w) bool.
        box: left, top, right and bottom.
        points: (x, y) of two positions in it: the most certain one, and the one furthest from its edge.
        logits: (h, w) float32 in [-`SURE`, `SURE`], the coarse mask of this part only.
    """

    mask: NDArray[np.bool_]
    box: list[float]
    points: list[list[float]]
    logits: Map


class Sam2Refiner(nn.Module):
    """Refines by SAM 2, with the arguments and the result of `random_walk`; its guide should be `side` px long.

    Attributes:
        side: side of SAM's square input, in pixels.
        identity: sha256 of its weights.

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
        """Replace each part of the mask, except tiny ones, by the SAM mask with the highest IoU.

        A part without a SAM mask of at least the IoU `AGREEMENT` stays unchanged.
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
        """Three masks for each part of an image (H, W, 3) uint8 RGB, as logits (3, h, w)."""
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
        """SAM's embeddings of an image, cached until the next image because each class needs them."""
        latest = self._latest
        if latest is None or latest[0] is not guide:
            pixels = self.processor(images=guide, return_tensors="pt")["pixel_values"].to(self.model.device)
            self._latest = latest = (guide, self.model.get_image_embeddings(pixels))
        return latest[1]


def parts_of(evidence: Map) -> list[Part]:
    """Connected parts of a mask, largest first, without tiny parts.

    Args:
        evidence: (h, w) float32, logits from the threshold, above 0 inside the mask.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((evidence > 0).astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    largest = sorted(range(1, len(stats)), key=lambda i: -areas[i])[:MOST_PARTS]
    return [part_of(evidence, labels == i, stats[i]) for i in largest if areas[i] >= LEAST_PART]


def part_of(evidence: Map, mask: NDArray[np.bool_], stats: Sequence[int]) -> Part:
    """SAM's prompts for a part."""
    left, top, width, height = (float(value) for value in stats[:4])
    sure = np.where(mask, evidence, -np.abs(evidence))
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    places = [np.unravel_index(int(values.argmax()), values.shape) for values in (sure, inner)]
    points = [[float(x) + 0.5, float(y) + 0.5] for y, x in places]
    logits = (sure * (SURE / sure.max())).clip(-SURE, SURE).astype(np.float32)
    return Part(mask, [left, top, left + width, top + height], points, logits)


def best_mask(part: NDArray[np.bool_], masks: Map) -> Map | None:
    """The mask of (N, h, w) logits with the highest IoU with a part (h, w); None if it is below `AGREEMENT`."""
    agreements = [agreement(mask > 0, part) for mask in masks]
    best = int(np.argmax(agreements))
    return masks[best] if agreements[best] >= AGREEMENT else None


def join(evidence: Map, parts: Sequence[NDArray[np.bool_]], refined: Sequence[Map]) -> Map:
    """Join refined parts and the unchanged rest of the coarse mask into one map.

    Args:
        evidence: (h, w), the coarse mask, as logits from the threshold.
        parts: (h, w) bool each, the parts before refinement.
        refined: (h, w) each, the refined parts, as logits.

    Returns:
        (h, w) float32, logits from the threshold.
    """
    fine = np.max(refined, axis=0).clip(-EVIDENCE_LIMIT, EVIDENCE_LIMIT)
    stays = (evidence > 0) & ~np.any(parts, axis=0)
    beside = cv2.dilate(stays.astype(np.uint8), np.ones((3, 3), np.uint8)) == 1  # keeps its edge, too
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
    """Folder of the weights, which are downloaded if necessary.

    Raises:
        InputError: if the weights are missing and cannot be downloaded.
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
    except Exception as error:  # hub, network and disk raise different kinds
        raise InputError(
            f"SAM 2's weights ({WEIGHTS}, 156 MB) are not on this machine, and could not be downloaded from "
            f"https://huggingface.co/{WEIGHTS} ({type(error).__name__}). {WITHOUT_NETWORK}"
        ) from None


def load_model(sam: Any, folder: Path) -> Any:
    """The network with its weights; InputError if they are damaged, or not of a SAM 2."""
    verbosity, bars = sam.logging.get_verbosity(), sam.logging.is_progress_bar_enabled()
    sam.logging.set_verbosity_error()  # hides a warning that a SAM 2 for videos is used for images, as intended
    sam.logging.disable_progress_bar()
    try:
        model, report = sam.Sam2Model.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        wrong = sorted(report["missing_keys"])
    except Exception as error:  # config, tensors and shapes raise different kinds
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
