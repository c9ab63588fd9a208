"""What fulfils a contract works in the real commands: a file and a YAML are all that an addition takes."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINER
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import EpisodeDataModule, EpisodeDataset, LabelledDataset, collate
from qgnet.cli import main
from qgnet.inference.models import Model, open_model
from qgnet.networks.dcama import DCAMA
from qgnet.networks.encoders import create_encoder
from qgnet.networks.few_shot import FewShotNetwork
from qgnet.networks.hsnet import HSNet
from qgnet.networks.matching import MatchingNetwork
from qgnet.networks.nested_tensors import all_tensors, concatenate, map_tensors
from qgnet.networks.qgnet import QGNet
from qgnet.networks.score_map_network import ScoreMapNetwork
from qgnet.tasks.feature_cache import CachedInference

TOYS = Path(__file__).parent / "extending"
SIDE = 65


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their folder, from which modules can be imported."""
    monkeypatch.syspath_prepend(str(TOYS))
    return TOYS


@pytest.mark.parametrize(
    ("toy", "maps"), [("toy_encoder", "guided prior"), ("toy_network", "likeness"), ("toy_dataset", "guided prior")]
)
def test_an_addition_is_trained_and_tested(workdir: Path, toys: Path, toy: str, maps: str) -> None:
    write_squares(Path("toy"))
    line = [f"--config={toys / toy}.yaml", *TINY_TRAINER]
    main(["fit", *line, "--run=run"])
    main(["test", *line, "--run=tested", "--ckpt_path=run/checkpoints/last.ckpt"])
    assert ("guided map > 0.5" in Path("tested/results.json").read_text()) == ("guided" in maps)
    assert Path("tested/contact_sheet.png").is_file()
    named = json.loads(Path("tested/results.json").read_text())["data"]
    assert named == ("ToyDataset" if toy == "toy_dataset" else "SyntheticDataModule")


def write_squares(root: Path, count: int = 24) -> None:
    """The folder of a ToyDataset: two squares of different colours in each image."""
    for seed, split in enumerate(("train", "val")):
        (root / split).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([seed, i])
            image, mask = rng.integers(80, 120, (48, 64, 3), dtype=np.uint8), np.zeros((48, 64), np.uint8)
            for left, colour in zip((4, 36), rng.permutation(4)[:2] + 1, strict=True):
                top = int(rng.integers(4, 20))
                square = np.s_[top : top + 24, left : left + 24]
                image[square] = 255 * np.array([colour in (1, 4), colour in (2, 4), colour in (3, 4)])
                mask[square] = colour
            Image.fromarray(image).save(root / split / f"{i:02d}.png")
            Image.fromarray(mask).save(root / split / f"{i:02d}.mask.png")


def test_a_data_set_serves_without_lightning(tmp_path: Path, toys: Path) -> None:
    """As a reader would use it, and the same episodes as the DataModule's."""
    import toy_dataset  # noqa: PLC0415

    write_squares(tmp_path)
    squares = toy_dataset.ToyDataset(tmp_path)
    labelled = LabelledDataset(squares, "train")
    for image, masks, name in DataLoader(labelled, batch_size=None, num_workers=2):
        shown = np.asarray(Image.open(tmp_path / "train" / f"{name}.mask.png"))
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(tmp_path / "train" / f"{name}.png")))
        assert set(masks) == set(np.unique(shown)) - {0}
        assert all(np.array_equal(mask, shown == number) for number, mask in masks.items())
    assert len(labelled) == 24
    for split in ("train", "val"):
        episodes = EpisodeDataset(squares, split, fold=1, shots=2, episodes=6, negative=0.5, seed=3)
        batches = list(DataLoader(episodes, batch_size=3, collate_fn=collate))
        data = EpisodeDataModule(
            squares, fold=1, shots=2, episodes=6, train_episodes=6, negative=0.5, seed=3, batch_size=3, num_workers=0
        )
        data.setup("fit" if split == "train" else "test")
        loader = data.loader(data.data[split], training=split == "train", collate_fn=collate)
        for batch, expected in zip(batches, loader, strict=True):
            assert batch.query_image.shape[1:] == (3, 65, 65)
            for found, other in zip(batch, expected, strict=True):
                equal = torch.equal if isinstance(found, Tensor) else lambda a, b: str(a) == str(b)
                assert equal(found, other)
            for row, other in enumerate(batch.control_of.tolist()):
                assert (other < 0) == (split == "train" or bool(batch.present[row]))
                assert other < 0 or torch.equal(batch.query_image[row], batch.query_image[other])
        assert any((batch.control_of >= 0).any() for batch in batches) == (split == "val")


def test_an_encoder_says_which_image_sizes_it_takes(workdir: Path, toys: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["fit", f"--config={toys / 'toy_encoder.yaml'}", *TINY_TRAINER, "--data.image_size=60"])
    assert "data.image_size is 60, a side in pixels that toy_encoder.ToyEncoder does not take. Take 57 or 65." in (
        capsys.readouterr().err
    )
    assert not Path("runs").exists()


NETWORKS = (
    "paper",
    "with score maps",
    "without self-correspondence",
    "vgg",
    "toy encoder",
    "matching",
    "score maps",
    "toy network",
    "hsnet",
    "hsnet over EfficientNet",
    "dcama",
    "dcama over EfficientNet",
)
EXPORTED = {
    "exported with score maps": "qgnet",
    "exported matching": "matching",
    "exported score maps": "score-maps",
}


def network(name: str) -> FewShotNetwork:
    """One of `NETWORKS`, of random weights."""
    import toy_network  # noqa: PLC0415

    torch.manual_seed(0)
    encoders = [create_encoder("test_resnet", 3) for _ in range(2)]
    small = {"width": 8, "levels": (1, 0.5)}
    made = {
        "paper": lambda: QGNet(*encoders, **small),
        "with score maps": lambda: QGNet(*encoders, **small, score_maps=("nearest", "ridge"), add_to_score_maps=True),
        "without self-correspondence": lambda: QGNet(encoders[0], None, **small),
        "vgg": lambda: QGNet(create_encoder("vgg11_bn", 4), encoders[0], **small),
        "toy encoder": lambda: QGNet(*(create_encoder("toy_encoder.ToyEncoder") for _ in range(2)), **small),
        "matching": lambda: MatchingNetwork(encoders[0]),
        "score maps": lambda: ScoreMapNetwork(encoders[0], width=8, fine_width=8),
        "toy network": toy_network.ToyNetwork,
        "hsnet": lambda: HSNet(create_encoder("test_resnet", dilated=False)),
        "hsnet over EfficientNet": lambda: HSNet(create_encoder("test_efficientnet", dilated=False)),
        "dcama": lambda: DCAMA(create_encoder("test_resnet", dilated=False)),
        "dcama over EfficientNet": lambda: DCAMA(create_encoder("test_efficientnet", dilated=False)),
    }
    return made[name]().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FewShotNetwork]:
    """Gives the exported network of a name."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from qgnet.inference import onnx_export  # noqa: PLC0415

    @cache
    def export(name: str) -> FewShotNetwork:
        folder = tmp_path_factory.mktemp("export") / "model"
        net = network(name.removeprefix("exported "))
        onnx_export.export(Model(net, SIDE, EXPORTED[name], {}, "test", "test"), folder)
        return open_model(folder).net

    return export


@pytest.fixture(params=[*NETWORKS, *EXPORTED])
def net(request: pytest.FixtureRequest, toys: Path) -> Iterator[FewShotNetwork]:
    """Each network there is."""
    with torch.no_grad():
        of_files = request.param in EXPORTED
        yield request.getfixturevalue("exported")(request.param) if of_files else network(request.param)


def episode(shots: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    masks = torch.zeros(batch, shots, SIDE, SIDE, dtype=torch.uint8)
    masks[..., 10:40, 20:50] = 1
    masks[..., 60:] = 255
    images = torch.randn(batch, shots + 1, 3, SIDE, SIDE, generator=g)
    return images[:, 0], images[:, 1:], masks


@pytest.mark.parametrize("shots", [1, 5])
def test_a_network_keeps_the_contract(net: FewShotNetwork, shots: int) -> None:
    query, images, masks = episode(shots)
    together = net(query, images, masks)
    assert together.logits.shape == (2, 2, SIDE, SIDE)
    assert tuple(together.maps) == net.map_names
    assert tuple(together.score_maps) == net.score_map_names
    assert all(0 <= float(x.min()) <= float(x.max()) <= 1 for x in together.maps.values())
    each = []
    for i in range(2):  # one by one, as a test does, with what is shared
        encoded = net.encode_query(query[i : i + 1], net.shared_features(query[i : i + 1]))
        pairs = [(images[i : i + 1, k], masks[i : i + 1, k]) for k in range(shots)]
        supports = net.stack_shots([net.encode_support(*pair, net.shared_features(pair[0])) for pair in pairs])
        assert isinstance(supports, net.supports_type)
        assert net.fits(supports)
        assert not net.fits(map_tensors(lambda t: t * float("nan"), supports))
        each.append(net.decode(encoded, supports, (SIDE, SIDE), with_levels=False))
    apart = concatenate(each)
    for one, other in zip(all_tensors([*together[:2], together[3]]), all_tensors([*apart[:2], apart[3]]), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("label", [0, 1, 255])
def test_masks_of_one_kind_give_finite_answers(net: FewShotNetwork, label: int) -> None:
    query, images, masks = episode(1)
    prediction = net(query, images, torch.full_like(masks, label))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in all_tensors(prediction))


def test_a_network_computes_in_bf16(net: FewShotNetwork) -> None:
    query, images, masks = episode(1)
    plain = net(query, images, masks).logits
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(query, images, masks).logits.float()
    assert torch.isfinite(rounded).all()
    assert float((rounded - plain).norm() / plain.norm()) < 0.1


def test_a_cache_full_small_or_cleared_changes_no_bit(net: FewShotNetwork) -> None:
    shots = 2
    g = torch.Generator().manual_seed(2)
    _, _, masks = episode(shots, batch=3)
    images = torch.randint(0, 256, (3, shots + 1, 3, SIDE, SIDE), dtype=torch.uint8, generator=g)
    images[1, 0] = images[0, 0]  # two episodes of one query, the second of which is a support of the third
    images[2, 1] = images[0, 0]
    names = [["a", *(f"{k} of a" for k in range(shots))], ["a", "b", "c"], ["d", "a", "e"]]
    batch: Any = SimpleNamespace(
        query_name=[name for name, *_ in names],
        query_image=images[:, 0],
        support_images=images[:, 1:],
        support_masks=masks,
        support_names=[others for _, *others in names],
        class_id=torch.tensor([1, 2, 1]),
    )
    large, small, none = (CachedInference(megabytes) for megabytes in (100, 1, 0))
    found = [inference.segment(net, batch) for inference in (none, large, large, small)]
    large.clear()
    assert not large.cache.used
    for other in (*found[1:], large.segment(net, batch)):
        for one, two in zip(all_tensors(found[0]), all_tensors(other), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_predicts_as_its_own_does(
    exported: Callable[[str], FewShotNetwork], toys: Path, name: str, shots: int
) -> None:
    with torch.no_grad():
        found, own = (net(*episode(shots)) for net in (exported(name), network(name.removeprefix("exported "))))
    assert torch.allclose(found.logits, own.logits, atol=1e-4)
    for kind in ("maps", "score_maps"):
        for key, values in getattr(found, kind).items():
            assert torch.allclose(values, getattr(own, kind)[key], atol=1e-3)
