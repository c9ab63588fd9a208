"""FSS-1000: checked, indexed and counted."""

from pathlib import Path

from datamodules.files.index import INDEX_FOLDER
from datamodules.layouts.fss1000 import SPLITS, class_folders, fss_images, odd_mask, split_classes, split_file
from datamodules.prepare.counts import Count, Indexed, Prepared
from qgnet.common.errors import InputError
from qgnet.common.pool import processes
from qgnet.common.progress import progress

FSS_EXPECTED = {"train": 520, "val": 240, "test": 240}


def prepare_fss1000(root: Path) -> Prepared:
    """Check, index and count FSS-1000; it is handed out by its authors through a file host and cannot be downloaded.

    Raises:
        InputError: if folders or lists are missing; says where to get them.
    """
    if not root.is_dir() or any(not split_file(root, split).is_file() for split in FSS_EXPECTED):
        raise InputError(
            f"{root} is not laid out as FSS-1000. The data cannot be downloaded by a program: get the archive by the "
            "link on https://github.com/HKUSTCV/FSS-1000 and unpack it so that "
            f"{root}/<class>/1.jpg and 1.png exist; then write the names of the classes of each split, one per line, "
            f"to {root}/{SPLITS}/train.txt (520), val.txt (240) and test.txt (240). HSNet's repository has these "
            "lists in data/splits/fss/ (trn.txt, val.txt, tst.txt)."
        )
    number = {name: i for i, name in enumerate(class_folders(root), start=1)}
    counts = [Count("classes", len(number), sum(FSS_EXPECTED.values()))]
    indexes: dict[str, Indexed] = {}
    pairs: list[tuple[Path, ...]] = []
    for split, classes in FSS_EXPECTED.items():
        names = split_classes(root, split, number)
        source = fss_images(root, {number[name]: name for name in names})
        indexes[split] = Indexed.of(source, root / INDEX_FOLDER / f"{split}.npz", split)
        pairs += [(image, *masks.values()) for image, masks in zip(source.images, source.masks, strict=True)]
        counts += [
            Count(f"{split}: classes", len(names), classes),
            Count(f"{split}: images", len(source.names), 10 * classes),
        ]
    with processes() as pool:
        odd = pool.map(odd_mask, *zip(*pairs, strict=True), chunksize=64)
        found = list(progress(odd, "Looking for odd masks", len(pairs), unit="mask", leave=False))
    return Prepared(counts, indexes, [line for line in found if line])
