"""Networks ready for use: training-free matching, a checkpoint of one's own, or one by name."""

from pathlib import Path
from typing import Any, NamedTuple

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.common.settings import check_side, renamed
from qgnet.inference.kinds import QGNET, kind_of, task_of
from qgnet.inference.model_names import DEFAULT, MATCHING, PREFIX
from qgnet.inference.onnx_networks import AGAIN, DESCRIPTION, open_exported
from qgnet.inference.packaged_heads import open_head, pack
from qgnet.inference.presence import Calibration
from qgnet.inference.validation import parse_calibration, read_calibration
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.runs.folders import checkpoint_run, saved_settings
from qgnet.tasks.episodic import IMAGE_SIZE, TASK, EpisodicTask
from qgnet.tasks.matching import SupportMatching
from qgnet.weights.files import read_tensors
from qgnet.weights.packaged import ENCODER
from qgnet.weights.store import PACKAGED, PRIOR_FORMAT

MATCHING_SIDE = 321
"""Side in pixels of the square that images are brought to for matching."""
MATCHING_SETTINGS = {
    "encoder": ENCODER,
    "encoder_weights": PACKAGED,
    "high_stage": 4,
    "method": "sum",
    "dilated": False,
}
CALIBRATION = Path(__file__).parent / "calibrations/matching.json"
"""Of matching with these settings; written by ``benchmarks/presence.py``."""
FILES = ("prior_weights", "prior_bank")
"""Settings that name files whose weights a checkpoint holds itself."""
NOT_PLAIN = ("optimizer", "schedule")
"""Settings of a training alone."""
SIDES = "Give the side of the square it was trained with, in pixels (`image_size=` or --image-size)."


class Model(NamedTuple):
    """A network with what is to be known for using it.

    Attributes:
        net: frozen.
        image_size: side of its square, in pixels.
        kind: of `kinds.TASKS`, or the import path of its task.
        settings: plain values that make a network of this kind.
        identity: what tells it from every other one.
        source: where its weights are from, for messages.
        calibration: of its scores; None where it was not measured.
        exported: whether it consists of ONNX files.
    """

    net: FewShotNetwork
    image_size: int
    kind: str
    settings: dict[str, Any]
    identity: str
    source: str
    calibration: Calibration | None = None
    exported: bool = False


def open_model(model: str | Path | None = None, image_size: int | None = None, **matching: Any) -> Model:
    """A network by its name, or that of a checkpoint.

    Args:
        model: ``matching``, another name that `named_models` has, the file of a checkpoint of stage 2, or a folder that
            `qgnet export` wrote. None: ``matching`` if one of its settings is given, otherwise `DEFAULT`.
        image_size: side of the square, in pixels; None: what it was made for.
        matching: settings of :class:`SupportMatching` that differ from ``MATCHING_SETTINGS``.

    Raises:
        InputError: if there is none, or its weights cannot be had.
    """
    if image_size is not None:
        check_side(image_size, "The image size")
    model = model or (MATCHING if matching else DEFAULT)
    if str(model) == MATCHING:
        return matching_model(MATCHING_SIDE if image_size is None else image_size, MATCHING_SETTINGS | matching)
    if matching:
        raise InputError(
            f"{', '.join(matching)} is a setting of `matching` only, and the model is {model}. Leave it out."
        )
    if str(model).startswith(PREFIX):
        head = open_head(str(model))
        side = head.image_size if image_size is None else image_size
        ready = _ready(head.task.net, side, head.kind, head.settings, head.digest, str(model))
        return ready._replace(calibration=head.calibration)
    return (
        exported_model(Path(model), image_size) if Path(model).is_dir() else checkpoint_model(Path(model), image_size)
    )


def exported_model(folder: Path, image_size: int | None) -> Model:
    """What `qgnet export` wrote; InputError if the folder is none of these, or was written for another image size."""
    known, net = open_exported(folder)
    side = known["image_size"]
    if image_size not in (None, side):
        raise InputError(
            f"{folder} was exported for {side} px, not for {image_size}. Leave the image size out, or export the model "
            "again with --image-size."
        )
    net.eval()
    calibration = parse_calibration(str(folder / DESCRIPTION), known["calibration"], AGAIN)
    return Model(net, side, known["kind"], {}, known["identity"], str(folder), calibration, exported=True)


def matching_model(image_size: int, settings: dict[str, Any]) -> Model:
    """Training-free matching; InputError if the encoder's weights cannot be had."""
    task = SupportMatching(**settings)
    task.load_starting_weights()
    task.net.score_map_names = (settings["method"],)  # a test scores the others, too
    origin = task.file_hashes.get("encoder_weights", settings["encoder_weights"])
    source = f"{settings['encoder_weights']} weights of {settings['encoder']}"
    model = _ready(task.net, image_size, MATCHING, settings, str(origin), source)
    return model._replace(calibration=matching_calibration()) if settings == MATCHING_SETTINGS else model


def matching_calibration() -> Calibration:
    """That of ``MATCHING_SETTINGS``."""
    return read_calibration(CALIBRATION)


def checkpoint_model(path: Path, image_size: int | None) -> Model:
    """The network of a checkpoint of stage 2.

    Raises:
        InputError: if the file is missing, is none, or does not say its image size.
    """
    if not path.is_file():
        raise InputError(
            f"The model {path} does not exist. Give a checkpoint of stage 2, e.g. "
            "runs/<experiment>/<run>/checkpoints/last.ckpt, or `matching`, which needs no training."
        )
    content = read_tensors(path, "--ckpt")
    made_by = _task_of_checkpoint(path, content)
    settings = {k: v for k, v in renamed(content.get("hyper_parameters", {})).items() if not k.startswith("_")}
    settings = {k: None if k in FILES else v for k, v in settings.items() if k not in NOT_PLAIN}
    try:
        task = made_by(**settings)
    except TypeError as error:  # of a task that takes other settings by now, or keeps some that are no plain values
        raise InputError(
            f"{path}: {made_by.__name__} cannot be made of the settings that the checkpoint holds ({error}). Train it "
            "again with this version."
        ) from None
    task.on_load_checkpoint(content)
    task.load_state_dict(content["state_dict"])
    side = _trained_size(path, content) if image_size is None else image_size
    return _ready(task.net, side, kind_of(made_by), settings, sha256(path), str(path))


def _task_of_checkpoint(path: Path, content: dict[str, Any]) -> type[EpisodicTask]:
    """The task that a checkpoint says it is of; InputError if that is none over episodes, or cannot be imported.

    Checkpoints of earlier versions name it only if the command wrote them; one with an FEM is QGNet's.
    """
    named = content.get(TASK) or content.get("hyper_parameters", {}).get("_class_path")
    weights = content.get("state_dict", {})
    of_stage_1 = content.get("format") == PRIOR_FORMAT or any(key.endswith(".queue") for key in weights)
    if of_stage_1 or (not named and any("projection" in key for key in weights)):
        raise InputError(
            f"{path} is of stage 1, the prior extractor, which segments nothing. Give a checkpoint of stage 2 "
            "(`lightning fit --config pascal5i.yaml`), or `matching`."
        )
    if not named and not any(key.startswith("net.enrichment.") for key in weights):
        raise InputError(f"{path} is no checkpoint of stage 2. Give the last.ckpt or best.ckpt of such a training.")
    try:
        return task_of(named or QGNET)
    except InputError as error:
        raise InputError(f"{path} is no checkpoint that can be opened. {error}") from None


def pack_checkpoint(path: Path, file: Path) -> None:
    """Write a checkpoint of stage 2 as a head for the package; InputError as of `checkpoint_model`."""
    model = checkpoint_model(path, None)
    task = task_of(model.kind)(**model.settings)
    task.net.load_state_dict(model.net.state_dict())
    pack(task, model.settings, model.image_size, file)


def rebuild(kind: str, settings: dict[str, Any]) -> FewShotNetwork:
    """A network of this kind and these settings, without its weights."""
    return task_of(kind)(**settings).net


def _trained_size(path: Path, content: dict[str, Any]) -> int:
    """Side of the square that a checkpoint was trained with: it says so itself, or its run's configuration does."""
    if IMAGE_SIZE in content:
        return int(content[IMAGE_SIZE])
    config = checkpoint_run(path) / "config.yaml"
    side = saved_settings(config)[1].get("image_size") if config.is_file() else None
    if not isinstance(side, int):
        raise InputError(f"{path} does not say for which image size it was trained. {SIDES}")
    return side


def _ready(net: FewShotNetwork, side: int, kind: str, settings: dict[str, Any], origin: str, source: str) -> Model:
    net.check_side(side, "The image size")
    net.requires_grad_(False)
    net.eval()
    return Model(net, side, kind, settings, f"{kind} {origin} {side}", source)
