"""What is done once on each machine, and what each process needs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Command
from fake_data import write_voc

from datamodules import Pascal5iDataModule
from datamodules.files.index import MaskIndex
from qgnet.common.errors import InputError


def test_masks_are_indexed_before_the_processes_set_up(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_voc(tmp_path / "fresh")
    read: list[str] = []
    cached, setup = MaskIndex.cached, Pascal5iDataModule.setup

    def counted(source: object, file: Path, *arguments: object) -> MaskIndex:
        read.append(file.name)
        return cached(source, file, *arguments)  # type: ignore[arg-type]

    def late(self: Pascal5iDataModule, stage: str) -> None:
        assert (root / "mask_index/val.npz").is_file()
        setup(self, stage)

    monkeypatch.setattr(MaskIndex, "cached", counted)
    monkeypatch.setattr(Pascal5iDataModule, "setup", late)
    command("fit", "pascal5i.yaml", f"--data.root={root}", "--run=runs/x")
    assert read == ["train.npz", "val.npz"]
    command("test", "pascal5i.yaml", f"--data.root={root}", "--run=runs/t")
    assert read == ["train.npz", "val.npz", "val.npz"]


@pytest.mark.parametrize(("split", "count"), [("val", "episodes"), ("train", "train_episodes")])
def test_fewer_episodes_than_processes_is_an_error(voc: Path, split: str, count: str) -> None:
    settings = {"image_size": 65, "min_class_area": 50, "episodes": 8, "train_episodes": 8, "batch_size": 1}
    data = Pascal5iDataModule(str(voc), **(settings | {count: 3}))  # type: ignore[arg-type]
    data.setup("fit")
    data.trainer = SimpleNamespace(world_size=4, global_rank=0)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"There are 3 (training|evaluation) samples for 4 processes"):
        data.loader(data.data[split], training=split == "train")
