"""Each encoder gets images normalised as its weights want them, and a checkpoint remembers how."""

from pathlib import Path

import pytest
import torch
from conftest import Command

from qgnet.networks.encoders import IMAGENET, create_encoder
from qgnet.tasks.base import NORMALISATION, normalise
from qgnet.tasks.segmentation import FewShotSegmentation
from qgnet.weights.store import load_encoder_weights, save_prior_extractor

LAST = "runs/x/checkpoints/last.ckpt"
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 65, 65), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize(("name", "expected"), [("resnet18", IMAGENET), ("tf_efficientnet_lite0", HALF)])
def test_an_encoder_knows_what_timms_weights_want(name: str, expected: tuple) -> None:
    encoder = create_encoder(name, 3)
    assert (encoder.mean, encoder.std) == expected


def test_the_features_are_those_of_images_normalised_the_encoders_own_way() -> None:
    encoder = create_encoder("test_resnet", 3).eval()
    assert (encoder.mean, encoder.std) == HALF
    with torch.no_grad():
        found = encoder.encode_high(normalise(images()))
        encoder.mean, encoder.std = IMAGENET  # now its input is taken as it is
        expected = encoder.encode_high(images() / 127.5 - 1)
        wrong = encoder.encode_high(normalise(images()))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(wrong, expected, atol=1e-2)


def test_a_checkpoint_remembers_it_and_an_older_one_had_imagenets(command: Command) -> None:
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--trainer.limit_val_batches=0")
    content = torch.load(LAST, weights_only=True)
    assert content[NORMALISATION]["net.encoder"] == [list(part) for part in HALF]
    content[NORMALISATION]["net.encoder"] = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    torch.save(content, "changed.ckpt")
    del content[NORMALISATION]
    torch.save(content, "old.ckpt")
    changed, old = (FewShotSegmentation.load_from_checkpoint(file).net for file in ("changed.ckpt", "old.ckpt"))
    assert (changed.encoder.mean, changed.encoder.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (old.encoder.mean, old.prior_encoder.std) == IMAGENET


def test_a_prior_extractor_remembers_it_and_an_older_one_had_imagenets(tmp_path: Path) -> None:
    encoder = create_encoder("test_resnet", 3)
    encoder.mean = (0.1, 0.2, 0.3)
    save_prior_extractor(tmp_path / "new.ckpt", encoder)
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    del content["normalisation"]
    torch.save(content, tmp_path / "old.ckpt")
    for name, expected in (("new", ((0.1, 0.2, 0.3), HALF[1])), ("old", IMAGENET)):
        other = create_encoder("test_resnet", 3)
        load_encoder_weights(other, str(tmp_path / f"{name}.ckpt"), "model.prior_weights")
        assert (other.mean, other.std) == expected
