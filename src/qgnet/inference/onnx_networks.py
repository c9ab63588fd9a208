"""Networks that `qgnet export` wrote, run by onnxruntime.

The encoders and the FEM are ONNX files. What is small and has no fixed size is computed here, by the same lines as of
the networks themselves: which support positions there are, how the query's resemble them, and the ridge regression.
"""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.inference.validation import (
    FLAG,
    NUMBERS,
    SIDE,
    SIZES,
    TABLE,
    TEXT,
    Field,
    are_score_map_names,
    hold,
    one_of,
    optional,
)
from qgnet.networks.correspondence import foreground_keys
from qgnet.networks.enrichment import EnrichmentOutput
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.layers import foreground_share
from qgnet.networks.matching import MatchingHead
from qgnet.networks.nested_tensors import map_tensors
from qgnet.networks.qgnet import GUIDED, PRIOR, EncodedQuery, EncodedSupport, QGNetDecoder
from qgnet.networks.score_maps import SCORE_MAPS, support_positions

FORMAT = "qgnet-onnx-1"
DESCRIPTION = "model.json"
ENCODER, SUPPORT, DECODER = "encoder.onnx", "support.onnx", "decoder.onnx"
EXTRA = "pip install 'qgnet-lightning[onnx]'"


class Graph:
    """An ONNX file, run on the processor: tensors in, tensors by their names out.

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
        except Exception as error:  # onnxruntime's kinds have no public parent
            raise InputError(f"{file} cannot be read by onnxruntime ({error}). Export the model again.") from None
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.side = self.session.get_inputs()[0].shape[-1]

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        """In the order of the file's inputs; the answers come back to where the first of them lies."""
        arrays = [tensor.detach().float().cpu().contiguous().numpy() for tensor in tensors]
        try:
            answers = self.session.run(self.outputs, dict(zip(self.inputs, arrays, strict=True)))
        except Exception as error:  # of the same kinds
            raise InputError(f"{self.file} cannot be run by onnxruntime ({error}). Export the model again.") from None
        given = zip(self.outputs, answers, strict=True)
        return {name: torch.from_numpy(answer).to(tensors[0].device) for name, answer in given}


class OneSize(FewShotNetwork):
    """A network that was exported for squares of one side."""

    encoder: Graph

    def check_side(self, side: int, what: str) -> None:
        """InputError for any other side."""
        if side != self.encoder.side:
            raise InputError(
                f"{what} is {side} pixels, but the model was exported for {self.encoder.side}. Take these, or export "
                "it again with --image-size."
            )


class ExportedMatcher(OneSize, MatchingHead):
    """Training-free matching whose encoder is an ONNX file."""

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__(network["method"])
        self.score_map_names = (self.method,)
        self.encoder = Graph(folder / ENCODER)

    def encode_query(self, image: Tensor, shared: None = None) -> Tensor:
        """(B, 3, S, S) normalised floats → (B, C, h, w) of length 1, what is compared."""
        return self.encoder(image)["matching"]


class ExportedQGNet(OneSize, QGNetDecoder):
    """QGNet whose encoders and FEM are ONNX files."""

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__()
        self.score_map_names = tuple(network["margins"])
        self.cross_correspondence = network["cross_correspondence"]
        weights = network["margin_weights"]
        self.register_buffer("score_map_weights", None if weights is None else torch.tensor(weights))
        self.mask_sizes = [(height, width) for height, width in network["mask_sizes"]]
        self.enrichment = ExportedEnrichment(folder / DECODER)
        self.encoder, self.of_support = Graph(folder / ENCODER), Graph(folder / SUPPORT)
        self.map_names = (GUIDED, PRIOR) if "prior_map" in self.encoder.outputs else (GUIDED,)

    def encode_query(self, image: Tensor, shared: None = None) -> EncodedQuery:
        """(B, 3, S, S) normalised floats → what depends on the query alone."""
        known = self.encoder(image)
        pyramid = [tensor for name, tensor in known.items() if name.startswith("pyramid")]
        return EncodedQuery(pyramid, known["high"], known.get("prior_map"), known.get("matching"))

    def encode_support(self, image: Tensor, mask: Tensor, shared: None = None) -> EncodedSupport:
        """(B, 3, S, S) normalised floats and their masks (B, S, S) → what depends on the support alone."""
        known = self.of_support(image, *(foreground_share(mask, size) for size in self.mask_sizes))
        matching = known.get("matching")
        positions = None if matching is None else support_positions(matching, mask)
        return EncodedSupport(known["category"], foreground_keys(known["masked"], mask), positions)


class ExportedEnrichment(nn.Module):
    """The FEM as an ONNX file; called as :class:`FeatureEnrichment`, without logits of its levels."""

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
        """Predict."""
        batch = len(pyramid[0])
        every = map_tensors(lambda t: t.expand(batch, -1, -1, -1), [*pyramid, category, *maps])
        return EnrichmentOutput(self.graph(*every)["logits"], [])


NETWORKS: dict[str, Callable[[Path, dict[str, Any]], OneSize]] = {
    "matching": ExportedMatcher,
    "qgnet": ExportedQGNet,
}
"""Kind of the exported model → what runs it."""
FILES = {"matching": (ENCODER,), "qgnet": (DECODER, ENCODER, SUPPORT)}
"""Kind → its ONNX files, in the order of their checksums."""
FIELDS = {
    "kind": one_of(FILES),
    "image_size": SIDE,
    "identity": TEXT,
    "calibration": optional(TABLE),
    "network": TABLE,
}
"""What the description holds."""
NETWORK_FIELDS = {
    "matching": {"method": one_of(SCORE_MAPS)},
    "qgnet": {
        "margins": Field(f"a list of some of {', '.join(SCORE_MAPS)}", are_score_map_names),
        "margin_weights": optional(NUMBERS),
        "cross_correspondence": FLAG,
        "mask_sizes": SIZES,
    },
}
"""Kind → what makes a network of the files."""
AGAIN = "Export the model again."


def describe(folder: Path, description: dict[str, Any]) -> None:
    """Write what the ONNX files do not say."""
    text = json.dumps({"format": FORMAT, **description}, indent=1)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def description_of(folder: Path) -> dict[str, Any]:
    """What `describe` wrote; InputError if the folder is no exported model."""
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
    hold(str(file), description, FIELDS, AGAIN)
    kind, network = description["kind"], description["network"]
    hold(f"{file}, the network", network, NETWORK_FIELDS[kind], AGAIN)
    weights = network.get("margin_weights")
    if weights is not None and len(weights) != len(network["margins"]):
        raise InputError(f"{file} has {len(weights)} margin_weights for {len(network['margins'])} margins. {AGAIN}")
    return description


def identity_of(folder: Path, kind: str) -> str:
    """What tells an exported model from every other: the checksums of its ONNX files.

    Raises:
        InputError: if one of them is missing.
    """
    for name in FILES[kind]:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist, though {DESCRIPTION} beside it needs it. {AGAIN}")
    return " ".join(["onnx", *(sha256(folder / name) for name in FILES[kind])])


def check_files(folder: Path, description: dict[str, Any]) -> None:
    """InputError if an ONNX file is not the one that the description was written for: a byte differs."""
    found, expected = identity_of(folder, description["kind"]), description["identity"]
    if found != expected:
        differing = [
            str(folder / name)
            for name, checksum in zip(FILES[description["kind"]], found.split()[1:], strict=True)
            if checksum not in expected.split()
        ]
        raise InputError(
            f"{' and '.join(differing) or folder / DESCRIPTION} was changed or damaged since the export: the sha256 in "
            f"{folder / DESCRIPTION} is another. {AGAIN}"
        )


def network_of(folder: Path, description: dict[str, Any]) -> OneSize:
    """The network of a description; InputError if its files are others, or of another size."""
    check_files(folder, description)
    net = NETWORKS[description["kind"]](folder, description["network"])
    if net.encoder.side != description["image_size"]:
        raise InputError(
            f"{folder / DESCRIPTION}: image_size is {description['image_size']}, but {ENCODER} beside it is for "
            f"{net.encoder.side} px. {AGAIN}"
        )
    return net


def needed(package: str) -> Any:
    """A package of the extra ``onnx``; InputError if it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise InputError(f"ONNX needs {package}, which is not installed: {EXTRA}") from None
