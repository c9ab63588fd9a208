"""Base of tasks over an encoder: load its weights, and check that a checkpoint belongs to them."""

from pathlib import Path
from typing import Any

from qgnet.common.digest import sha256
from qgnet.common.errors import InputError
from qgnet.networks.encoders import Encoder
from qgnet.tasks.base import make_encoder
from qgnet.tasks.episodic import EpisodicTask
from qgnet.weights.store import RANDOM, load_encoder_weights


class TaskOverEncoder(EpisodicTask):
    """A task whose network has an ``encoder`` that starts from named weights or from a file.

    Args:
        encoder_weights: ``imagenet``, ``random``, or a file (state dict, or a prior extractor of stage 1).
        args: arguments of :class:`EpisodicTask`.

    Attributes:
        files: setting → its file, a word such as ``imagenet``, or None.
    """

    def __init__(self, encoder_weights: str, *args: Any) -> None:
        super().__init__(*args)
        self.files: dict[str, str | None] = {"encoder_weights": encoder_weights}

    def load_starting_weights(self) -> None:
        """Load the encoder from ``encoder_weights``; record the sha256 of the file.

        Raises:
            InputError: if the file cannot be used.
        """
        encoder = self.net.encoder
        assert isinstance(encoder, Encoder)
        digest = load_encoder_weights(encoder, str(self.files["encoder_weights"]), "model.encoder_weights")
        self.file_hashes |= {"encoder_weights": digest} if digest else {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise InputError if the checkpoint was trained with other encoder or prior weights than the settings name."""
        super().on_load_checkpoint(checkpoint)
        for setting, file in self.files.items():
            recorded = self.file_hashes.get(setting)
            if recorded is None or file is None or not Path(file).is_file():
                continue
            found = sha256(file)
            if found != recorded:
                raise InputError(
                    f"`model.{setting}` is {file} (sha256 {found[:12]}…), but this checkpoint was trained on one with "
                    f"sha256 {recorded[:12]}…. Give that file, or set `model.{setting}` to "
                    f"{RANDOM if setting == 'encoder_weights' else 'null'}: the checkpoint holds its own copy."
                )


def frozen_encoder(name: str, high_stage: int = 4, dilated: bool = True) -> Encoder:
    """An encoder from the user's settings that is never trained; InputError for an unknown name or stage."""
    encoder = make_encoder(name, high_stage, dilated)
    encoder.freeze()
    return encoder
