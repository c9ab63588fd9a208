"""Weights from and to files: encoders' starting weights, and the prior extractor that stage 1 leaves for stage 2."""

from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.networks.encoders import IMAGENET as IMAGENET_COLOURS
from qgnet.networks.encoders import Encoder
from qgnet.networks.qgnet import PriorBank
from qgnet.weights import packaged
from qgnet.weights.files import mismatches, read_tensors, save_tensors

PRIOR_FORMAT = "qgnet-prior-extractor-1"
BANK_FORMAT = "qgnet-prior-bank-1"
RANDOM = "random"
IMAGENET = "imagenet"
PACKAGED = "packaged"


def load_encoder_weights(encoder: Encoder, weights: str, setting: str) -> str | None:
    """Fill an encoder, strictly.

    Args:
        encoder: to be filled in place.
        weights: ``random`` (nothing happens), ``imagenet`` (timm's own, downloaded), ``packaged`` (EfficientNet-Lite0's
            from their Python package), or a file: a prior extractor of stage 1, ``.safetensors``, or a
            ``.pth``/``.pt``/``.ckpt`` state dict of the same timm model.
        setting: name of the setting, for messages.

    Returns:
        sha256 of the file, None if there was none.

    Raises:
        InputError: if the weights cannot be had or do not fit.
    """
    if weights == RANDOM:
        return None
    if weights == IMAGENET:
        _load(encoder, _download(encoder.name, setting), f"timm's weights of {encoder.name}", setting)
        return None
    if weights == PACKAGED:
        with packaged.packaged_file(encoder.name, setting) as path:
            state = packaged.timm_names(read_tensors(path, setting))
        _load(encoder, state, "the packaged weights", setting)
        return packaged.SHA256
    path = Path(weights)
    _load(encoder, _read_state_dict(path, encoder, setting), str(path), setting)
    return sha256(path)


def save_prior_extractor(path: Path, encoder: Encoder) -> None:
    """Write the encoder's weights with what stage 2 needs to check them."""
    content = {
        "format": PRIOR_FORMAT,
        "encoder": encoder.name,
        "high_stage": encoder.high_stage,
        "normalisation": [list(encoder.mean), list(encoder.std)],
        "state_dict": encoder.net.state_dict(),
    }
    save_tensors(path, content)


def prior_architecture(path: Path, setting: str) -> tuple[str, int]:
    """The timm model and last stage of a prior extractor that stage 1 wrote; InputError if it is none."""
    content = _read(path, PRIOR_FORMAT, setting, "prior extractor", "Give a prior_extractor.ckpt of stage 1.")
    return content["encoder"], content["high_stage"]


def save_prior_bank(path: Path, vectors: Tensor, built: dict[str, Any]) -> None:
    """Write a bank of priors (K, C) with how it was built."""
    save_tensors(path, {"format": BANK_FORMAT, "vectors": vectors, "built": built})


def load_prior_bank(bank: PriorBank, file: str, setting: str) -> str:
    """Fill a bank; its sha256. InputError if the file is no bank, or one of another size or width."""
    path = Path(file)
    content = _read(path, BANK_FORMAT, setting, "bank of priors", "Write one with `qgnet prior-bank`.")
    found, expected = tuple(content["vectors"].shape), tuple(bank.vectors.shape)
    if found != expected:
        raise InputError(
            f"`{setting}`: {path} holds {found[0]} priors of {found[1]} channels, but the configuration asks for "
            f"{expected[0]} of {expected[1]}. Set `model.bank_size` to {found[0]} and the prior encoder to the one "
            "that the bank was built with."
        )
    bank.vectors.copy_(content["vectors"])
    return sha256(path)


def _read(path: Path, form: str, setting: str, what: str, remedy: str) -> dict[str, Any]:
    """A file of one of our formats; InputError, with the remedy, if it is none."""
    if not path.is_file():
        raise InputError(f"`{setting}` names {path}, which does not exist. {remedy}")
    content = read_tensors(path, setting)
    if content.get("format") != form:
        raise InputError(f"`{setting}`: {path} is no {what}. {remedy}")
    return content


def _read_state_dict(path: Path, encoder: Encoder, setting: str) -> dict[str, Tensor]:
    """Of a file of weights; the encoder takes over a prior extractor's normalisation."""
    if not path.is_file():
        raise InputError(
            f"`{setting}` names {path}, which does not exist. Expected: a prior_extractor.ckpt written by stage 1, a "
            "state dict (.pth, .safetensors), `imagenet` or `random`."
        )
    content = read_tensors(path, setting)
    if content.get("format") == PRIOR_FORMAT:
        found = (content["encoder"], content["high_stage"])
        if found != (encoder.name, encoder.high_stage):
            raise InputError(
                f"`{setting}`: {path} holds a {found[0]} up to stage {found[1]}, but the configuration asks for "
                f"{encoder.name} up to stage {encoder.high_stage}. Change the model's encoder settings to the "
                "file's, or train stage 1 with these."
            )
        mean, std = content.get("normalisation", IMAGENET_COLOURS)  # before it was kept, every encoder had ImageNet's
        encoder.mean, encoder.std = tuple(mean), tuple(std)
        return dict(content["state_dict"])
    if "pytorch-lightning_version" in content:
        raise InputError(
            f"`{setting}`: {path} is a training checkpoint. Stage 1 writes the prior extractor to "
            "prior_extractor.ckpt in its run's folder; give that file."
        )
    return dict(content.get("state_dict", content))


def _download(name: str, setting: str) -> dict[str, Tensor]:
    url = timm.get_pretrained_cfg(name)
    if url is None or not url.has_weights:
        raise InputError(f"`{setting}` is `imagenet`, but timm has no weights for {name}. Give a file, or `random`.")
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # hub, network and cache each raise their own kinds
        raise InputError(
            f"The ImageNet weights of {name} could not be downloaded ({type(error).__name__}). Without network: fetch "
            f"them elsewhere from https://huggingface.co/{url.hf_hub_id or 'timm'} ({url.architecture}.{url.tag}, "
            f"model.safetensors) and give the file as `{setting}`."
        ) from None


def _load(encoder: Encoder, state: dict[str, Tensor], origin: str, setting: str) -> None:
    state = encoder.adapt_weights(state)
    wrong = mismatches(encoder.net.state_dict(), state)
    if wrong:
        found = [f"{len(keys)} {what}, e.g. {keys[0]}" for what, keys in wrong.items()]
        raise InputError(
            f"`{setting}`: {origin} does not fit {encoder.name} up to stage {encoder.high_stage}: keys "
            f"{'; '.join(found)}. Give weights of this timm model, or change the model's encoder settings."
        )
    encoder.net.load_state_dict(state)
