"""A short real training: does the network learn, and does it look at the support?"""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONFIGS

from datamodules.episodes import EpisodeDataset, collate
from datamodules.sources import binary_mask
from datamodules.synthetic import SyntheticDataModule
from qgnet.cli import main
from qgnet.tasks.segmentation import FewShotSegmentation

SETTINGS = ["--data.image_size=65", "--data.min_class_area=100", "--data.scenes=1200"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FewShotSegmentation:
    """QGNet after a short training from random weights, through the real command."""
    run = tmp_path_factory.mktemp("learning") / "run"
    arguments = [
        "fit",
        f"--config={CONFIGS / 'demo/qgnet.yaml'}",
        f"--run={run}",
        *SETTINGS,
        "--model.encoder_weights=random",
        "--model.prior_checkpoint=random",
        "--data.train_episodes=2000",
        "--data.num_workers=0",
        "--trainer.max_epochs=1",
        "--trainer.limit_val_batches=0",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]
    main(arguments)
    assert (Path(run) / "checkpoints/last.ckpt").exists()
    return FewShotSegmentation.load_from_checkpoint(run / "checkpoints/last.ckpt").eval()


def novel_episodes() -> EpisodeDataset:
    data = SyntheticDataModule(image_size=65, min_class_area=100, scenes=1200, episodes=200, num_workers=0)
    data.setup("test")
    return data.data["val"]


def iou(prediction: torch.Tensor, mask: np.ndarray) -> float:
    said, true = prediction.numpy() == 1, mask == 1
    return float((said & true).sum() / max(1, (said | true).sum()))


def swapped_ious(task: FewShotSegmentation, episodes: EpisodeDataset) -> tuple[float, float]:
    """Queries with two novel classes, each asked for in turn: mean IoU with the support's class, and with the other."""
    own, other = [], []
    pairs = [(i, classes) for i, classes in episodes.classes_in.items() if len(classes) >= 2][:60]
    for query, (first, second, *_) in pairs:
        label = episodes.source.labels(query)
        for asked, present in ((first, second), (second, first)):
            support = next(i for i in episodes.images_of[asked] if i != query)
            episodes.draw = lambda _, c=asked, q=query, s=support: (c, q, (s,))  # type: ignore[method-assign]
            with torch.no_grad():
                mask = task.predict_step(collate([episodes[0]]), 0).masks[0]
            own.append(iou(mask, binary_mask(label, asked)))
            other.append(iou(mask, binary_mask(label, present)))
    assert len(own) >= 40
    return float(np.mean(own)), float(np.mean(other))


def test_the_prediction_follows_the_support(trained: FewShotSegmentation) -> None:
    own, other = swapped_ious(trained, novel_episodes())
    assert own > 0.2
    assert own > 2 * other


def test_an_untrained_network_does_not_pass_that_control() -> None:
    torch.manual_seed(0)
    untrained = FewShotSegmentation("test_resnet", "random", False, "test_resnet", "random", 3, 64, [1, 0.5]).eval()
    own, other = swapped_ious(untrained, novel_episodes())
    assert not own > 2 * other
