"""Run networks that `qgnet export` wrote, by onnxruntime.

The encoders and the FEM are ONNX files. Small parts without a fixed size are computed here, by the same code as in the
networks themselves: the support positions, their similarity to the query's positions, and the ridge regression.
"""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.inference import validation as v
from qgnet.networks.correspondence import foreground_keys
from qgnet.networks.enrichment import EnrichmentOutput
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.layers import foreground_share
from qgnet.networks.matching import MatchingHead
from qgnet.networks.nested_tensors import map_tensors
from qgnet.networks.qgnet import GUIDED, PRIOR, EncodedQuery, EncodedSupport, QGNetDecoder
from qgnet.networks.score_map_network import ComparedImage, ScoreMapHead
from qgnet.networks.score_maps import SCORE_MAPS, SupportPositions, support_positions

FORMAT = "qgnet-onnx-1"
DESCRIPTION = "model.json"
ENCODER, SUPPORT, DECODER = "encoder.onnx", "support.onnx", "decoder.onnx"
EXTRA = "pip install 'qgnet-lightning[onnx]'"
AGAIN = "Export the model again."


class Graph:
    """An ONNX file, run on the CPU. Takes tensors and returns tensors by name.

    Raises:
        InputError: if onnxruntime is not installed, or cannot read the file.
    """

    def __init__(self, file: Path) -> None:
        runtime = needed("onnxruntime")
        self.file = file
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no public base class
            raise InputError(f"{file} cannot be read by onnxruntime ({error}). {AGAIN}") from None
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.side = self.session.get_inputs()[0].shape[-1]

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Run the file on tensors in the order of its inputs; the outputs go to the device of the first input."""
        arrays = [tensor.detach().float().cpu().contiguous().numpy() for tensor in tensors]
        try:
            outputs = self.session.run(self.outputs, dict(zip(self.inputs, arrays, strict=True)))
        except Exception as error:  # see above
            raise InputError(f"{self.file} cannot be run by onnxruntime ({error}). {AGAIN}") from None
        named = zip(self.outputs, outputs, strict=True)
        return {name: torch.from_numpy(output).to(tensors[0].device) for name, output in named}


class ExportedNetwork(FewShotNetwork):
    """A network of ONNX files, for square images of one side.

    Args:
        folder: folder of the files.
        network: the other settings of the network, with the keys of ``fields``.

    Attributes:
        files: names of the files, in the order of their checksums.
        fields: name → rule of each of the other settings.
    """

    files: ClassVar[tuple[str, ...]]
    fields: ClassVar[dict[str, v.Field]]

    @classmethod
    def check(cls, file: Path, network: dict[str, Any]) -> None:
        """Raise InputError if the settings in a description do not fit this network."""
        v.check_fields(f"{file}, the network", network, cls.fields, AGAIN)

    def __init__(self, folder: Path, network: dict[str, Any], *args: Any) -> None:
        super().__init__(*args)
        self.encoder = Graph(folder / ENCODER)

    def check_side(self, side: int, what: str) -> None:
        """Raise InputError for any other side."""
        if side != self.encoder.side:
            raise InputError(
                f"{what} is {side} pixels, but the model was exported for {self.encoder.side}. Take these, or export "
                "it again with --image-size."
            )


class ExportedMatching(ExportedNetwork, MatchingHead):
    """Training-free matching whose encoder is an ONNX file."""

    files = (ENCODER,)
    fields: ClassVar = {"method": v.one_of(SCORE_MAPS)}

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__(folder, network, network["method"])
        self.score_map_names = (self.method,)

    def encode_query(self, image: Tensor, shared: None = None) -> Tensor:
        """(B, 3, S, S) normalised floats → features for matching (B, C, h, w) of length 1."""
        return self.encoder(image)["matching"]


class ExportedQGNet(ExportedNetwork, QGNetDecoder):
    """QGNet whose encoders and FEM are ONNX files."""

    files = (DECODER, ENCODER, SUPPORT)
    fields: ClassVar = {
        "margins": v.SCORE_MAP_NAMES,
        "margin_weights": v.optional(v.NUMBERS),
        "cross_correspondence": v.FLAG,
        "mask_sizes": v.SIZES,
    }

    @classmethod
    def check(cls, file: Path, network: dict[str, Any]) -> None:
        """See :class:`ExportedNetwork`."""
        super().check(file, network)
        weights, names = network["margin_weights"], network["margins"]
        if weights is not None and len(weights) != len(names):
            raise InputError(f"{file} has {len(weights)} margin_weights for {len(names)} margins. {AGAIN}")

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__(folder, network)
        self.score_map_names = tuple(network["margins"])
        self.cross_correspondence = network["cross_correspondence"]
        weights = network["margin_weights"]
        self.register_buffer("score_map_weights", None if weights is None else torch.tensor(weights))
        self.mask_sizes = [(height, width) for height, width in network["mask_sizes"]]
        self.enrichment = ExportedEnrichment(folder / DECODER)
        self.support_encoder = Graph(folder / SUPPORT)
        self.map_names = (GUIDED, PRIOR) if "prior_map" in self.encoder.outputs else (GUIDED,)

    def encode_query(self, image: Tensor, shared: None = None) -> EncodedQuery:
        """(B, 3, S, S) normalised floats → the tensors that depend on the query only."""
        outputs = self.encoder(image)
        pyramid = [tensor for name, tensor in outputs.items() if name.startswith("pyramid")]
        return EncodedQuery(pyramid, outputs["high"], outputs.get("prior_map"), outputs.get("matching"))

    def encode_support(self, image: Tensor, mask: Tensor, shared: None = None) -> EncodedSupport:
        """(B, 3, S, S) normalised floats and masks (B, S, S) → the tensors that depend on the support only."""
        outputs = self.support_encoder(image, *(foreground_share(mask, size) for size in self.mask_sizes))
        matching = outputs.get("matching")
        positions = None if matching is None else support_positions(matching, mask)
        return EncodedSupport(outputs["category"], foreground_keys(outputs["masked"], mask), positions)


class ExportedEnrichment(nn.Module):
    """The FEM as an ONNX file; called like :class:`FeatureEnrichment`, without logits of its levels."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.graph = Graph(file)

    def forward(
        self,
        pyramid: Sequence[Tensor],
        category: Tensor,
        maps: Sequence[Tensor],
        full: tuple[int, int],
        with_levels: bool = False,
    ) -> EnrichmentOutput:
        """Logits (B, 2, h, w), without logits of the levels."""
        batch = len(pyramid[0])
        every = map_tensors(lambda t: t.expand(batch, -1, -1, -1), [*pyramid, category, *maps])
        return EnrichmentOutput(self.graph(*every)["logits"], [])


class ExportedScoreMaps(ExportedNetwork, ScoreMapHead):
    """A score-map head whose encoder and correction are ONNX files."""

    files = (DECODER, ENCODER)
    fields: ClassVar = {"channels": v.COUNTS, "matching": v.COUNT}

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__(folder, network)
        self.channels, self.matching = network["channels"], network["matching"]
        self.correction = ExportedCorrection(folder / DECODER)

    def encode_query(self, image: Tensor, shared: None = None) -> ComparedImage:
        """(B, 3, S, S) normalised floats → the compared features, and the edge levels."""
        compared, *edges = self.encoder(image).values()
        return ComparedImage(compared, edges)

    def encode_support(self, image: Tensor, mask: Tensor, shared: None = None) -> SupportPositions:
        """(B, 3, S, S) normalised floats and masks (B, S, S) → the support positions."""
        return support_positions(self.encode_query(image).compared, mask)


class ExportedCorrection(nn.Module):
    """The correction as an ONNX file; called like :class:`Correction`."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.graph = Graph(file)

    def forward(self, maps: Tensor, scored: Tensor, edges: Sequence[Tensor]) -> Tensor:
        """The corrected score map."""
        return self.graph(*(x.expand(len(maps), -1, -1, -1) for x in (maps, scored, *edges)))["score_map"]


NETWORKS: dict[str, type[ExportedNetwork]] = {
    "matching": ExportedMatching,
    "qgnet": ExportedQGNet,
    "score-maps": ExportedScoreMaps,
}
"""Kind of the exported model → its network."""
FIELDS = {
    "kind": v.one_of(NETWORKS),
    "image_size": v.SIDE,
    "identity": v.TEXT,
    "calibration": v.optional(v.TABLE),
    "network": v.TABLE,
}
"""Name → rule of each value of the description."""


def open_exported(folder: Path) -> tuple[dict[str, Any], ExportedNetwork]:
    """The description and the network of an exported model.

    Raises:
        InputError: if the folder is not an exported model, or was changed or damaged.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise InputError(
            f"{folder} is a folder without {DESCRIPTION}, so no model that `qgnet export` wrote. Give such a folder, "
            "or a checkpoint's file."
        )
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        description = {}
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{file} is of another version than {FORMAT}, or damaged. {AGAIN}")
    v.check_fields(str(file), description, FIELDS, AGAIN)
    kind, network, side = NETWORKS[description["kind"]], description["network"], description["image_size"]
    kind.check(file, network)
    found, expected = identity_of(folder, kind), description["identity"]
    if found != expected:
        checksums = zip(kind.files, found.split()[1:], strict=True)
        changed = [str(folder / name) for name, checksum in checksums if checksum not in expected.split()]
        raise InputError(
            f"{' and '.join(changed) or file} was changed or damaged since the export: the sha256 in {file} is "
            f"another. {AGAIN}"
        )
    net = kind(folder, network)
    if net.encoder.side != side:
        raise InputError(f"{file}: image_size is {side}, but {ENCODER} is for {net.encoder.side} px. {AGAIN}")
    return description, net


def identity_of(folder: Path, kind: type[ExportedNetwork]) -> str:
    """The identity of an exported model: the checksums of its files; InputError if a file is missing."""
    for name in kind.files:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist, though {DESCRIPTION} needs it. {AGAIN}")
    return " ".join(["onnx", *(sha256(folder / name) for name in kind.files)])


def needed(package: str) -> Any:
    """A package of the extra ``onnx``; InputError if it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise InputError(f"ONNX needs {package}, which is not installed: {EXTRA}") from None
