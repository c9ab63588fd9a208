"""Networks that `qgnet export` wrote, run by onnxruntime.

The encoders and the FEM are ONNX files. What is small and has no fixed size is computed here, by the same lines as of
the networks themselves: which support positions there are, how the query's resemble them, and the ridge regression.
"""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qgnet.common.errors import InputError
from qgnet.networks.encoded import each_tensor
from qgnet.networks.enrichment import EnrichmentOutput
from qgnet.networks.layers import resize_mask
from qgnet.networks.matcher import Matching
from qgnet.networks.matching import positions
from qgnet.networks.qgnet import Answering, Query, Stages, Support, support

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

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        """In the order of the file's inputs; the answers come back to where the first of them lies."""
        arrays = [tensor.detach().float().cpu().contiguous().numpy() for tensor in tensors]
        try:
            answers = self.session.run(self.outputs, dict(zip(self.inputs, arrays, strict=True)))
        except Exception as error:  # of the same kinds
            raise InputError(f"{self.file} cannot be run by onnxruntime ({error}). Export the model again.") from None
        given = zip(self.outputs, answers, strict=True)
        return {name: torch.from_numpy(answer).to(tensors[0].device) for name, answer in given}


class ExportedMatcher(Matching):
    """Training-free matching whose encoder is an ONNX file."""

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__(network["method"])
        self.margins = (self.method,)
        self.encoder = Graph(folder / ENCODER)

    def encode_query(self, image: Tensor, stages: Stages | None = None) -> Tensor:
        """(B, 3, S, S) normalised floats → (B, C, h, w) of length 1, what is compared."""
        return self.encoder(image)["matching"]


class ExportedQGNet(Answering):
    """QGNet whose encoders and FEM are ONNX files."""

    def __init__(self, folder: Path, network: dict[str, Any]) -> None:
        super().__init__()
        self.margins = tuple(network["margins"])
        self.cross_correspondence = network["cross_correspondence"]
        weights = network["margin_weights"]
        self.register_buffer("margin_weights", None if weights is None else torch.tensor(weights))
        self.mask_sizes = [(height, width) for height, width in network["mask_sizes"]]
        self.enrichment = ExportedEnrichment(folder / DECODER)
        self.of_query, self.of_support = Graph(folder / ENCODER), Graph(folder / SUPPORT)

    def encode_query(self, image: Tensor) -> Query:
        """(B, 3, S, S) normalised floats → what depends on the query alone."""
        known = self.of_query(image)
        pyramid = [tensor for name, tensor in known.items() if name.startswith("pyramid")]
        return Query(pyramid, known["high"], known.get("prior_map"), known.get("matching"))

    def encode_support(self, image: Tensor, mask: Tensor) -> Support:
        """(B, 3, S, S) normalised floats and their masks (B, S, S) → what depends on the support alone."""
        whole = (mask == 1).float().unsqueeze(1)
        known = self.of_support(image, *(resize_mask(whole, size) for size in self.mask_sizes))
        compared = known.get("matching")
        return support(
            known["category"], known["masked"], mask, None if compared is None else positions(compared, mask)
        )


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
        every = each_tensor(lambda t: t.expand(batch, -1, -1, -1), [*pyramid, category, *maps])
        return EnrichmentOutput(self.graph(*every)["logits"], [])


NETWORKS: dict[str, type[ExportedMatcher] | type[ExportedQGNet]] = {
    "matching": ExportedMatcher,
    "qgnet": ExportedQGNet,
}
"""Kind of the exported model → what runs it."""
EXPORTED = tuple(NETWORKS.values())


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
    except ValueError:
        description = {}
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{file} is of another version than {FORMAT}, or damaged. Export the model again.")
    return description


def needed(package: str) -> Any:
    """A package of the extra ``onnx``; InputError if it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise InputError(f"ONNX needs {package}, which is not installed: {EXTRA}") from None
