"""Tensor names in weights of other projects: released QGNet and PFENet, deep-stem ImageNet ResNets, MoCo.

The names of the released files are facts read from their authors' model files:
liuweide01/QGNet-Few-shot-segmentation (``model/PFENet_QGNet.py``, ``model/resnet.py``), dvlab-research/PFENet
(``model/PFENet.py``), hszhao/semseg (``model/resnet.py``), facebookresearch/moco (``moco/builder.py``) and
WXinlong/DenseCL (``openselfsup/models/densecl.py``).
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qgnet.common.errors import InputError
from qgnet.networks.encoders import Encoder
from qgnet.networks.qgnet import QGNet
from qgnet.tasks.base import make_encoder
from qgnet.weights.files import read_tensors

State = dict[str, Tensor]

DEEP_STEM = {
    "conv1.0": ("conv1", 0),
    "conv1.1": ("bn1", 1),
    "conv1.3": ("conv2", 3),
    "conv1.4": ("bn2", 4),
    "conv1.6": ("conv3", 6),
    "bn1": ("bn3", 7),
}
"""Our (timm's) stem modules → their names in a ResNet, and their indices in the released Sequential ``layer0``."""

PLAIN_STEM = {"conv1": ("conv1", 0), "bn1": ("bn1", 1)}
"""Like ``DEEP_STEM``, for ResNets without a deep stem."""

BACKBONES: dict[tuple[tuple[int, ...], str], str] = {
    ((2, 2, 2, 2), "basic"): "resnet18",
    ((3, 4, 6, 3), "basic"): "resnet34",
    ((3, 4, 6, 3), "bottleneck"): "resnet50",
    ((3, 4, 23, 3), "bottleneck"): "resnet101",
    ((3, 8, 36, 3), "bottleneck"): "resnet152",
}
"""Numbers of blocks of stages 1 to 4 and their kind → name; timm adds an ``s`` for a deep stem: ``resnet50s``."""

HEAD = {
    "reduce_query": "down_query",
    "reduce_support": "down_supp",
    "reduce_self": "down_learn_super",
    "reduce_priors": "down_learn_unsuper",
    "enrichment.mix": "init_merge",
    "enrichment.from_finer": "alpha_conv",
    "enrichment.refine": "beta_conv",
    "enrichment.level_classifiers": "inner_cls",
    "enrichment.merge": "res1",
    "enrichment.refine_merged": "res2",
    "enrichment.classifier": "cls",
}
"""Our modules → the released ones; inside, both are Sequentials (in ModuleLists) in the same order."""

PRETRAINED = ("encoder_k.0.", "encoder_k.", "encoder_q.0.", "encoder_q.", "backbone.")
"""Prefixes of the encoder in self-supervised checkpoints, best first: the key encoder is the released P.

``.0.`` is from DenseCL, whose encoders are Sequentials of backbone and neck. Its ``backbone`` is the query encoder.
"""

COUNTER = "num_batches_tracked"
"""Counter of a batch norm. Files from before PyTorch 0.4.1 lack it; no result depends on it."""

NAMED = 3
"""Most keys that a message names."""


def read_state(path: Path) -> State:
    """The tensors of a file by name, also from inside ``{'state_dict': …}``, without prefixes that wrappers add.

    Raises:
        InputError: if the file does not exist, contains objects other than data, or has no state dict.
    """
    if not path.is_file():
        raise InputError(
            f"{path} does not exist. Give a file of weights written by torch.save (.pth, .pth.tar, .ckpt)."
        )
    content = read_tensors(path, "source")
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not state or not all(map(_is_named_tensor, state.items())):
        raise InputError(
            f"{path} holds a dictionary of {_some(content)}. Expected: tensors by name, at the top or under "
            "`state_dict`. Save the model's state_dict() with torch.save and give that file."
        )
    return state


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def resnet(state: State, source: Path) -> Encoder:
    """An encoder with the weights of a ResNet's tensors, without the classifier or projection ``fc.*``."""
    encoder = make_encoder(backbone(state, source), high_stage=4, dilated=False)
    own = encoder.net.state_dict()
    theirs = {key: resnet_key(key, encoder) for key in own}
    without_classifier = {key: value for key, value in state.items() if not key.startswith("fc.")}
    expected = {theirs[key]: value.shape for key, value in own.items()}
    found = take(without_classifier, expected, source, encoder.name)
    encoder.net.load_state_dict({key: found[name] for key, name in theirs.items()})
    return encoder


def backbone(keys: Iterable[str], source: Path, suffix: str = "") -> str:
    """The timm name of the ResNet with the stages ``layer1`` … ``layer4``, each with this suffix.

    Raises:
        InputError: if no known ResNet has these numbers of blocks.
    """
    keys = set(keys)
    blocks = tuple(
        len({key.split(".")[1] for key in keys if key.startswith(f"layer{stage}{suffix}.")}) for stage in range(1, 5)
    )
    kind = "bottleneck" if f"layer1{suffix}.0.conv3.weight" in keys else "basic"
    name = BACKBONES.get((blocks, kind))
    if name is None or f"layer1{suffix}.0.conv1.weight" not in keys:
        raise InputError(
            f"{source}: layer1{suffix} … layer4{suffix} have {blocks} {kind} blocks, which is no known backbone. "
            "Expected: ResNet-18, 34, 50, 101 or 152; VGG encoders cannot be imported."
        )
    return name + "s" * (f"layer0{suffix}.3.weight" in keys or "conv2.weight" in keys)


def resnet_key(key: str, encoder: Encoder) -> str:
    """Our name of an encoder's tensor → its name in a ResNet with ``conv1``, ``bn1``, …, ``layer4``."""
    module, _, leaf = key.rpartition(".")
    return key if key.startswith("layer") else f"{_stem(encoder)[module][0]}.{leaf}"


def released_key(key: str, net: QGNet) -> str:
    """Our name of a network's tensor → its name in the released QGNet and PFENet."""
    for name, encoder, suffix in (("encoder", net.encoder, ""), ("prior_encoder", net.prior_encoder, "_unsuper")):
        if encoder is not None and key.startswith(f"{name}.net."):
            inside = key.removeprefix(f"{name}.net.")
            module, _, leaf = inside.rpartition(".")
            if inside.startswith("layer"):
                stage, _, rest = inside.partition(".")
                return f"{stage}{suffix}.{rest}"
            return f"layer0{suffix}.{_stem(encoder)[module][1]}.{leaf}"
    ours = next(ours for ours in HEAD if key.startswith(f"{ours}."))
    return HEAD[ours] + key.removeprefix(ours)


def _stem(encoder: Encoder) -> dict[str, tuple[str, int]]:
    return DEEP_STEM if encoder.name.endswith("s") else PLAIN_STEM


def take(state: State, expected: Mapping[str, torch.Size], source: Path, what: str) -> State:
    """Exactly the expected tensors; counters that are missing in old files become zero.

    Args:
        state: tensors of the file.
        expected: name in the file → shape.
        source: the file, for messages.
        what: the kind of network, for messages.

    Raises:
        InputError: if a tensor is missing, unknown or of another shape.
    """
    missing = [key for key in expected if key not in state and not key.endswith(COUNTER)]
    unknown = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    ]
    problems = [
        f"{len(names)} {kind}: {_some(names)}"
        for kind, names in (
            ("missing", [_with_nearest(key, unknown) for key in missing[:NAMED]] + missing[NAMED:]),
            ("unknown", [_with_nearest(key, missing) for key in unknown[:NAMED]] + unknown[NAMED:]),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise InputError(
            f"{source} looks like {what}, but its tensors are not that network's. {'; '.join(problems)}. Give the file "
            "as its authors' code saved it; variants with other modules cannot be imported."
        )
    return {key: state.get(key, torch.zeros(shape, dtype=torch.long)) for key, shape in expected.items()}


def _with_nearest(key: str, others: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(key, others, n=1, cutoff=0.8)
    return f"{key} (nearest: {nearest[0]})" if nearest else key


def _some(names: Iterable[str]) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:NAMED]) + ", …" * (len(names) > NAMED)
