"""Released HSNet and DCAMA: the names of their tensors, and our names of the same tensors.

Facts read from their authors' model files: juhongm999/hsnet (``model/hsnet.py``, ``model/learner.py``) and
pawn-sxy/DCAMA (``model/DCAMA.py``, ``model/base/transformer.py``).
"""

import re
from pathlib import Path
from typing import NamedTuple

from qgnet.networks.encoders import Encoder
from qgnet.released.names import State, backbone, resnet_key, take
from qgnet.tasks.heads import DCAMASegmentation, HeadSegmentation, HSNetSegmentation


class ReleasedHead(NamedTuple):
    """A head in the form in which its authors' code saves it.

    Attributes:
        task: our task for it.
        known_by: prefix of a tensor name that no other kind of file has.
        encoder: prefix of the tensor names of the encoder.
        names: prefix of our names → prefix of theirs; the rest of a name is equal except for `parts`.
        parts: a part of our names → the part in theirs.
        left_out: prefixes of the names of tensors that are not used, or that our code computes.
        image_size: image size of its training in pixels, rounded to 8n + 1.
    """

    task: type[HeadSegmentation]
    known_by: str
    encoder: str
    names: dict[str, str]
    parts: dict[str, str]
    left_out: tuple[str, ...]
    image_size: int


HEADS = {
    "hsnet": ReleasedHead(
        HSNetSegmentation,
        known_by="hpn_learner.",
        encoder="backbone.",
        names={
            "head.squeeze.0": "hpn_learner.encoder_layer2",
            "head.squeeze.1": "hpn_learner.encoder_layer3",
            "head.squeeze.2": "hpn_learner.encoder_layer4",
            "head.mix.0": "hpn_learner.encoder_layer3to2",
            "head.mix.1": "hpn_learner.encoder_layer4to3",
            "head.decode_coarse": "hpn_learner.decoder1",
            "head.decode_fine": "hpn_learner.decoder2",
        },
        parts={"over_query": "conv1", "over_support": "conv2"},
        left_out=("backbone.fc.",),
        image_size=401,
    ),
    "dcama": ReleasedHead(
        DCAMASegmentation,
        known_by="model.DCAMA_blocks.",
        encoder="feature_extractor.",
        names={
            "attention.0x512": "model.DCAMA_blocks.0",
            "attention.1x1024": "model.DCAMA_blocks.1",
            "attention.2x2048": "model.DCAMA_blocks.2",
            "mixer.squeeze.0": "model.conv3",
            "mixer.squeeze.1": "model.conv2",
            "mixer.squeeze.2": "model.conv1",
            "mixer.mix.0": "model.conv5",
            "mixer.mix.1": "model.conv4",
            "mixer.mixers.0": "model.mixer1",
            "mixer.mixers.1": "model.mixer2",
            "mixer.mixers.2": "model.mixer3",
        },
        parts={"query": "linears.0", "key": "linears.1"},
        left_out=("feature_extractor.fc.", "model.pe."),
        image_size=385,
    ),
}
"""Name of the configuration in ``lightning_configs/heads/`` → the head."""


def head_of(state: State) -> str | None:
    """The name in `HEADS` of the head that a file contains; None if it contains none of them."""
    return next((name for name, head in HEADS.items() if any(key.startswith(head.known_by) for key in state)), None)


def fill_head(head: ReleasedHead, state: State, source: Path) -> HeadSegmentation:
    """The task with the network from a file; InputError if tensors are missing or unknown."""
    inside = [key.removeprefix(head.encoder) for key in state if key.startswith(head.encoder)]
    task = head.task(encoder=backbone(inside, source), encoder_weights=source.name)
    task.image_size = head.image_size
    own = task.net.state_dict()
    encoder = task.net.encoder
    assert isinstance(encoder, Encoder)
    theirs = {key: released_name(key, head, encoder) for key in own}
    used = {key: value for key, value in state.items() if not key.startswith(head.left_out)}
    expected = {name: own[key].shape for key, name in theirs.items()}
    found = take(used, expected, source, f"{task.method} on {encoder.name}")
    task.net.load_state_dict({key: found[name] for key, name in theirs.items()})
    return task


def released_name(key: str, head: ReleasedHead, encoder: Encoder) -> str:
    """Our name of a network's tensor → its name in a released file."""
    if key.startswith("encoder.net."):
        return head.encoder + resnet_key(key.removeprefix("encoder.net."), encoder)
    ours = next(ours for ours in head.names if key.startswith(f"{ours}."))
    rest = key.removeprefix(ours)
    return head.names[ours] + re.sub(r"\.(\w+)(?=\.)", lambda part: f".{head.parts.get(part[1], part[1])}", rest)
