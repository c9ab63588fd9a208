"""Training from weights whose batch norms were folded into the convolutions."""

import copy

import pytest
import torch
from conftest import Command

from qgnet.networks.batch_norm_folding import is_folded, recalibrate_batch_norm
from qgnet.networks.encoders import Encoder, create_encoder
from qgnet.tasks.segmentation import FewShotSegmentation


def folded() -> Encoder:
    """As with weights made for inference: convolutions of any scale, and batch norms that only add to them."""
    torch.manual_seed(0)
    encoder = create_encoder("test_resnet", 3, dilated=False)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, 0.3)
            module.running_var -= module.eps
        elif isinstance(module, torch.nn.Conv2d):
            module.weight.data *= torch.empty(len(module.weight), 1, 1, 1).uniform_(0.2, 3)
    return encoder.eval()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def test_unfolded_batch_norms_compute_the_same_and_keep_it_in_training() -> None:
    encoder, g = folded(), torch.Generator().manual_seed(1)
    images, others = (torch.randn(16, 3, 64, 64, generator=g) for _ in range(2))
    expected = encoder.encode_high(others)
    assert is_folded(encoder)
    assert difference(copy.deepcopy(encoder).train().encode_high(others), expected) > 0.5  # at the start
    recalibrate_batch_norm(encoder, images)
    assert not is_folded(encoder)
    assert difference(encoder.encode_high(others), expected) < 1e-4
    assert difference(encoder.train().encode_high(others), expected) < 0.1


@torch.no_grad()
def test_training_from_folded_weights_keeps_their_features(command: Command) -> None:
    start = folded()
    torch.save(start.net.state_dict(), "folded.pth")
    settings = ["--model.encoder_weights=folded.pth", "--model.high_stage=3", "--data.batch_size=8"]
    settings += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0", "--trainer.limit_val_batches=0"]
    command("fit", "demo/pretrain.yaml", "--run=runs/x", *settings)
    prior = copy.deepcopy(start)
    prior.net.load_state_dict(torch.load("runs/x/prior_extractor.ckpt", weights_only=True)["state_dict"])
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert difference(prior.encode_high(images), start.encode_high(images)) < 0.3


@pytest.mark.parametrize("frozen", [True, False])
def test_an_encoder_that_is_fine_tuned_is_unfolded_and_a_frozen_one_is_as_it_was(
    command: Command, frozen: bool
) -> None:
    torch.save(folded().net.state_dict(), "folded.pth")
    settings = ["--model.encoder_weights=folded.pth", f"--model.freeze_encoder={frozen}"]
    command("fit", "demo/qgnet.yaml", "--run=runs/x", "--trainer.limit_val_batches=0", *settings)
    encoder = FewShotSegmentation.load_from_checkpoint("runs/x/checkpoints/last.ckpt").net.encoder
    assert is_folded(encoder) == frozen
