"""Export networks as ONNX files, and compare these with the original networks."""

import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgnet.common.errors import InputError
from qgnet.inference.models import Model
from qgnet.inference.onnx_networks import DECODER, DESCRIPTION, ENCODER, FORMAT, NETWORKS, SUPPORT, identity_of, needed
from qgnet.inference.validation import plain
from qgnet.networks.encoders import Features
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.layers import size_of
from qgnet.networks.matching import MatchingNetwork
from qgnet.networks.nested_tensors import all_tensors
from qgnet.networks.qgnet import GUIDED, QGNet
from qgnet.networks.score_map_network import ScoreMapNetwork
from qgnet.networks.score_maps import matching_feature
from qgnet.tasks.base import normalise

TOLERANCE = 1e-3
"""Largest accepted difference, as a share of the largest value."""
SMALL = 0.01
"""Least value that differences are divided by, for tensors with smaller values."""
EXPORTS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)
"""Whether torch is recent enough to export by ``torch.export``; older versions export by TorchScript."""
BATCH = 2
"""Number of images for tracing and checking; with one image, the batch size would become fixed."""


Difference = tuple[str, float, float]
"""A part of the network, the largest difference from torch's values, and the largest value."""


class EncoderPart(nn.Module):
    """The exported encoding of a query, as a tuple of its tensors."""

    def __init__(self, net: FewShotNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """All tensors of an encoded query."""
        return tuple(all_tensors(self.net.encode_query(image)))


class SupportPart(nn.Module):
    """The exported encoding of a support, for masks that are already resized to the sizes of the stages."""

    def __init__(self, net: QGNet, image: Tensor) -> None:
        super().__init__()
        self.net = net
        self.sizes: list[tuple[int, int]] = []
        with torch.inference_mode():
            self.net.masked_features(self.features(image), self._note)

    def features(self, image: Tensor) -> Features:
        """The features that the encoding of a support starts from."""
        return self.net.encoder(image, self.net.encoder.base_levels)

    def _note(self, size: tuple[int, int]) -> Tensor:
        if size not in self.sizes:
            self.sizes.append(size)
        return torch.ones(BATCH, 1, *size)

    def forward(self, image: Tensor, masks: list[Tensor]) -> tuple[Tensor, ...]:
        """The category feature, the masked high-level feature, and the feature for score maps if there are any."""
        features = self.features(image)
        known = {size_of(mask): mask for mask in masks}
        category, masked = self.net.masked_features(features, lambda size: known[size])
        if not self.net.score_map_names:
            return category, masked
        return category, masked, matching_feature(self.net.encoder, features)


class DecoderPart(nn.Module):
    """The exported FEM, without the logits of its levels."""

    def __init__(self, net: QGNet, full: tuple[int, int]) -> None:
        super().__init__()
        self.enrichment = net.enrichment
        self.full = full

    def forward(self, pyramid: list[Tensor], category: Tensor, maps: list[Tensor]) -> Tensor:
        """Logits (B, 2, h, w)."""
        logits: Tensor = self.enrichment(pyramid, category, maps, self.full, False)[0]
        return logits


def export(model: Model, out: Path) -> list[Difference]:
    """Write a model as a folder of ONNX files. The folder gets its name after its outputs were compared with torch's.

    Returns:
        The differences from torch.

    Raises:
        InputError: if the folder exists and is not empty, the extra ``onnx`` is not installed, ONNX lacks a part of
            the network, or the outputs differ.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        needed(package)
    if model.exported:
        raise InputError("The model is a folder of ONNX files already. Give what it was made of.")
    if model.kind not in WRITERS:
        raise InputError(
            f"There is no ONNX export of {model.kind}, only of {', '.join(WRITERS)}. Use {model.source} as it is."
        )
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"--out {out} is there and not empty. Choose another folder, or remove it.")
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        folder = Path(name) / out.name
        folder.mkdir()
        network = WRITERS[model.kind](model.net, model.image_size, folder)
        description = {
            "format": FORMAT,
            "kind": model.kind,
            "image_size": model.image_size,
            "identity": identity_of(folder, NETWORKS[model.kind]),
            "calibration": model.calibration and plain(model.calibration),
            "network": network,
        }
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        differences = compare(model, NETWORKS[model.kind](folder, network))
        refuse_too_large(differences)
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    return differences


def refuse_too_large(differences: Sequence[Difference]) -> None:
    """Raise InputError if the outputs of the exported model differ from torch's."""
    for part, largest, values in differences:
        if not largest / max(values, SMALL) <= TOLERANCE:
            raise InputError(
                f"Of {part}, the ONNX files answer differently from torch, by up to {largest:.1e} at values up to "
                f"{values:.1e}; expected at most a thousandth. Nothing was written. Try other versions of torch, onnx "
                "and onnxruntime, e.g. those of constraints.txt."
            )


@torch.inference_mode()
def compare(model: Model, exported: Any) -> list[Difference]:
    """Encode and decode the same images by both networks; return the differences."""
    images, masks = sample_images(model.image_size)
    sides = (model.image_size, model.image_size)
    pairs = []
    for one in (model.net, exported):
        query = one.encode_query(images)
        shots = [one.encode_support(images[i : i + 1], masks[i : i + 1]) for i in range(BATCH)]
        output = one.decode(query, one.stack_shots(shots), sides, with_levels=False)
        pairs.append({"the query": query, "the supports": shots, "the prediction": output.logits})
    return [difference(part, *(list(all_tensors(pair[part])) for pair in pairs)) for part in pairs[0]]


def difference(part: str, expected: list[Tensor], found: list[Tensor]) -> Difference:
    """The largest relative difference among the tensors of a part."""
    pairs = [(a.float(), b.float()) for a, b in zip(expected, found, strict=True)]
    each = [(part, float((b - a).abs().max()), float(a.abs().max())) for a, b in pairs]
    return max(each, key=lambda one: one[1] / max(one[2], SMALL))


def sample_images(side: int) -> tuple[Tensor, Tensor]:
    """Normalised images (B, 3, S, S) of coarse noise, and masks (B, S, S), each with a square."""
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, 3, 9, 9), dtype=np.uint8))
    images = nn.functional.interpolate(coarse.float(), (side, side), mode="bilinear").to(torch.uint8)
    masks = torch.zeros(BATCH, side, side, dtype=torch.uint8)
    masks[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    return normalise(images), masks


def write_matcher(net: MatchingNetwork, side: int, folder: Path) -> dict[str, Any]:
    """Write the ONNX file of a matcher; return its other settings."""
    images, _ = sample_images(side)
    write(EncoderPart(net), (images,), folder / ENCODER, ["image"], ["matching"])
    return {"method": net.method}


def write_qgnet(net: QGNet, side: int, folder: Path) -> dict[str, Any]:
    """Write the ONNX files of a QGNet; return its other settings."""
    images, masks = sample_images(side)
    with torch.inference_mode():
        query = net.encode_query(images)
    levels = [f"pyramid_{i}" for i in range(len(query.pyramid))]
    others = [name for name, value in query._asdict().items() if isinstance(value, Tensor)]
    write(EncoderPart(net), (images,), folder / ENCODER, ["image"], [*levels, *others])
    support = SupportPart(net, images)
    given = [torch.ones(BATCH, 1, *size) for size in support.sizes]
    named = [f"mask_{i}" for i in range(len(given))]
    outputs = ["category", "masked", *(["matching"] if net.score_map_names else [])]
    write(support, (images, given), folder / SUPPORT, ["image", *named], outputs)
    write_decoder(net, images, masks, folder)
    weights = net.score_map_weights
    return {
        "margins": list(net.score_map_names),
        "margin_weights": None if weights is None else weights.tolist(),
        "cross_correspondence": net.cross_correspondence,
        "mask_sizes": support.sizes,
    }


def write_score_maps(net: ScoreMapNetwork, side: int, folder: Path) -> dict[str, Any]:
    """Write the ONNX files of a score-map head; return its other settings."""
    images, masks = sample_images(side)
    with torch.inference_mode():
        query, supports = net.encode_query(images), net.encode_support(images, masks)
        maps, scored = net.score_maps(query, supports, *net.presence_features(query, supports))
    edges = [f"edges_{i}" for i in range(len(query.edges))]
    write(EncoderPart(net), (images,), folder / ENCODER, ["image"], ["compared", *edges])
    given = (maps, torch.cat(list(scored.values()), dim=1), query.edges)
    write(net.correction, given, folder / DECODER, ["maps", "scored", *edges], ["score_map"])
    return {"channels": net.channels, "matching": net.matching}


WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "matching": write_matcher,
    "qgnet": write_qgnet,
    "score-maps": write_score_maps,
}
"""Kind of the model → function that writes its ONNX files."""


def write_decoder(net: QGNet, images: Tensor, masks: Tensor, folder: Path) -> None:
    """Write the FEM, traced with its inputs for some images."""
    with torch.no_grad():
        query, supports = net.encode_query(images), net.stack_shots([net.encode_support(images, masks)])
        output = net.decode(query, supports, (images.shape[-2], images.shape[-1]), with_levels=False)
    seen = [name for name in net.map_names if name != GUIDED or net.cross_correspondence]
    maps = [*(output.maps[name] for name in seen), *output.score_maps.values()]
    levels = [f"pyramid_{i}" for i in range(len(query.pyramid))]
    named = [*levels, "category", *(f"map_{i}" for i in range(len(maps)))]
    part = DecoderPart(net, size_of(query.high))
    write(part, (query.pyramid, supports.category, maps), folder / DECODER, named, ["logits"])


def write(part: nn.Module, given: tuple[Any, ...], file: Path, inputs: list[str], outputs: list[str]) -> None:
    """Write an ONNX file for any number of images of this size; InputError if torch cannot export it."""
    names: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # warnings of torch about its exporters
            (by_export if EXPORTS else by_tracing)(part.eval(), given, file, names)
    except Exception as error:  # torch.onnx and torch.export raise many kinds
        raise InputError(
            f"torch {torch.__version__} cannot write {file.name} of this network as ONNX ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Try the versions of constraints.txt, or another encoder."
        ) from error


def by_export(part: nn.Module, given: tuple[Any, ...], file: Path, names: dict[str, Any]) -> None:
    """Export by ``torch.export``."""
    batch = {0: torch.export.Dim("batch")}
    shapes = tuple([batch for _ in one] if isinstance(one, list) else batch for one in given)
    torch.onnx.export(
        part, given, file, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names
    )


def by_tracing(part: nn.Module, given: tuple[Any, ...], file: Path, names: dict[str, Any]) -> None:
    """Export by TorchScript."""
    axes = {name: {0: "batch"} for each in names.values() for name in each}
    torch.onnx.export(part, given, str(file), dynamo=False, dynamic_axes=axes, **names)
