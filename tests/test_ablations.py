from pathlib import Path

import pytest
import torch
import yaml
from conftest import CONFIGS, Command
from jsonargparse import Namespace

from qgnet.commands import main as qgnet
from qgnet.networks.encoders import Encoder, create_encoder
from qgnet.networks.qgnet import EncodedSupport, PriorBank, QGNet
from qgnet.runs.folders import experiment_folder
from qgnet.tasks.segmentation import FewShotSegmentation
from qgnet.weights.store import save_prior_extractor

ABLATIONS = sorted((CONFIGS / "ablations").glob("*.yaml"))
LAST = "runs/x/checkpoints/last.ckpt"


def write_bank(images: Path, *arguments: str) -> None:
    Path("runs").mkdir()
    save_prior_extractor(Path("runs/prior_extractor.ckpt"), create_encoder("test_resnet", 3))
    prior = "--prior-checkpoint=runs/prior_extractor.ckpt"
    qgnet(["prior-bank", "runs/prior_bank.pt", prior, f"--root={images}", "--image-size=65", *arguments])


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda p: p.stem)
def test_every_ablation_runs_on_top_of_an_experiment(command: Command, images: Path, ablation: Path) -> None:
    base = "demo/pretrain.yaml" if "of stage 1" in ablation.read_text() else "demo/qgnet.yaml"
    on_top = [f"--config=lightning_configs/ablations/{ablation.name}"]
    if ablation.stem == "prior_imagenet":
        on_top.append("--model.prior_weights=random")  # nothing can be downloaded here
    if ablation.stem == "prior_bank":
        write_bank(images)
    command("fit", base, *on_top, "--run=runs/x", "--trainer.limit_val_batches=0")
    config = yaml.safe_load(Path("runs/x/config.yaml").read_text())
    wanted = yaml.safe_load(ablation.read_text())
    for part, settings in wanted.items():
        for key, value in settings["init_args"].items():
            found = config[part]["init_args"][key]
            if isinstance(value, dict):
                found = {inner: found[inner] for inner in value}
            assert found == value or ablation.stem == "prior_imagenet"


def test_a_run_is_named_after_all_its_configurations_but_loggers() -> None:
    names = ("pascal5i", "ablations/without_self", "logging/wandb")
    config = Namespace(config=[f"lightning_configs/{name}.yaml" for name in names])
    assert experiment_folder(config) == Path("runs/pascal5i-without_self")
    assert experiment_folder(Namespace(config=["runs/a/fold0/config.yaml"])) == Path("runs/a")
    assert experiment_folder(Namespace(config=[None])) == Path("runs/unnamed")


def network(priors: Encoder | PriorBank | None, cross: bool = True) -> QGNet:
    torch.manual_seed(0)
    return QGNet(create_encoder("test_resnet", 3), priors, width=8, levels=[1, 0.5], cross_correspondence=cross).eval()


def episode() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    images = torch.randn(2, 2, 3, 65, 65, generator=g)
    return images[:, 0], images[:, 1:], torch.randint(0, 2, (2, 1, 65, 65), generator=g).to(torch.uint8)


def test_without_self_correspondence_there_is_no_prior_map_and_no_weight_of_it() -> None:
    net = network(None)
    assert list(net(*episode()).maps) == ["guided"]
    assert not [key for key in net.state_dict() if "prior" in key or "reduce_self" in key]
    assert net.enrichment.mix[0][0].in_channels == 2 * 8 + 1


def test_without_cross_correspondence_the_head_does_not_see_the_guided_map() -> None:
    net = network(create_encoder("test_resnet", 3), cross=False)
    with torch.no_grad():
        query = net.encode_query(episode()[0])
        category, keys, _ = net.encode_support(episode()[1][:, 0], episode()[2][:, 0])
        one = net.decode(query, net.stack_shots([EncodedSupport(category, keys)]), (65, 65))
        two = net.decode(query, net.stack_shots([EncodedSupport(category, torch.randn_like(keys))]), (65, 65))
    assert not torch.equal(one.maps["guided"], two.maps["guided"])
    assert torch.equal(one.logits, two.logits)


def test_a_bank_of_the_querys_own_features_sees_what_the_query_sees_inside_even_regions() -> None:
    bank = PriorBank(3, 16)
    bank.vectors.copy_(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)))
    net = network(bank)
    priors = net.priors(torch.zeros(2, 3, 65, 65))
    assert priors is not None
    assert priors.shape == (2, 8, 3)
    for k in range(3):  # a large region of prior k, reduced by the same convolution, at its inside
        even = bank.vectors[k][None, :, None, None].expand(1, -1, 5, 5)
        assert torch.allclose(net.reduce_priors(even)[0, :, 2, 2], priors[1, :, k], atol=1e-6)
    assert list(net(*episode()).maps) == ["guided", "prior"]


def test_the_bank_is_built_of_features_and_kept_with_the_checkpoint(command: Command, images: Path) -> None:
    write_bank(images, "--size=5", "--method=sample")
    content = torch.load("runs/prior_bank.pt", weights_only=True)
    assert content["vectors"].shape[0] == 5
    assert content["built"]["method"] == "sample"
    settings = ["--model.bank_size=5", "--model.prior_bank=runs/prior_bank.pt"]
    command("fit", "demo/qgnet.yaml", *settings, "--run=runs/x")
    net = FewShotSegmentation.load_from_checkpoint(LAST).net
    assert net.prior_encoder is None
    assert torch.equal(net.prior_bank.vectors, content["vectors"])
    Path("runs/prior_bank.pt").unlink()
    command("test", "demo/qgnet.yaml", *settings, f"--ckpt_path={LAST}", "--run=runs/t")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--model.bank_size=4"], "`model.prior_bank` is not set"),
        (["--model.bank_size=4", "--model.prior_bank=none.pt"], "none.pt, which does not exist"),
        (["--model.bank_size=4", "--model.prior_bank=runs/prior_bank.pt"], "holds 5 priors of"),
        (["--model.bank_size=5", "--model.prior_bank=runs/prior_extractor.ckpt"], "is no bank of priors"),
        (["--model.bank_size=5", "--model.prior_bank=tensor.pt"], "holds a Tensor; expected a dictionary"),
        (
            ["--model.bank_size=5", "--model.prior_bank=lightning_configs/demo/qgnet.yaml"],
            "cannot be read as a checkpoint",
        ),
    ],
)
def test_a_wrong_bank_is_refused(
    command: Command, images: Path, capsys: pytest.CaptureFixture, settings: list[str], message: str
) -> None:
    write_bank(images, "--size=5")
    torch.save(torch.zeros(5, 16), "tensor.pt")
    with pytest.raises(SystemExit) as stop:
        command("fit", "demo/qgnet.yaml", *settings, "--run=runs/x")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size=100000"], "fewer than the 100000 priors"),
        (["--image-size=64"], "Take 57 or 65"),
        (["--root=nowhere"], "which is not a folder"),
        (["--prior-checkpoint=none.ckpt"], "none.ckpt, which does not exist"),
    ],
)
def test_a_bank_that_cannot_be_built(
    workdir: Path, images: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        write_bank(images, *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
