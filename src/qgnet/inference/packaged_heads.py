"""Trained heads that come with the package, each over an encoder whose weights have a name.

A file holds what differs from the encoder's own weights, so it is a few MB; what it is put together to is checked.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qgnet.common.errors import InputError
from qgnet.inference import model_names
from qgnet.inference.kinds import QGNET, kind_of, task_of
from qgnet.inference.presence import Calibration
from qgnet.inference.validation import read_calibration
from qgnet.tasks.episodic import EpisodicTask
from qgnet.weights.files import read_tensors, save_tensors
from qgnet.weights.packaged import ENCODER
from qgnet.weights.store import IMAGENET, PACKAGED, RANDOM

FORMAT = "qgnet-head-1"
NAMED = (PACKAGED, IMAGENET)
WEIGHTS = {"encoder_weights": "encoder", "prior_weights": "prior_encoder"}
"""Setting of weights → setting of the encoder that they are for."""


class Head(NamedTuple):
    """A trained network with all weights: its task, their sha256, and what :class:`Model` says of a network."""

    task: EpisodicTask
    kind: str
    settings: dict[str, Any]
    image_size: int
    digest: str
    calibration: Calibration | None


def open_head(name: str) -> Head:
    """A head by its name; InputError if there is none, or the encoder's weights cannot be had or are others."""
    file = model_names.HEADS / f"{name.removeprefix(model_names.PREFIX)}.pt"
    if not name.startswith(model_names.PREFIX) or not file.is_file():
        there = ", ".join(model_names.named_models())
        raise InputError(f"There is no model {name!r}. There are: {there}; or give a checkpoint's file.")
    content = read_tensors(file, "--model")
    kind = content.get("kind", QGNET)
    task = task_of(kind)(**content["settings"])
    try:
        task.load_starting_weights()
    except InputError as error:
        raise InputError(
            f"{error} Or take `--model matching` with an --encoder and a file of --encoder-weights."
        ) from None
    task.load_state_dict({**task.state_dict(), **content["state_dict"]})
    digest = digest_of(task.state_dict())
    if digest != content["sha256"]:
        raise InputError(
            f"{name} is put together with other weights of {content['settings']['encoder']} than it was trained on. "
            "Install timm and the package of weights in the versions of constraints.txt."
        )
    beside = file.with_suffix(".json")
    calibration = read_calibration(beside) if beside.is_file() else None
    return Head(task, kind, content["settings"], content["image_size"], digest, calibration)


def pack(task: EpisodicTask, settings: dict[str, Any], image_size: int, file: Path) -> None:
    """Write a trained network as a head; weights of the encoders that can be had by name are left out."""
    named: dict[str, Any] = {name: None if name == "prior_bank" else value for name, value in settings.items()}
    for weights, encoder in WEIGHTS.items():
        if weights in named and named[weights] not in NAMED:  # of files: by name if there is one, else kept here
            named[weights] = PACKAGED if named[encoder] == ENCODER else RANDOM
    plain = type(task)(**named)
    plain.load_starting_weights()
    state, own = plain.state_dict(), task.state_dict()
    content = {
        "format": FORMAT,
        "kind": kind_of(type(task)),
        "settings": named,
        "image_size": image_size,
        "sha256": digest_of(own),
        "state_dict": {key: value for key, value in own.items() if not torch.equal(value, state[key])},
    }
    save_tensors(file, content)


def digest_of(state: dict[str, Tensor]) -> str:
    """sha256 of weights, by name and content."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
