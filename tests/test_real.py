"""Real photographs and real weights, where QGNET_TEST_DATA points to them."""

import json
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS

from datamodules import Pascal5iDataModule
from qgnet.cli import main
from qgnet.networks.encoders import create_encoder
from qgnet.weights.store import load_encoder_weights

# (training, validation) photographs of each class of the folds that are large enough to measure with, >= 512 px
PAIRS = {
    1: [(9, 6), (49, 35), (137, 77), (79, 61), (121, 80)],
    2: [(29, 22), (147, 105), (119, 80), (12, 7), (259, 181)],
    3: [(42, 33), (119, 80), (71, 46), (5, 4), (32, 25)],
}


@pytest.fixture(scope="module")
def weights(real_data: Path) -> Path:
    path = real_data.parent / "weights/resnet18_stage3.safetensors"
    assert path.is_file()
    return path


@pytest.fixture(scope="module")
def photographs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """voc20 in a folder of its own, where an index may be left."""
    root = tmp_path_factory.mktemp("voc20")
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets"):
        (root / folder).symlink_to(real_data / "voc20" / folder)
    return str(root)


@pytest.mark.parametrize("fold", PAIRS)
def test_pairs_of_image_and_class(photographs: str, fold: int) -> None:
    novel = Pascal5iDataModule(photographs, fold=fold, min_class_area=512)
    novel.setup("test")
    others = Pascal5iDataModule(photographs, fold=(fold + 1) % 4, min_class_area=512)
    others.setup("fit")
    counts = [
        (len(others.data["train"].images_of[c]), len(novel.data["val"].images_of[c])) for c in novel.novel_classes
    ]
    assert counts == PAIRS[fold]


def test_imagenet_weights_fit_and_see(weights: Path, photographs: str) -> None:
    encoder = create_encoder("resnet18", high_stage=3).eval()
    assert load_encoder_weights(encoder, str(weights), "model.encoder_weights") is not None
    data = Pascal5iDataModule(photographs, fold=2, image_size=129, min_class_area=512, episodes=1)
    data.setup("test")
    with torch.no_grad():
        feature = encoder.encode_high(data.data["val"][0].query_image[None].float() / 255)
    assert feature.shape == (1, 256, 17, 17)
    assert feature.std() > 0.1


def test_the_small_experiment_and_matching_on_photographs(photographs: str, weights: Path, workdir: Path) -> None:
    config = f"--config={CONFIGS / 'pascal5i_small.yaml'}"
    data = [f"--data.root={photographs}", "--data.fold=1", "--data.num_workers=0", "--data.episodes=8"]
    model = [f"--model.encoder_weights={weights}"]
    trainer = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    prior = [f"--model.prior_weights={weights}"]
    main(["fit", config, "--run=runs/x", *data, *model, *prior, *trainer, *few])
    main(["test", config, "--run=runs/t", *data, *trainer, "--ckpt_path=runs/x/checkpoints/last.ckpt"])
    scores = json.loads(Path("runs/t/results.json").read_text())["scores"]

    matching = [f"--config={CONFIGS / 'matching.yaml'}", "--model.encoder=resnet18", "--model.high_stage=3", *model]
    sizes = ["--data.image_size=193", "--data.min_class_area=512", "--data.batch_size=4", "--data.negative=0"]
    main(["test", *matching, *data, *sizes, *trainer, "--run=runs/m"])
    alone = json.loads(Path("runs/m/results.json").read_text())["scores"]
    assert set(alone) - {"matching by nearest", "matching by sum"} == set(scores) - {"QGNet"}
    for name in ("everything foreground", "matching by prototype", "matching by ridge"):  # the very same episodes
        assert alone[name]["miou"] == pytest.approx(scores[name]["miou"], abs=1e-3)
        assert 0 < alone[name]["miou"] < 1
