"""Convert released weights to files of this project."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.networks.qgnet import QGNet
from qgnet.released.heads import HEADS, fill_head, head_of
from qgnet.released.names import PRETRAINED, State, backbone, read_state, released_key, resnet, take
from qgnet.tasks.episodic import EpisodicTask
from qgnet.tasks.segmentation import FewShotSegmentation
from qgnet.weights.files import save_tensors
from qgnet.weights.store import save_prior_extractor


def import_weights(source: Path, output: Path, levels: Sequence[float]) -> str:
    """Recognise the kind of a weights file and write it in the form of this project.

    Args:
        source: file written by torch.save.
        output: file to write; it must not exist.
        levels: sides or ratios of the FEM's pyramid, which are not part of the weights; for QGNet and PFENet only.

    Returns:
        A message: the kind of the file, the written file, and the command to use it.

    Raises:
        InputError: if the file cannot be read, is of an unknown kind, or is not complete.
    """
    if output.exists():
        raise InputError(f"{output} exists and is never overwritten. Give another name, or remove it.")
    if output.suffix == ".safetensors":
        raise InputError(f"{output} would be written by torch.save. Give a name that ends in .ckpt or .pth.")
    state = read_state(source)
    if any(key.startswith(("layer0_unsuper.", "down_learn_")) for key in state):
        return import_network("QGNet", state, source, output, levels)
    if any(key.startswith("down_query.") for key in state):
        return import_network("PFENet", state, source, output, levels)
    head = head_of(state)
    if head is not None:
        return import_head(head, state, source, output)
    for prefix in PRETRAINED:
        if f"{prefix}conv1.weight" in state:
            return import_prior_extractor(prefix, state, source, output)
    if "conv1.weight" in state:
        return import_encoder(state, source, output)
    raise InputError(
        f"{source} holds {len(state)} tensors, the first {next(iter(state))}, but none of what can be imported: QGNet "
        "(layer0_unsuper.*, down_query.*, …), PFENet (layer0.*, down_query.*, …), HSNet (backbone.*, "
        "hpn_learner.*), DCAMA (feature_extractor.*, model.DCAMA_blocks.*, …), a MoCo or DenseCL checkpoint "
        "(encoder_k.*, encoder_q.* or backbone.*), or a ResNet (conv1.*, bn1.*, layer1.*, …). A checkpoint or prior "
        "extractor of this project needs no import."
    )


def import_network(kind: str, state: State, source: Path, output: Path, levels: Sequence[float]) -> str:
    """Released QGNet or PFENet → a checkpoint of :class:`FewShotSegmentation`.

    PFENet is QGNet without self-correspondence; its "prior mask" is the guided map.
    """
    encoder = backbone(state, source)
    has_priors = kind == "QGNet"
    prior = backbone(state, source, "_unsuper") if has_priors else "resnet50"
    count = len({key.split(".")[1] for key in state if key.startswith("init_merge.")})
    if len(levels) != count:
        raise InputError(
            f"{source} has {count} pyramid levels (init_merge.*), but --levels gives {len(levels)}: "
            f"{' '.join(map(str, levels))}. Give the sides or ratios that it was trained with."
        )
    width = len(state["down_query.0.weight"]) if "down_query.0.weight" in state else 256
    task = FewShotSegmentation(
        encoder, source.name, prior_encoder=prior, self_correspondence=has_priors, width=width, levels=tuple(levels)
    )
    fill_network(task.net, kind, state, source)
    digest = sha256(source)
    task.file_hashes = {"encoder_weights": digest} | ({"prior_weights": digest} if has_priors else {})
    write(output, partial(save_checkpoint, task))
    note = f"prior encoder {prior}" if has_priors else "no self-correspondence"
    setting = f"--model.prior_encoder {prior}" if has_priors else "--model.self_correspondence false"
    sides = ", ".join(map(str, levels))
    return (
        f"{source} is a {kind}: encoder {encoder}, {note}; {width} channels, {count} levels.\n"
        f"{output} is a checkpoint of it. Test it with the configuration and the fold that it was trained for, e.g.:\n"
        f"  lightning test --config pascal5i.yaml --data.fold 0 --ckpt_path {output} \\\n"
        f"    --model.encoder {encoder} {setting} --model.width {width} --model.levels '[{sides}]'"
    )


def fill_network(net: QGNet, kind: str, state: State, source: Path) -> None:
    """Load a complete released state dict into our network."""
    own = net.state_dict()
    theirs = {key: released_key(key, net) for key in own}
    expected = {name: own[key].shape for key, name in theirs.items()}
    found = take(state, expected, source, f"{kind} on {net.encoder.name}")
    net.load_state_dict({key: found[name] for key, name in theirs.items()})


def import_head(name: str, state: State, source: Path, output: Path) -> str:
    """Released HSNet or DCAMA → a checkpoint of its task."""
    task = fill_head(HEADS[name], state, source)
    task.file_hashes = {"encoder_weights": sha256(source)}
    write(output, partial(save_checkpoint, task))
    encoder = task.hparams["encoder"]
    return (
        f"{source} is a {task.method}: encoder {encoder}.\n"
        f"{output} is a checkpoint of it. Test it with the fold that it was trained for, or segment images of your "
        "own:\n"
        f"  lightning test --config heads/{name}.yaml --data.fold 0 --ckpt_path {output} \\\n"
        f"    --model.encoder {encoder}\n"
        f"  qgnet segment images/ --ckpt {output} --support cat.jpg cat.png --out masks/"
    )


def import_prior_extractor(prefix: str, state: State, source: Path, output: Path) -> str:
    """The encoder of a self-supervised checkpoint → a prior extractor, like the result of stage 1."""
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    encoder = resnet(inside, source)
    write(output, lambda path: save_prior_extractor(path, encoder))
    return (
        f"{source} has a {encoder.name} under {prefix}*; its other {len(state) - len(inside)} tensors are left out.\n"
        f"{output} is a prior extractor. Train stage 2 on it:\n"
        "  lightning fit --config pascal5i.yaml --data.fold 0 \\\n"
        f"    --model.prior_encoder {encoder.name} --model.prior_weights {output}"
    )


def import_encoder(state: State, source: Path, output: Path) -> str:
    """A ResNet → a state dict of the same timm model."""
    encoder = resnet(state, source)
    write(output, lambda path: save_tensors(path, encoder.net.state_dict()))
    return (
        f"{source} is a {encoder.name}.\n"
        f"{output} holds its weights, without the classifier. Train stage 2 on it:\n"
        "  lightning fit --config pascal5i.yaml --data.fold 0 \\\n"
        f"    --model.encoder {encoder.name} --model.encoder_weights {output} --model.prior_weights …\n"
        f"or, if it was trained without labels, give it as --model.prior_encoder {encoder.name} "
        f"--model.prior_weights {output}."
    )


def write(output: Path, save: Callable[[Path], None]) -> None:
    """Write a file by ``save``; InputError if it cannot be written."""
    try:
        save(output)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError if a folder or disk does not take the file
        raise InputError(
            f"{output} cannot be written: {error}. Give a place with room that you may write to."
        ) from None


def save_checkpoint(task: EpisodicTask, path: Path) -> None:
    """Save the checkpoint that a Trainer would write before the first step, without states of loops and callbacks."""
    checkpoint: dict[str, Any] = {
        "pytorch-lightning_version": version("pytorch-lightning"),
        "epoch": 0,
        "global_step": 0,
        "state_dict": task.state_dict(),
        "optimizer_states": [],
        "lr_schedulers": [],
        task.CHECKPOINT_HYPER_PARAMS_NAME: "kwargs",
        task.CHECKPOINT_HYPER_PARAMS_KEY: dict(task.hparams),
    }
    task.on_save_checkpoint(checkpoint)
    save_tensors(path, checkpoint)
