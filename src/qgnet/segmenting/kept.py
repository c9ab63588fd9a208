"""Fitted Segmenters as files of tensors and plain values."""

from pathlib import Path
from typing import Any

import torch

from datamodules.files.writing import atomic_write
from qgnet.common.errors import InputError
from qgnet.networks.encoders import Encoder
from qgnet.networks.matching import Positions
from qgnet.networks.qgnet import Supports
from qgnet.segmenting.models import Model, rebuild
from qgnet.segmenting.presence import Calibration
from qgnet.segmenting.tuning import SupportReport
from qgnet.weights.store import read_tensors

FORMAT = "qgnet-segmenter-1"


def write(path: Path, model: Model, options: dict[str, Any], learnt: list[dict[str, Any]]) -> None:
    """Write a model, how it is used and what it has learnt; the file appears by rename."""
    content = {
        "format": FORMAT,
        "model": {**model._asdict(), "net": None, "calibration": model.calibration and tuple(model.calibration)},
        "normalisation": [[list(e.mean), list(e.std)] for e in _encoders(model)],
        "state_dict": {key: value.cpu() for key, value in model.net.state_dict().items()},
        "options": options,
        "learnt": [
            {**one, "encoded": _plain(one["encoded"]), "supports": [tuple(r) for r in one["supports"]]}
            for one in learnt
        ],
    }
    with atomic_write(path) as part:
        torch.save(content, part)


def read(path: Path) -> tuple[Model, dict[str, Any], list[dict[str, Any]]]:
    """What `write` wrote; InputError if the file is missing or is none of these."""
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give a file written by Segmenter.save.")
    content = read_tensors(path, "segmenter")
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is no segmenter of this version. Give a file written by Segmenter.save.")
    known = content["model"]
    calibration = known["calibration"] and Calibration(*known["calibration"])
    net = rebuild(known["kind"], known["settings"])
    net.load_state_dict(content["state_dict"])
    net.requires_grad_(False)
    net.eval()
    model = Model(**{**known, "net": net, "calibration": calibration})
    for encoder, (mean, std) in zip(_encoders(model), content["normalisation"], strict=True):
        encoder.mean, encoder.std = tuple(mean), tuple(std)
    learnt = [
        {
            **one,
            "encoded": _typed(one["encoded"]),
            "supports": [SupportReport(*report) for report in one["supports"]],
        }
        for one in content["learnt"]
    ]
    return model, content["options"], learnt


def _encoders(model: Model) -> list[Encoder]:
    return [module for module in model.net.modules() if isinstance(module, Encoder)]


def _plain(encoded: Any) -> Any:
    """Named tuples → dictionaries, of tensors in the main memory."""
    if isinstance(encoded, tuple):
        return {key: _plain(value) for key, value in encoded._asdict().items()}  # type: ignore[attr-defined]
    if isinstance(encoded, list):
        return [_plain(part) for part in encoded]
    return encoded if encoded is None else encoded.cpu()


def _typed(encoded: dict[str, Any]) -> Positions | Supports:
    """The same back."""
    if "features" in encoded:
        return Positions(**encoded)
    positions = encoded["positions"]
    return Supports(encoded["category"], encoded["keys"], positions and Positions(**positions))
