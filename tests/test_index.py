import os
from pathlib import Path

import numpy as np
import pytest
from fake_data import write_folder, write_fss, write_voc
from PIL import Image

from datamodules import Fss1000, LabelledFolder, Pascal5i, Pascal5iDataModule
from datamodules.files.index import MaskIndex
from datamodules.files.sources import IndexMasks, LabelledImages
from qgnet.common.errors import InputError


@pytest.fixture
def own_voc(tmp_path: Path) -> Path:
    """A VOC folder that a test may spoil."""
    return write_voc(tmp_path / "voc", per_class=2)


def slow_areas(labels: np.ndarray) -> dict[int, int]:
    return {c: int((labels == c).sum()) for c in range(1, 255) if (labels == c).any()}


def test_index_counts_what_a_slow_loop_counts(own_voc: Path) -> None:
    source = Pascal5i(own_voc).images("val")
    index = MaskIndex.build(source)
    for i, facts in enumerate(index.facts):
        labels = source.labels(i)
        assert (facts.height, facts.width) == labels.shape
        assert facts.areas == slow_areas(labels)
    for class_id in range(1, 21):
        expected = [i for i in range(len(source.names)) if (source.labels(i) == class_id).sum() >= 900]
        assert index.images_of(class_id, 900) == expected
    both = sorted({*index.images_of(3, 900), *index.images_of(8, 900)})
    assert index.with_any([3, 8], 900) == both
    assert not index.bad


def test_several_processes_count_what_one_counts(own_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_voc / "SegmentationClassAug/val_003.png").write_bytes(b"no mask")
    source = Pascal5i(own_voc).images("val")
    one = MaskIndex.build(source)
    monkeypatch.setattr("datamodules.files.index.PART", 4)
    assert len(source.names) > 8
    assert MaskIndex.build(source) == one
    assert list(one.bad) == [3]


def test_both_kinds_of_masks_of_one_folder_agree(tmp_path: Path) -> None:
    roots = [write_folder(tmp_path / kind, binary=kind == "binary") for kind in ("index", "binary")]
    one, two = (LabelledFolder(root).images("val") for root in roots)
    assert one.names == two.names
    assert MaskIndex.build(one).facts == MaskIndex.build(two).facts
    for i in range(len(one.names)):
        for class_id in MaskIndex.build(two).facts[i].areas:
            for ignored in ((), (1, 2)):
                assert np.array_equal(one.mask(i, class_id, ignored), two.mask(i, class_id, ignored))


def test_fss_masks_are_the_bright_half(tmp_path: Path) -> None:
    source = Fss1000(write_fss(tmp_path / "fss")).images_of([4])
    assert source.names[:2] == ["class_03/1", "class_03/2"]
    mask = source.mask(1, 4)
    assert mask.dtype == np.uint8
    assert mask[12:40, 12:50].all()
    assert mask.sum() == 28 * 38
    assert source.facts(1).areas == {4: 28 * 38}


class Counting:
    """Counts how often masks are read."""

    def __init__(self, source: IndexMasks) -> None:
        self.source = source
        self.read = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.source, name)

    def facts(self, i: int, whole: bool) -> object:
        self.read += 1
        return self.source.facts(i, whole)


def read_again(root: Path, file: Path, whole: bool = False) -> tuple[int, MaskIndex]:
    source = Counting(Pascal5i(root).images("val"))
    index = MaskIndex.cached(source, file, whole=whole)  # type: ignore[arg-type]
    return source.read, index


def test_index_is_kept_until_a_mask_changes(own_voc: Path) -> None:
    file = own_voc / "mask_index/val.npz"
    count, first = read_again(own_voc, file)
    assert count == 20
    count, second = read_again(own_voc, file)
    assert count == 0
    assert second == first
    changed = own_voc / "SegmentationClassAug/val_003.png"
    labels = np.asarray(Image.open(changed)).copy()
    labels[labels == 4] = 9
    Image.fromarray(labels).save(changed)
    os.utime(changed, ns=(1, 1))
    count, third = read_again(own_voc, file)
    assert count == 20
    assert third.facts[3].areas != first.facts[3].areas
    assert not list((own_voc / "mask_index").glob("*.part"))


def test_a_quick_index_does_not_pass_for_a_whole_check(own_voc: Path) -> None:
    file = own_voc / "mask_index/val.npz"
    assert read_again(own_voc, file)[0] == 20
    assert read_again(own_voc, file, whole=True)[0] == 20
    assert read_again(own_voc, file, whole=True)[0] == 0
    assert read_again(own_voc, file)[0] == 0


def test_a_broken_index_file_is_built_anew(own_voc: Path) -> None:
    file = own_voc / "mask_index/val.npz"
    read_again(own_voc, file)
    file.write_bytes(file.read_bytes()[:200])
    assert read_again(own_voc, file)[0] == 20
    assert read_again(own_voc, file)[0] == 0


def test_read_only_data_are_indexed_in_the_users_cache(
    own_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mkdir = Path.mkdir

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        if own_voc in self.parents:
            raise PermissionError(13, "Permission denied")
        mkdir(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    file = own_voc / "mask_index/val.npz"
    assert read_again(own_voc, file)[0] == 20
    assert not file.exists()
    assert len(list((tmp_path / "cache/qgnet").glob("*-val.npz"))) == 1
    assert read_again(own_voc, file)[0] == 0


def spoil_unknown_value(root: Path) -> None:
    Image.fromarray(np.full((60, 80), 77, np.uint8)).save(root / "SegmentationClassAug/val_000.png")


def spoil_rgb_mask(root: Path) -> None:
    Image.fromarray(np.eye(60, 80, dtype=np.uint8)[..., None] * np.array([0, 128, 0], np.uint8)).save(
        root / "SegmentationClassAug/val_000.png"
    )


def spoil_broken_mask(root: Path) -> None:
    path = root / "SegmentationClassAug/val_000.png"
    path.write_bytes(path.read_bytes()[:60])


def spoil_missing_image(root: Path) -> None:
    (root / "JPEGImages/val_000.jpg").unlink()


def spoil_missing_mask(root: Path) -> None:
    (root / "SegmentationClassAug/val_000.png").unlink()


def spoil_size(root: Path) -> None:
    Image.new("RGB", (50, 60)).save(root / "JPEGImages/val_000.jpg")


def spoil_duplicate(root: Path) -> None:
    path = root / "ImageSets/Segmentation/val.txt"
    path.write_text(path.read_text() + "val_003\n")


def spoil_empty_list(root: Path) -> None:
    (root / "ImageSets/Segmentation/val.txt").write_text("\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_unknown_value, r"val_000.png holds the value 77; expected 0 \(background\), 255"),
        (spoil_rgb_mask, r"val_000.png is in colour \(\(0, 0, 0\) .*\(0, 128, 0\).*expected class numbers"),
        (spoil_broken_mask, r"val_000.png cannot be decoded"),
        (spoil_missing_image, r"val_000.jpg does not exist, though the list names it"),
        (spoil_missing_mask, r"val_000.png does not exist, though the list names it"),
        (spoil_size, r"val_000.jpg is 50x60 px \(as a viewer shows it\) but its mask is 80x60 px"),
        (spoil_duplicate, r"val.txt names val_003 more than once"),
        (spoil_empty_list, r"val.txt is empty"),
    ],
)
def test_bad_data_are_named(own_voc: Path, spoil: object, message: str) -> None:
    spoil(own_voc)  # type: ignore[operator]
    data = Pascal5iDataModule(str(own_voc), min_class_area=50, image_size=65)
    with pytest.raises(InputError, match=message):
        data.setup("test")


def test_several_bad_files_are_counted(own_voc: Path) -> None:
    spoil_rgb_mask(own_voc)
    (own_voc / "JPEGImages/val_005.jpg").unlink()
    data = Pascal5iDataModule(str(own_voc), min_class_area=50, image_size=65)
    with pytest.raises(InputError, match=r"1 more file\(s\) are bad.*--skip-bad"):
        data.setup("test")


def test_a_truncated_photograph_is_found_by_the_whole_check(own_voc: Path) -> None:
    path = own_voc / "JPEGImages/val_004.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    source: LabelledImages = Pascal5i(own_voc).images("val")
    assert not MaskIndex.build(source).bad
    bad = MaskIndex.build(source, whole=True).bad
    assert list(bad) == [4]
    assert "val_004.jpg cannot be decoded" in bad[4]
