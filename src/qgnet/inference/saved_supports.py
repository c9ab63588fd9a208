"""Files of fitted Segmenters, with tensors and plain values."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from qgnet.common.errors import InputError
from qgnet.inference import REFINE
from qgnet.inference import validation as v
from qgnet.inference.kinds import KIND
from qgnet.inference.models import Model, rebuild
from qgnet.inference.refiners import candidates
from qgnet.inference.tuning import Choice, FittedClass, SupportReport
from qgnet.networks.encoders import Encoder
from qgnet.weights.files import read_tensors, save_tensors

FORMAT = "qgnet-segmenter-2"
SINGLE_SCALE = "qgnet-segmenter-1"
"""Format of earlier versions, without refinement and a second scale."""
CHECKSUM = "sha256"
"""Key of the checksum of the other content; older files have none."""
AGAIN = "Fit a Segmenter again, and save it."
PARTS = {"model": v.TABLE, "normalisation": v.LIST, "state_dict": v.TABLE, "options": v.TABLE, "learnt": v.LIST}
MODEL = {"kind": KIND, "image_size": v.SIDE, "settings": v.TABLE, "identity": v.TEXT}
OPTIONS = {
    "bf16": v.FLAG,
    "tile": v.FLAG,
    "threshold": v.optional(v.THRESHOLD),
    "presence": v.SHARE,
    "refine": v.one_of(REFINE),
    "image_size": v.optional(v.SIDE),
    "sides": v.SIDES,
}
COLOURS = v.Field("mean and deviation of three colours", v.is_list_of(v.is_list_of(v.is_number, 3), 2))
SUPPORT = {"class_name": v.TEXT, "number": v.INTEGER, "iou": v.SHARE, "disagrees": v.FLAG}
SUPPORTS = v.Field(
    f"a list of {len(SUPPORT)} values for each support", v.is_list_of(v.is_list_of(lambda _: True, len(SUPPORT)))
)
CLASS = {"name": v.TEXT, "encoded": v.LIST, "choice": v.TABLE, "supports": SUPPORTS, "usual": v.NUMBER}
CHOICE = {"threshold": v.THRESHOLD, "coarse_weight": v.SHARE}


def write(path: Path, model: Model, options: dict[str, Any], fitted: Sequence[FittedClass]) -> None:
    """Write a model, its options and the fitted classes atomically."""
    classes = [
        {
            **v.plain(one),
            "encoded": _plain(one.encoded),
            "choice": one.choice._asdict(),
            "supports": [tuple(r) for r in one.supports],
        }
        for one in fitted
    ]
    content = {
        "format": FORMAT,
        "model": {
            **{name: getattr(model, name) for name in MODEL},
            "calibration": model.calibration and v.plain(model.calibration),
        },
        "normalisation": [[list(e.mean), list(e.std)] for e in _encoders(model.net)],
        "state_dict": {key: value.cpu() for key, value in model.net.state_dict().items()},
        "options": options,
        "learnt": classes,
    }
    save_tensors(path, {**content, CHECKSUM: checksum_of(content)})


def read(path: Path) -> tuple[Model, dict[str, Any], list[FittedClass]]:
    """Read the model, its options and the fitted classes that `write` wrote.

    Raises:
        InputError: if the file is missing, is not a Segmenter's, or was changed or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give a file written by Segmenter.save.")
    content = read_tensors(path, "segmenter")
    if content.get("format") not in (FORMAT, SINGLE_SCALE):
        raise InputError(f"{path} is no segmenter of this version. Give a file written by Segmenter.save.")
    found = content.pop(CHECKSUM, None)
    if found is not None and found != checksum_of(content):
        raise InputError(f"{path} was changed or damaged since it was written: its sha256 is another. {AGAIN}")
    v.check_fields(str(path), content, PARTS, AGAIN)
    model = _model(path, content)
    if content["format"] == SINGLE_SCALE:
        _add_scales(content, model)
    options = content["options"]
    v.check_fields(f"{path}, the options", options, OPTIONS, AGAIN)
    for side in options["sides"]:
        model.net.check_side(side, f"{path}: a side")
    classes = enumerate(content["learnt"], start=1)
    fitted = [_fitted_class(f"{path}, class {i}", model, options, one) for i, one in classes]
    return model, {name: options[name] for name in OPTIONS}, fitted


def _add_scales(content: dict[str, Any], model: Model) -> None:
    """Convert content without refinement and a second scale to the current format."""
    size = model.image_size
    content["options"] = {**content["options"], "refine": "none", "image_size": size, "sides": [size]}
    for one in content["learnt"]:
        if isinstance(one, dict) and "encoded" in one:
            one["encoded"] = [one["encoded"]]
            one["choice"] = Choice()._asdict() | {k: one[k] for k in ("threshold",) if k in one}


def checksum_of(content: Any) -> str:
    """sha256 of tensors and plain values, including their names and order."""
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
    facts = content["model"]
    v.check_fields(f"{path}, the model", facts, MODEL, AGAIN)
    calibration = facts.get("calibration")
    if isinstance(calibration, list | tuple):  # older files have no field names
        calibration = dict(zip(v.CALIBRATION, calibration, strict=False))
    try:
        net = rebuild(facts["kind"], dict(facts["settings"]))
        net.load_state_dict(content["state_dict"])
        net.check_side(facts["image_size"], "image_size")
    except (InputError, TypeError, ValueError, RuntimeError) as error:  # wrong settings, or weights of another network
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
    known = {name: facts[name] for name in MODEL}
    return Model(**known, net=net, source=str(path), calibration=v.parse_calibration(str(path), calibration, AGAIN))


def _fitted_class(where: str, model: Model, options: Mapping[str, Any], one: Any) -> FittedClass:
    v.check_fields(where, one, CLASS, AGAIN, missing=("usual",))
    for report in one["supports"]:
        v.check_fields(f"{where}, a support", dict(zip(SUPPORT, report, strict=True)), SUPPORT, AGAIN)
    choice = CHOICE | {"refinement": v.one_of(candidates(options["refine"]))}
    v.check_fields(f"{where}, the choice", one["choice"], choice, AGAIN)
    try:
        encoded = [_typed(model.net.supports_type, of_side) for of_side in one["encoded"]]
        fits = len(encoded) == len(options["sides"]) and all(map(model.net.fits, encoded))
    except (KeyError, TypeError, AttributeError):  # other names or other types in the file
        fits = False
    if not fits:
        raise InputError(f"{where}: encoded is not what this network makes of supports. {AGAIN}")
    reports = [SupportReport(*report) for report in one["supports"]]
    return FittedClass(one["name"], encoded, Choice(**one["choice"]), reports, one.get("usual", 0.0))


def _encoders(net: torch.nn.Module) -> list[Encoder]:
    return [module for module in net.modules() if isinstance(module, Encoder)]


def _plain(encoded: Any) -> Any:
    """Named tuples → dictionaries of tensors on the CPU."""
    if isinstance(encoded, tuple):
        return {key: _plain(value) for key, value in encoded._asdict().items()}  # type: ignore[attr-defined]
    if isinstance(encoded, list):
        return [_plain(part) for part in encoded]
    return encoded if encoded is None else encoded.cpu()


def _typed(hint: Any, plain: Any) -> Any:
    """The inverse: dictionaries → named tuples, by the type hints of a network's supports."""
    kinds: list[Any] = [kind for kind in (hint, *get_args(hint)) if hasattr(kind, "_fields")]
    if not isinstance(plain, dict) or not kinds:
        return plain
    hints = get_type_hints(kinds[0])
    return kinds[0](**{name: _typed(hints[name], plain[name]) for name in kinds[0]._fields})
