"""A short real training: does the network learn, and does it look at the support?"""

import numpy as np
import pytest
import torch
from conftest import CONFIGS

from datamodules.episodes import EpisodeDataset, collate
from datamodules.sources import binary_mask
from datamodules.synthetic import SyntheticDataModule
from qgnet.cli import main
from qgnet.tasks.segmentation import FewShotSegmentation

SCENES = {"image_size": 97, "min_class_area": 225, "scenes": 1200, "num_workers": 0}
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.limit_val_batches=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FewShotSegmentation:
    """Both stages of the demo, shortened, through the real command."""
    runs = tmp_path_factory.mktemp("learning")
    prior = runs / "one/prior_extractor.ckpt"
    first = ["--data.scenes=864", "--data.num_workers=0", "--data.region_cache=null", "--trainer.max_epochs=2"]
    main(["fit", f"--config={CONFIGS / 'demo/pretrain.yaml'}", f"--run={runs / 'one'}", *first, *QUIET])
    second = [f"--data.{key}={value}" for key, value in SCENES.items()]
    second += ["--data.train_episodes=1200", "--trainer.max_epochs=1", "--model.width=32"]
    second += [f"--model.encoder_weights={prior}", f"--model.prior_checkpoint={prior}"]
    main(["fit", f"--config={CONFIGS / 'demo/qgnet.yaml'}", f"--run={runs / 'two'}", *second, *QUIET])
    return FewShotSegmentation.load_from_checkpoint(runs / "two/checkpoints/last.ckpt").eval()


def novel_episodes() -> EpisodeDataset:
    data = SyntheticDataModule(episodes=200, **SCENES)
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
