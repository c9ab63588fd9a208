"""Fitted Segmenters as files of tensors and plain values."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from qgnet.common.errors import InputError
from qgnet.inference.models import KINDS, Model, rebuild
from qgnet.inference.presence import Calibration
from qgnet.inference.tuning import SupportReport
from qgnet.inference.validation import (
    FLAG,
    LIST,
    NUMBER,
    SHARE,
    SIDE,
    TABLE,
    TEXT,
    THRESHOLD,
    Field,
    hold,
    is_list_of,
    is_number,
    one_of,
    optional,
    parse_calibration,
)
from qgnet.networks.encoders import Encoder
from qgnet.weights.files import read_tensors, save_tensors

FORMAT = "qgnet-segmenter-1"
CHECKSUM = "sha256"
"""Key of the checksum of all else; older files have none."""
AGAIN = "Fit a Segmenter again, and save it."
PARTS = {"model": TABLE, "normalisation": LIST, "state_dict": TABLE, "options": TABLE, "learnt": LIST}
MODEL = {"kind": one_of(KINDS), "image_size": SIDE, "settings": TABLE, "identity": TEXT}
OPTIONS = {"bf16": FLAG, "tile": FLAG, "threshold": optional(THRESHOLD), "presence": SHARE}
COLOURS = Field("mean and deviation of three colours", is_list_of(is_list_of(is_number, 3), 2))
SUPPORT = {"class_name": TEXT, "number": Field("a whole number", lambda n: isinstance(n, int)), "iou": SHARE}
SUPPORT["disagrees"] = FLAG
LEARNT = {
    "name": TEXT,
    "encoded": TABLE,
    "threshold": THRESHOLD,
    "supports": Field(
        f"a list of {len(SUPPORT)} values for each support",
        is_list_of(lambda report: isinstance(report, list | tuple) and len(report) == len(SUPPORT)),
    ),
    "usual": NUMBER,
}


def write(path: Path, model: Model, options: dict[str, Any], learnt: list[dict[str, Any]]) -> None:
    """Write a model, how it is used and what it has learnt; the file appears by rename."""
    known = {name: getattr(model, name) for name in MODEL}
    content = {
        "format": FORMAT,
        "model": {**known, "calibration": model.calibration and model.calibration._asdict()},
        "normalisation": [[list(e.mean), list(e.std)] for e in _encoders(model.net)],
        "state_dict": {key: value.cpu() for key, value in model.net.state_dict().items()},
        "options": options,
        "learnt": [
            {**one, "encoded": _plain(one["encoded"]), "supports": [tuple(r) for r in one["supports"]]}
            for one in learnt
        ],
    }
    save_tensors(path, {**content, CHECKSUM: checksum_of(content)})


def read(path: Path) -> tuple[Model, dict[str, Any], list[dict[str, Any]]]:
    """What `write` wrote.

    Raises:
        InputError: if the file is missing, is none of these, or was changed or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give a file written by Segmenter.save.")
    content = read_tensors(path, "segmenter")
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is no segmenter of this version. Give a file written by Segmenter.save.")
    found = content.pop(CHECKSUM, None)
    if found is not None and found != checksum_of(content):
        raise InputError(f"{path} was changed or damaged since it was written: its sha256 is another. {AGAIN}")
    hold(str(path), content, PARTS, AGAIN)
    options = content["options"]
    hold(f"{path}, the options", options, OPTIONS, AGAIN)
    model = _model(path, content)
    learnt = [_learnt(f"{path}, class {i}", model, one) for i, one in enumerate(content["learnt"], start=1)]
    return model, {name: options[name] for name in OPTIONS}, learnt


def checksum_of(content: Any) -> str:
    """sha256 of tensors and plain values, with their names and places."""
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            for key in sorted(value, key=repr):
                digest.update(repr(key).encode())
                take(value[key])
        elif isinstance(value, list | tuple):
            digest.update(f"{len(value)} parts".encode())
            for part in value:
                take(part)
        else:
            digest.update(repr(value).encode())

    take(content)
    return digest.hexdigest()


def _model(path: Path, content: dict[str, Any]) -> Model:
    known = content["model"]
    hold(f"{path}, the model", known, MODEL, AGAIN)
    calibration = known.get("calibration")
    if isinstance(calibration, list | tuple):  # of before its fields had names there
        calibration = dict(zip(Calibration._fields, calibration, strict=False))
    try:
        net = rebuild(known["kind"], dict(known["settings"]))
        net.load_state_dict(content["state_dict"])
        net.check_side(known["image_size"], "image_size")
    except (InputError, TypeError, ValueError, RuntimeError) as error:  # another setting, or weights of another network
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not make a network of its settings and weights ({reason}). {AGAIN}") from None
    net.requires_grad_(False)
    net.eval()
    encoders = _encoders(net)
    colours = content["normalisation"]
    if len(colours) != len(encoders) or not all(map(COLOURS.fits, colours)):
        raise InputError(f"{path}: normalisation is not {COLOURS.expected} for {len(encoders)} encoders. {AGAIN}")
    for encoder, (mean, std) in zip(encoders, colours, strict=True):
        encoder.mean, encoder.std = tuple(mean), tuple(std)
    facts = {name: known[name] for name in MODEL}
    return Model(**facts, net=net, source=str(path), calibration=parse_calibration(str(path), calibration, AGAIN))


def _learnt(where: str, model: Model, one: Any) -> dict[str, Any]:
    hold(where, one, LEARNT, AGAIN, missing=("usual",))
    for report in one["supports"]:
        hold(f"{where}, a support", dict(zip(SUPPORT, report, strict=True)), SUPPORT, AGAIN)
    try:
        encoded = _typed(model.net.supports_type, one["encoded"])
        fits = bool(model.net.fits(encoded))
    except (KeyError, TypeError, AttributeError):  # what is in the file has other names, or other kinds of values
        fits = False
    if not fits:
        raise InputError(f"{where}: encoded is not what this network makes of supports. {AGAIN}")
    return {
        **{name: one[name] for name in LEARNT if name in one},
        "encoded": encoded,
        "supports": [SupportReport(*report) for report in one["supports"]],
    }


def _encoders(net: torch.nn.Module) -> list[Encoder]:
    return [module for module in net.modules() if isinstance(module, Encoder)]


def _plain(encoded: Any) -> Any:
    """Named tuples → dictionaries, of tensors in the main memory."""
    if isinstance(encoded, tuple):
        return {key: _plain(value) for key, value in encoded._asdict().items()}  # type: ignore[attr-defined]
    if isinstance(encoded, list):
        return [_plain(part) for part in encoded]
    return encoded if encoded is None else encoded.cpu()


def _typed(hint: Any, plain: Any) -> Any:
    """The same back: dictionaries → the named tuples that the types of a network's supports say."""
    kinds: list[Any] = [kind for kind in (hint, *get_args(hint)) if hasattr(kind, "_fields")]
    if not isinstance(plain, dict) or not kinds:
        return plain
    hints = get_type_hints(kinds[0])
    return kinds[0](**{name: _typed(hints[name], plain[name]) for name in kinds[0]._fields})
