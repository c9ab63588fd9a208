"""Does the network learn, and does it look at the support?

Training an encoder would take minutes, so the features here are colours (`ToyEncoder`): what is learned is everything
after them.
"""

import numpy as np
import pytest
import torch
from extending.toy_encoder import ToyEncoder

from datamodules import SyntheticDataModule
from datamodules.episodes.dataset import Draw, EpisodeDataset
from datamodules.episodes.episode import collate
from datamodules.files.sources import binary_mask
from qgnet.losses import segmentation_loss
from qgnet.networks.qgnet import QGNet
from qgnet.tasks.base import normalise

STEPS, BATCH = 600, 8


def untrained() -> QGNet:
    torch.manual_seed(0)
    return QGNet(ToyEncoder(), ToyEncoder(), width=32, levels=[1, 0.5])


def scenes(stage: str) -> EpisodeDataset:
    data = SyntheticDataModule(image_size=65, min_class_area=100, scenes=1600, episodes=200, num_workers=0)
    data.setup(stage)
    return data.data["train" if stage == "fit" else "val"]


@pytest.fixture(scope="module")
def trained() -> QGNet:
    """After a short training on base classes."""
    net, episodes = untrained().train(), scenes("fit")
    optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=3e-3)
    for step in range(STEPS):
        batch = collate([episodes[BATCH * step + i] for i in range(BATCH)])
        output = net(normalise(batch.query_image), normalise(batch.support_images), batch.support_masks)
        loss = torch.stack(segmentation_loss(output, batch.query_mask, foreground_weight=2.0)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def iou(prediction: torch.Tensor, mask: np.ndarray) -> float:
    said, true = prediction.numpy() == 1, mask == 1
    return float((said & true).sum() / max(1, (said | true).sum()))


def swapped_ious(net: QGNet) -> tuple[float, float]:
    """Queries with two novel classes, each asked for in turn: mean IoU with the support's class, and with the other."""
    episodes = scenes("test")
    own, other = [], []
    pairs = [(i, classes) for i, classes in episodes.classes_in.items() if len(classes) >= 2][:60]
    for query, (first, second, *_) in pairs:
        label = episodes.source.labels(query)
        for asked, present in ((first, second), (second, first)):
            support = next(i for i in episodes.images_of[asked] if i != query)
            episodes.draw = lambda _, c=asked, q=query, s=support: Draw(c, q, (s,))
            batch = collate([episodes[0]])
            with torch.no_grad():
                logits = net(normalise(batch.query_image), normalise(batch.support_images), batch.support_masks).logits
            mask = logits[0].argmax(dim=0)
            own.append(iou(mask, binary_mask(label, asked)))
            other.append(iou(mask, binary_mask(label, present)))
    assert len(own) >= 40
    return float(np.mean(own)), float(np.mean(other))


def test_the_prediction_follows_the_support(trained: QGNet) -> None:
    own, other = swapped_ious(trained)
    assert own > 0.2
    assert own > 2 * other


def test_an_untrained_network_does_not_pass_that_control() -> None:
    own, other = swapped_ious(untrained().eval())
    assert not own > 2 * other


def test_bf16_segments_like_float32(trained: QGNet) -> None:
    episodes = scenes("test")
    batch = collate([episodes[i] for i in range(32)])
    masks = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = trained(normalise(batch.query_image), normalise(batch.support_images), batch.support_masks)
        masks.append(output.logits.argmax(dim=1))
    assert (masks[0] != masks[1]).float().mean() < 0.01
    scores = [iou(mask.flatten(), batch.query_mask.flatten().numpy()) for mask in masks]
    assert scores[1] == pytest.approx(scores[0], abs=0.003)
